// SPDX-License-Identifier: GPL-2.0

//! The filesystem type.

use super::inode::Cache;
use super::FileSystem;
use crate::bindings;
use core::marker::PhantomPinned;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// A registered filesystem type; dropping it unregisters.
///
/// # Invariants
///
/// `fs_type` is registered, and the inode cache of `T` exists.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: FileSystem> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    shared: T::Shared,
    cache: Cache<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: All that is reachable from a shared reference is nothing.
unsafe impl<T: FileSystem> Sync for Registration<T> {}
// SAFETY: Registration and its undoing are bound to no thread.
unsafe impl<T: FileSystem> Send for Registration<T> {}

impl<T: FileSystem> Registration<T> {
    /// Registers `T` for `module`; all that are mounted use `shared`.
    ///
    /// # Errors
    ///
    /// `EBUSY` when a filesystem of that name exists, `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule, shared: T::Shared) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cache: Cache::new()?,
            shared,
            fs_type <- Opaque::try_ffi_init(|place: *mut bindings::file_system_type| {
                // SAFETY: `place` is valid for writing; zero is a valid value of every member.
                unsafe {
                    place.write(core::mem::zeroed());
                    (*place).name = T::NAME.as_char_ptr();
                    (*place).fs_flags = bindings::DAXFS_FS_ALLOW_IDMAP;
                    (*place).owner = module.as_ptr().cast();
                    (*place).init_fs_context = Some(super::context::Operations::<T>::init);
                    (*place).kill_sb = Some(super::super_block::Operations::<T>::kill);
                }
                // SAFETY: `place` is pinned and initialised, and is unregistered before it goes away.
                to_result(unsafe { bindings::register_filesystem(place) })
            }),
            _pin: PhantomPinned,
        })
    }

    /// What all mounted filesystems of the type share.
    ///
    /// # Safety
    ///
    /// `fs_type` must be the one that a `Registration<T>` registered, and stay registered for `'a`.
    pub(super) unsafe fn shared<'a>(fs_type: *mut bindings::file_system_type) -> &'a T::Shared {
        let fs_type = fs_type.cast::<Opaque<bindings::file_system_type>>();
        // SAFETY: By the contract it is the field of a registration, which lives as long.
        unsafe { &(*kernel::container_of!(fs_type, Self, fs_type)).shared }
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is registered. The module's reference count keeps this from
        // running while anything is mounted. It can fail only for a type that is not registered.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
    }
}
