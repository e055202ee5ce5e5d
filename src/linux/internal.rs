// SPDX-License-Identifier: GPL-2.0-only

//! The internal filesystem, whose inodes have the address spaces that files are mapped through.
//!
//! It is mounted while the module is loaded. Nothing can be looked up in it.

use crate::bindings;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{error::from_err_ptr, prelude::*, types::Opaque};

/// The mount, or null.
static MOUNT: AtomicPtr<bindings::vfsmount> = AtomicPtr::new(ptr::null_mut());

/// The filesystem type. It is never registered, so nobody else can mount it.
struct Type(Opaque<bindings::file_system_type>);

// SAFETY: The VFS serializes its accesses to the type, and nothing else accesses it.
unsafe impl Sync for Type {}

// It has no owner, because its mount would keep the module from being removed.
#[expect(clippy::disallowed_methods)] // `as_char_ptr` is not const.
static TYPE: Type = Type(Opaque::new(bindings::file_system_type {
    name: c"daxfs-internal".as_ptr().cast(),
    init_fs_context: Some(init_context),
    kill_sb: Some(bindings::kill_anon_super),
    ..pin_init::zeroed()
}));

/// Set up a mount of a filesystem without files.
///
/// # Safety
///
/// `context` must be a valid context of this type.
unsafe extern "C" fn init_context(context: *mut bindings::fs_context) -> kernel::ffi::c_int {
    // The magic number is never shown, because no file of the filesystem can be opened.
    // SAFETY: The caller passes a valid context.
    let made = unsafe { bindings::init_pseudo(context, 0) };
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
pub(crate) struct Internal(());

impl Internal {
    /// Mount it. Call this once.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn mount() -> Result<Self> {
        // SAFETY: The type is static and complete.
        let mount = from_err_ptr(unsafe { bindings::kern_mount(TYPE.0.get()) })?;
        MOUNT.store(mount, Ordering::Release);
        // INVARIANT: The mount was stored above.
        Ok(Internal(()))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        let mount = MOUNT.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the type invariant this owns the mount.
        unsafe { bindings::kern_unmount(mount) };
    }
}

/// Return a reference to a new inode.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn new_inode() -> Result<NonNull<bindings::inode>> {
    let mount = NonNull::new(MOUNT.load(Ordering::Acquire)).ok_or(ENXIO)?;
    // SAFETY: The mount lives until the last region is gone.
    let sb = unsafe { (*mount.as_ptr()).mnt_sb };
    // SAFETY: The mount keeps its superblock.
    let inode = unsafe { bindings::new_inode(sb) };
    NonNull::new(inode).ok_or(ENOMEM)
}
