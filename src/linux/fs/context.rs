// SPDX-License-Identifier: GPL-2.0-only

//! Mount contexts, mount options, and mounting (`struct fs_context`).
//!
//! sync(2) and others wait for each superblock from the moment it is in the VFS's list until it is
//! born, and for its `s_umount` later. So a mount reserves the key, opens the source, and only then
//! makes the superblock. get_tree_bdev() and get_tree_keyed() fill an existing one.

use super::*;

/// A mount that is being set up.
///
/// # Invariants
///
/// The `struct fs_context` is valid while this is borrowed, and `source` does not change.
#[repr(transparent)]
pub(crate) struct Context(Opaque<bindings::fs_context>);

impl Context {
    fn get(&self) -> &bindings::fs_context {
        // SAFETY: By the type invariant the context is valid. The borrower holds its mutex.
        unsafe { &*self.0.get() }
    }

    /// Logs a refusal: to the log of the context, which mount(8) prints. Without one, as for
    /// mount(2), log it to the kernel's log, unless many messages were logged just before. Returns
    /// the error code.
    pub(super) fn refuse(&self, refusal: Refusal) -> Error {
        if refusal.subject.is_some() || refusal.reason.is_some() {
            self.log(b'e', fmt!("{refusal}"));
        }
        refusal.errno
    }

    /// Logs a warning where [`Self::refuse`] logs errors.
    pub(crate) fn warn(&self, message: fmt::Arguments<'_>) {
        self.log(b'w', message);
    }

    fn log(&self, level: u8, message: fmt::Arguments<'_>) {
        let log = self.get().log.log;
        if log.is_null() {
            if self.user().is_none() && crate::linux::ratelimit() {
                pr_err!("{}\n", message);
            }
            return;
        }
        // SAFETY: The type of a context is registered while the context exists.
        let name = unsafe { (*self.get().fs_type).name };
        let format = c"%pA".as_char_ptr();
        let message = ptr::from_ref(&message).cast::<ffi::c_void>();
        // SAFETY: `%pA` takes a pointer to `fmt::Arguments`, which logfc() formats before it
        // returns. The log lives as long as the context.
        unsafe { bindings::logfc(log, name, level as ffi::c_char, format, message) };
    }

    /// Returns the ordinary user who mounts, or `None` for root.
    pub(crate) fn user(&self) -> Option<User> {
        // SAFETY: A context keeps its user namespace.
        unsafe { User::of(self.get().user_ns) }
    }

    /// Returns true if this remount clears the `flag` of the superblock.
    pub(super) fn clears(&self, flag: usize) -> bool {
        self.get().sb_flags_mask & !self.get().sb_flags & flag as u32 != 0
    }

    /// Returns the source of the mount, as user space gave it; for a remount, which has none, the
    /// name of the superblock's device.
    pub(crate) fn source(&self) -> &CStr {
        match self.source_path() {
            Some(path) => path,
            // SAFETY: The context of a remount keeps the root of a mounted superblock.
            None if !self.get().root.is_null() => unsafe { device_name((*self.get().root).d_sb) },
            None => c"none",
        }
    }

    fn source_path(&self) -> Option<&CStr> {
        let source = self.get().source;
        // SAFETY: A source is a NUL-terminated string. By the type invariant it does not change.
        (!source.is_null()).then(|| unsafe { CStr::from_char_ptr(source) })
    }

    /// Looks up the source of the mount.
    ///
    /// Errors: The errors of stat(2); `EACCES` for a device on a filesystem mounted with `nodev`;
    /// `EINVAL` without a source.
    pub(crate) fn source_kind(&self) -> Result<SourceKind> {
        let path = self.source_path().ok_or(EINVAL)?.as_char_ptr();
        let (mut mode, mut device) = (0, 0);
        // SAFETY: The path is a NUL-terminated string.
        to_result(unsafe { bindings::look_up(path, &mut mode, &mut device) })?;
        Ok(match mode & bindings::S_IFMT {
            bindings::S_IFBLK => SourceKind::BlockDevice(device),
            bindings::S_IFCHR => SourceKind::CharDevice(device),
            _ => SourceKind::Other,
        })
    }

    /// Opens the source of the mount for reading.
    ///
    /// Errors: The errors of open(2); `ENXIO` for a device node without a device.
    pub(crate) fn open_source(&self) -> Result<ARef<File>> {
        let name = self.source().as_char_ptr();
        // If a FIFO has replaced the device, don't wait for its writer.
        let flags = bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NONBLOCK;
        // SAFETY: The name is a NUL-terminated string.
        let file = from_err_ptr(unsafe { bindings::filp_open(name, flags, 0) })?;
        let file = NonNull::new(file).ok_or(ENXIO)?;
        // SAFETY: `File` is transparent over the C struct. filp_open() returned a reference, and
        // the file has no descriptor, so fdget_pos() cannot reach it.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }
}

/// Returns the name of the device of a superblock.
///
/// # Safety
///
/// `sb` must be valid for `'a`, and its device set.
pub(super) unsafe fn device_name<'a>(sb: *const bindings::super_block) -> &'a CStr {
    // SAFETY: `s_id` is a NUL-terminated string, which does not change once the device is set.
    unsafe { CStr::from_char_ptr((*sb).s_id.as_ptr()) }
}

/// Key of a superblock, unique in its filesystem type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) [u64; 3]);

/// The kind of superblock that a mount needs.
pub(crate) enum SuperKind {
    /// The superblock of the block device with this number, which is the mount's source.
    BlockDevice(bindings::dev_t),
    /// A new superblock.
    New,
    /// The superblock with this key.
    Keyed(Key),
}

/// The kind of file that is a mount's source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A block device, with its number.
    BlockDevice(bindings::dev_t),
    /// A character device, with its number.
    CharDevice(bindings::dev_t),
    Other,
}

/// The value of a mount option.
pub(crate) enum Value<'a> {
    /// No value, or an empty one.
    Flag,
    /// `option=text`.
    Text(&'a CStr),
    /// A file descriptor (`FSCONFIG_SET_FD`): its number in the calling process, and its file.
    Descriptor(i32, &'a File),
    /// A value of another type.
    Other,
}

/// An option of a mount.
pub(crate) struct Param<'a> {
    pub(crate) key: &'a CStr,
    pub(crate) value: Value<'a>,
}

impl<'a> Param<'a> {
    /// # Safety
    ///
    /// `param` must be valid for `'a`.
    pub(super) unsafe fn from_raw(param: *const bindings::fs_parameter) -> Self {
        // SAFETY: The caller guarantees that `param` is valid for `'a`. Every parameter has a name,
        // a NUL-terminated string that lives as long.
        let (raw, key) = unsafe { (&*param, CStr::from_char_ptr((*param).key)) };
        let value = match raw.type_() {
            bindings::fs_value_is_flag => Value::Flag,
            bindings::fs_value_is_string => {
                // SAFETY: The type says that `string` is the union's live member. It is null, or
                // NUL-terminated and lives as long as the parameter.
                let text = unsafe {
                    let string = raw.__bindgen_anon_1.string;
                    (!string.is_null()).then(|| CStr::from_char_ptr(string))
                };
                text.map_or(Value::Flag, Value::Text)
            }
            bindings::fs_value_is_file => {
                // SAFETY: The type says that `file` is the union's live member. The parameter holds
                // a reference to it. The calling thread is in fsconfig(2), which does not use
                // fdget_pos() on the file.
                let file = unsafe { File::from_raw_file(raw.__bindgen_anon_1.file.cast()) };
                Value::Descriptor(raw.dirfd, file)
            }
            _ => Value::Other,
        };
        Param { key, value }
    }
}

/// Returns a context and its options, the target of `fs_private`.
///
/// # Safety
///
/// `fc` must be a context of a filesystem type of `T`. For `'a`, its source must not change, and
/// nothing else may use its `fs_private`: the caller holds its mutex.
pub(super) unsafe fn parts<'a, T: FileSystem>(
    fc: *mut bindings::fs_context,
) -> (&'a Context, &'a mut T::Options) {
    // SAFETY: The type is transparent over the C struct. A context of such a type has this box, and
    // the caller guarantees exclusive access.
    unsafe { (&*fc.cast(), &mut *(*fc).fs_private.cast()) }
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    const CONTEXT: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    pub(super) unsafe extern "C" fn init(fc: *mut bindings::fs_context) -> ffi::c_int {
        from_result(|| {
            // The VFS checks this only at mount. Without this check, options of a user who can
            // never mount would still be parsed, stored and logged.
            // SAFETY: The caller passes a valid context, whose user namespace it keeps.
            let user = unsafe {
                if !bindings::may_mount(fc) {
                    return Err(EPERM);
                }
                User::of((*fc).user_ns)
            };
            let options = KBox::new(T::new_options(user), GFP_KERNEL_ACCOUNT)?;
            let options = KBox::into_raw(options);
            // SAFETY: The caller passes a valid context. Its `fs_private` belongs to `T`.
            unsafe {
                (*fc).fs_private = options.cast();
                (*fc).ops = &Self::CONTEXT;
            }
            Ok(0)
        })
    }

    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The caller passes a valid context.
        let options = unsafe { (*fc).fs_private }.cast::<T::Options>();
        if !options.is_null() {
            // SAFETY: A `fs_private` that is not null is the box that `init` made, and the VFS
            // frees a context once.
            drop(unsafe { KBox::from_raw(options) });
        }
    }

    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid parameter, and holds the context's mutex. The context
            // is one of a filesystem type of `T`. That of a remount keeps the root of a superblock.
            let (param, (context, options), sb) = unsafe {
                let root = (*fc).root;
                let sb = (!root.is_null()).then(|| SuperBlock::<T>::of(root));
                (Param::from_raw(param), parts::<T>(fc), sb)
            };
            T::parse_param(options, &param, sb)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }

    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex.
            let (result, context) = unsafe { (get_tree::<T>(fc), parts::<T>(fc).0) };
            result
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }

    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex, and sets the root of the superblock, which
            // the context keeps.
            let ((context, options), sb) =
                unsafe { (parts::<T>(fc), SuperBlock::<T>::of((*fc).root)) };
            if context.clears(bindings::SB_RDONLY) {
                let reason = "cannot remount read-write: the filesystem is read-only";
                return Err(context.refuse(refusal!(EROFS => "{reason}")));
            }
            T::reconfigure(sb, options, context)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }
}

/// Finds or makes the superblock for the context `fc`, and sets the context's root.
///
/// Errors: `EINTR` if a signal kills the process first, the errors of `T` and of sget_fc().
///
/// # Safety
///
/// As for [`parts`], for a context without a root.
unsafe fn get_tree<T: Operations>(fc: *mut bindings::fs_context) -> Result<(), Refusal> {
    // SAFETY: The context keeps its type registered. The caller guarantees the rest.
    let (registration, (context, options)) =
        unsafe { (Registration::<T>::from_raw((*fc).fs_type), parts::<T>(fc)) };
    loop {
        let (kind, found) = T::super_kind(options, context)?;
        let key = match kind {
            // No valid part has this length.
            SuperKind::BlockDevice(number) => Some(Key([u64::from(number) << 1, 0, 0])),
            SuperKind::Keyed(key) => Some(key),
            SuperKind::New => None,
        };
        // After a failure, the key is dropped after the data.
        let (known, reserved) = registration.find_or_reserve(key)?;
        let data = match known {
            0 => {
                let data = T::open(&registration.shared, options, found, context)?;
                Some(KBox::new(data, GFP_KERNEL_ACCOUNT)?)
            }
            _ => None,
        };
        // SAFETY: The caller passes a valid context. The functions look up the number or the
        // address, and return a superblock with a reference and its lock.
        let sb = from_err_ptr(unsafe {
            match kind {
                SuperKind::BlockDevice(number) => bindings::sget_dev(fc, number),
                _ => {
                    (*fc).sget_key = known as *mut _;
                    // Other mounts wait while sget_fc() searches all superblocks of the type.
                    let test: unsafe extern "C" fn(_, _) -> _ = is_wanted;
                    let test = (known != 0).then_some(test);
                    bindings::sget_fc(fc, test, Some(bindings::set_anon_super_fc))
                }
            }
        })?;
        // SAFETY: As above.
        let is_new = unsafe { (*sb).s_root.is_null() };
        let done = match data {
            Some(data) if is_new => {
                // SAFETY: The superblock is new and has a number.
                let filled = unsafe { VTable::<T>::fill(sb, data) };
                Some(filled.map_err(Into::into))
            }
            // SAFETY: A superblock that has a root was filled, and it has a reference.
            None if !is_new && registration.has_key(sb as usize, key) => unsafe {
                reuse::<T>(sb, options, context)
            },
            // The known superblock is gone, and another superblock has its address or number.
            _ => None,
        };
        if let Some(Ok(())) = done {
            // SAFETY: The superblock has a root, and a reference.
            unsafe { (*fc).root = bindings::dget((*sb).s_root) };
            if let Some(key) = reserved {
                key.give_to(sb as usize);
            }
            return Ok(());
        }
        // SAFETY: The reference and the lock are those that were returned above.
        unsafe { bindings::deactivate_locked_super(sb) };
        if let Some(result) = done {
            return result;
        }
    }
}

/// Checks that `sb` may be mounted once more. Returns `None` if its memory is gone.
///
/// # Safety
///
/// `sb` must be a filled superblock of type `T`, with a reference, and its `s_umount` locked.
unsafe fn reuse<T: Operations>(
    sb: *mut bindings::super_block,
    options: &T::Options,
    context: &Context,
) -> Option<Result<(), Refusal>> {
    // SAFETY: The caller passes such a superblock and keeps its type.
    let (this, registration) = unsafe {
        let registration = Registration::<T>::from_raw((*sb).s_type);
        (SuperBlock::<T>::from_raw(sb), registration)
    };
    if T::is_gone(this) {
        // The memory may be back. Mounts of the old memory keep their superblock, which new mounts
        // cannot find.
        // SAFETY: The lock of the superblock is held.
        unsafe { (*sb).s_iflags |= bindings::SB_I_RETIRED };
        drop(registration.take_key(sb as usize));
        T::retire(this);
        return None;
    }
    // SAFETY: The lock is held.
    unsafe { bindings::up_write(&raw mut (*sb).s_umount) };
    let result = T::reuse(this, options, context);
    // SAFETY: The reference keeps the superblock. No lock is held.
    unsafe { bindings::down_write(&raw mut (*sb).s_umount) };
    // The memory may have gone away during the checks.
    (!T::is_gone(this)).then_some(result)
}

/// Returns 1 if `sb` is the superblock that the context requests.
///
/// # Safety
///
/// The context must be valid.
unsafe extern "C" fn is_wanted(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> ffi::c_int {
    // SAFETY: The caller passes a valid context.
    let wanted = unsafe { (*fc).sget_key };
    ptr::eq(sb.cast(), wanted).into()
}
