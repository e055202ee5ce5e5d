// SPDX-License-Identifier: GPL-2.0-only

//! The internal filesystem, whose inodes have the address spaces that files are mapped through.
//!
//! It is mounted while the module is loaded. Nothing can be looked up in it.

use super::global_mutex;
use crate::bindings;
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, prelude::*, sync::Arc, types::Opaque};

global_mutex! {
    // The mount, while the module is loaded.
    static MOUNT: Option<Arc<Mount>> = None;
}

/// The filesystem type. It is never registered, so users cannot mount it.
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
    if unsafe { bindings::init_pseudo(context, 0) }.is_null() {
        return ENOMEM.to_errno();
    }
    0
}

/// A mount of the filesystem.
///
/// # Invariants
///
/// Owns the mount.
struct Mount(NonNull<bindings::vfsmount>);

// SAFETY: A mount may be used and unmounted by any thread.
unsafe impl Send for Mount {}
// SAFETY: The VFS locks what it changes.
unsafe impl Sync for Mount {}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the mount. Each inode has a reference to this.
        unsafe { bindings::kern_unmount(self.0.as_ptr()) };
    }
}

/// Keeps the filesystem mounted.
pub(crate) struct Internal(());

impl Internal {
    /// Mount it.
    pub(crate) fn mount() -> Result<Self> {
        // SAFETY: The type is static and complete.
        let mount = from_err_ptr(unsafe { bindings::kern_mount(TYPE.0.get()) })?;
        // INVARIANT: The mount was made above.
        let mount = Mount(NonNull::new(mount).ok_or(ENOMEM)?);
        *MOUNT.lock() = Some(Arc::new(mount, GFP_KERNEL)?);
        Ok(Internal(()))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        let mount = MOUNT.lock().take();
        drop(mount);
    }
}

/// An inode of the filesystem.
///
/// # Invariants
///
/// Owns a reference to `inode`, which is on the mount.
pub(super) struct InternalInode {
    inode: NonNull<bindings::inode>,
    _mount: Arc<Mount>,
}

impl InternalInode {
    /// Make an inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENXIO` if the filesystem is not mounted.
    pub(super) fn new() -> Result<Self> {
        let mount = MOUNT.lock().clone().ok_or(ENXIO)?;
        // SAFETY: The mount is valid, and keeps its superblock.
        let inode = unsafe { bindings::new_inode((*mount.0.as_ptr()).mnt_sb) };
        // INVARIANT: The inode was made above.
        Ok(InternalInode {
            inode: NonNull::new(inode).ok_or(ENOMEM)?,
            _mount: mount,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.inode.as_ptr()
    }
}

impl Drop for InternalInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::iput(self.inode.as_ptr()) };
    }
}
