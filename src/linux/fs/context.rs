// SPDX-License-Identifier: GPL-2.0-only

//! Mount contexts and mount options (`struct fs_context`).

use super::{
    FileSystem,
    Refusal, //
};
use crate::bindings;
use crate::linux::security::User;
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    fmt,
    fs::File,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

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
            self.error(fmt!("{}", refusal));
        }
        refusal.errno
    }

    fn error(&self, message: fmt::Arguments<'_>) {
        self.log(b'e', message);
    }

    /// Logs a warning to where [`Self::refuse`] logs errors.
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
        let message = ptr::from_ref(&message).cast::<kernel::ffi::c_void>();
        // SAFETY: `%pA` takes a pointer to `fmt::Arguments`, which logfc() formats before it
        // returns. The log lives as long as the context.
        unsafe { bindings::logfc(log, name, level as kernel::ffi::c_char, format, message) };
    }

    /// Returns the ordinary user who mounts, or `None` for root.
    pub(crate) fn user(&self) -> Option<User> {
        // SAFETY: A context keeps its user namespace.
        unsafe { User::of(self.get().user_ns) }
    }

    /// Returns true if this is a remount.
    pub(crate) fn is_remount(&self) -> bool {
        self.get().purpose() == bindings::FS_CONTEXT_FOR_RECONFIGURE
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
            None if self.is_remount() => unsafe { device_name((*self.get().root).d_sb) },
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
    /// # Errors
    ///
    /// The errors of stat(2); `EACCES` for a device on a filesystem mounted with `nodev`; `EINVAL`
    /// without a source.
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
    /// # Errors
    ///
    /// The errors of open(2); `ENXIO` for a device node without a device.
    pub(crate) fn open_source(&self) -> Result<ARef<File>> {
        let name = self.source().as_char_ptr();
        // Do not wait for the writer of a FIFO that has taken the device's place.
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
    /// Another file.
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
    /// Name.
    pub(crate) key: &'a CStr,
    /// Value.
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
