// SPDX-License-Identifier: GPL-2.0-only

//! Mounting: the operations of a mount context (`struct fs_context_operations`).

use super::context::{parts, Param, Private, SuperKind};
use super::{keyed, refusal, Operations, SuperBlock, VTable};
use crate::bindings;
use crate::linux::security;
use core::ptr;
use kernel::{
    error::{from_result, to_result},
    prelude::*,
};

impl<T: Operations> VTable<T> {
    const CONTEXT: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `fc` must be a valid context of a filesystem type of `T`.
    pub(super) unsafe extern "C" fn init(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        from_result(|| {
            // The VFS asks for this at mount only. Without it, nothing that a user passes to the
            // context could ever be mounted, but all of it would be parsed, kept and logged.
            if !security::is_admin() {
                return Err(EPERM);
            }
            let private = Private::<T> {
                options: T::Options::default(),
                found: None,
                key: None,
                filled: false,
            };
            let private = KBox::into_raw(KBox::new(private, GFP_KERNEL)?);
            // SAFETY: The caller passes a valid context. Its `fs_private` belongs to `T`.
            unsafe {
                (*fc).fs_private = private.cast();
                (*fc).ops = &Self::CONTEXT;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `fc` must be a valid context of a filesystem type of `T`, which is not used afterwards.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The caller passes a valid context.
        let private = unsafe { (*fc).fs_private }.cast::<Private<T>>();
        if !private.is_null() {
            // SAFETY: A `fs_private` that is not null is the box that `init` made, and the VFS
            // frees a context once.
            drop(unsafe { KBox::from_raw(private) });
        }
    }

    /// # Safety
    ///
    /// As for [`parts`], and `param` must be valid.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> kernel::ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid parameter, and holds the context's mutex.
            let (param, (context, private)) = unsafe { (Param::from_raw(param), parts::<T>(fc)) };
            T::parse_param(&mut private.options, &param, context)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }

    /// # Safety
    ///
    /// As for [`parts`].
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex. The borrow ends before `fill` is called.
            let (context, private) = unsafe { parts::<T>(fc) };
            let known = T::super_kind(&private.options, context);
            let (kind, found) = known.map_err(|refusal| context.refuse(refusal))?;
            private.found = Some(found);
            private.key = match kind {
                SuperKind::Keyed(key) => Some(key),
                _ => None,
            };
            // A write-protected device is opened read-only because of this flag.
            // SAFETY: The VFS passes a valid context and holds its mutex.
            unsafe { (*fc).sb_flags |= bindings::SB_RDONLY as u32 };
            let fill = Some(Self::fill as unsafe extern "C" fn(_, _) -> _);
            // SAFETY: `fc` is valid, its mutex is held, and `fill` fills superblocks of its type. A
            // keyed one was given its key above.
            unsafe {
                match kind {
                    SuperKind::BlockDevice => to_result(bindings::get_tree_bdev(fc, fill)),
                    SuperKind::NoDevice => to_result(bindings::get_tree_nodev(fc, fill)),
                    SuperKind::Keyed(_) => keyed::get_tree::<T>(fc),
                }
            }?;
            // SAFETY: The VFS holds the context's mutex, and `fill` has returned.
            let (_, private) = unsafe { parts::<T>(fc) };
            if private.filled {
                return Ok(0);
            }
            // SAFETY: Whatever finds the superblock sets `root` to a dentry with a reference, which
            // keeps it. `fill` succeeded on it when it was mounted first.
            let (root, sb) = unsafe { ((*fc).root, SuperBlock::<T>::of((*fc).root)) };
            if let Err(refusal) = T::reuse(sb, &private.options, context) {
                let raw = sb.as_raw();
                // SAFETY: The VFS does not use a root that is null, which held this reference. The
                // superblock was found with a reference, and its lock.
                unsafe {
                    (*fc).root = ptr::null_mut();
                    bindings::dput(root);
                    bindings::deactivate_locked_super(raw);
                }
                return Err(context.refuse(refusal));
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`parts`], for a context with the root of a superblock of type `T`.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex, and sets the root of the superblock, which
            // the context keeps.
            let ((context, private), sb) =
                unsafe { (parts::<T>(fc), SuperBlock::<T>::of((*fc).root)) };
            if context.clears(bindings::SB_RDONLY) {
                let reason = "cannot remount read-write: the filesystem is read-only";
                return Err(context.refuse(refusal!(EROFS, "{reason}")));
            }
            T::reconfigure(sb, &private.options, context)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }
}
