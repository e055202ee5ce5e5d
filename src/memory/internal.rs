// SPDX-License-Identifier: GPL-2.0

//! The internal filesystem whose inodes have the address spaces of mapped extents.
//!
//! It is mounted as long as the module is loaded, and nobody can look up anything in it.

use crate::bindings;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{error::from_err_ptr, prelude::*, types::Opaque};

/// The mount, while there is one.
static MOUNT: AtomicPtr<bindings::vfsmount> = AtomicPtr::new(ptr::null_mut());

/// The filesystem type. It is never registered, so nobody else can mount it.
struct Type(Opaque<bindings::file_system_type>);

// SAFETY: The kernel serialises its uses of the type, and nothing else looks at it.
unsafe impl Sync for Type {}

// It has no owner: its mount would keep the module from being removed.
#[expect(clippy::disallowed_methods)] // `as_char_ptr` is not const.
static TYPE: Type = Type(Opaque::new(bindings::file_system_type {
    name: c"daxfs-internal".as_ptr().cast(),
    init_fs_context: Some(init_context),
    kill_sb: Some(bindings::kill_anon_super),
    ..pin_init::zeroed()
}));

/// Set up the mount of a filesystem without files.
///
/// # Safety
///
/// As for `init_fs_context` of `struct file_system_type`.
unsafe extern "C" fn init_context(context: *mut bindings::fs_context) -> kernel::ffi::c_int {
    let magic = crate::image::layout::STATFS_MAGIC as usize;
    // SAFETY: By the contract the context is valid.
    let made = unsafe { bindings::init_pseudo(context, magic) };
    if made.is_null() {
        ENOMEM.to_errno()
    } else {
        0
    }
}

/// The mounted internal filesystem. Dropping it unmounts.
///
/// # Invariants
///
/// Owns the mount in [`MOUNT`].
pub(super) struct Internal(());

impl Internal {
    /// Mount it. There may be one at a time.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn mount() -> Result<Self> {
        // SAFETY: The type is static and complete.
        let mount = from_err_ptr(unsafe { bindings::kern_mount(TYPE.0.get()) })?;
        MOUNT.store(mount, Ordering::Release);
        // INVARIANT: Stored just now.
        Ok(Internal(()))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        let mount = MOUNT.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the invariant the mount is ours.
        unsafe { bindings::kern_unmount(mount) };
    }
}

/// Return a new inode, with one reference, that no name leads to.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn new_inode() -> Result<NonNull<bindings::inode>> {
    let mount = NonNull::new(MOUNT.load(Ordering::Acquire)).ok_or(ENXIO)?;
    // SAFETY: A mount that was stored stays until the module, and so every region, is gone.
    let inode = unsafe { bindings::new_inode((*mount.as_ptr()).mnt_sb) };
    NonNull::new(inode).ok_or(ENOMEM)
}
