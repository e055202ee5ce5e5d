// SPDX-License-Identifier: GPL-2.0-only

//! Mounting: the operations of a mount context (`struct fs_context_operations`).
//!
//! sync(2) and others wait for each superblock from the moment it is in the VFS's list until it is
//! born, and for its `s_umount` later. So a mount reserves the key, opens the source, and only then
//! makes the superblock. get_tree_bdev() and get_tree_keyed() fill one that exists already.

use super::*;

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
            // The VFS asks for this at mount only. Without it, nothing that a user passes to the
            // context could ever be mounted, but all of it would be parsed, kept and logged.
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
            let (param, (context, options), registration, sb) = unsafe {
                let root = (*fc).root;
                (
                    Param::from_raw(param),
                    parts::<T>(fc),
                    Registration::<T>::from_raw((*fc).fs_type),
                    (!root.is_null()).then(|| SuperBlock::<T>::of(root)),
                )
            };
            T::parse_param(registration, options, &param, sb)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }

    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex.
            let (context, options) = unsafe { parts::<T>(fc) };
            // SAFETY: As above.
            unsafe { get_tree::<T>(fc, options, context) }
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
/// `fc` must be the `context`, of a filesystem type of `T`, with its mutex held and without a root.
unsafe fn get_tree<T: Operations>(
    fc: *mut bindings::fs_context,
    options: &T::Options,
    context: &Context,
) -> Result<(), Refusal> {
    // SAFETY: The context keeps its type registered.
    let registration = unsafe { Registration::<T>::from_raw((*fc).fs_type) };
    loop {
        let (kind, found) = T::super_kind(options, context)?;
        let key = match kind {
            // No part has this length.
            SuperKind::BlockDevice(number) => Some(Key([u64::from(number) << 1, 0, 0])),
            SuperKind::Keyed(key) => Some(key),
            SuperKind::New => None,
        };
        // After a failure the key is dropped after the data.
        let (known, reserved) = registration.find_or_reserve(key)?;
        let data = match known {
            0 => {
                let data = T::open(registration, options, found, context)?;
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
                    bindings::sget_fc(fc, Some(is_wanted), Some(bindings::set_anon_super_fc))
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
            // The superblock that was known is gone, and another one has its address or number.
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
        // It may be there again. The mounts of the old memory keep their superblock, which new
        // mounts do not find.
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
    // The memory may have gone during the checks.
    (!T::is_gone(this)).then_some(result)
}

/// Returns 1 if `sb` is the superblock that the context asks for.
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
