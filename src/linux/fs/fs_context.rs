// SPDX-License-Identifier: GPL-2.0-only

//! Mounting: the operations of a mount context (`struct fs_context_operations`).

use super::context::{
    parts,
    Param, //
};
use super::{
    keyed,
    refusal,
    Operations,
    Registration,
    SuperBlock,
    VTable, //
};
use crate::bindings;
use crate::linux::security;
use kernel::{
    error::from_result,
    prelude::*, //
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
            let options = KBox::into_raw(KBox::new(T::Options::default(), GFP_KERNEL)?);
            // SAFETY: The caller passes a valid context. Its `fs_private` belongs to `T`.
            unsafe {
                (*fc).fs_private = options.cast();
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
        let options = unsafe { (*fc).fs_private }.cast::<T::Options>();
        if !options.is_null() {
            // SAFETY: A `fs_private` that is not null is the box that `init` made, and the VFS
            // frees a context once.
            drop(unsafe { KBox::from_raw(options) });
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

    /// # Safety
    ///
    /// As for [`parts`].
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex.
            let (context, options) = unsafe { parts::<T>(fc) };
            // SAFETY: As above.
            unsafe { keyed::get_tree::<T>(fc, options, context) }
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }

    /// # Safety
    ///
    /// As for [`parts`], for a context with the root of a superblock of type `T`.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS holds the context's mutex, and sets the root of the superblock, which
            // the context keeps.
            let ((context, options), sb) =
                unsafe { (parts::<T>(fc), SuperBlock::<T>::of((*fc).root)) };
            if context.clears(bindings::SB_RDONLY) {
                let reason = "cannot remount read-write: the filesystem is read-only";
                return Err(context.refuse(refusal!(EROFS, "{reason}")));
            }
            T::reconfigure(sb, options, context)
                .map(|()| 0)
                .map_err(|refusal| context.refuse(refusal))
        })
    }
}
