// SPDX-License-Identifier: GPL-2.0-only

//! The internal filesystem. We map files through the address spaces of its inodes.
//!
//! It is mounted while we use memory. Nobody can look anything up in it.

use crate::linux::prelude::*;
use core::ptr::null_mut;

/// The filesystem type. It is never registered, so users cannot mount it. Only the VFS accesses it.
#[expect(clippy::disallowed_methods)] // `as_char_ptr` is not const.
static mut TYPE: bindings::file_system_type = bindings::file_system_type {
    name: c"daxfs-internal".as_ptr().cast(),
    // Superblocks keep the module loaded. After the last unmount, the VFS still uses the type until
    // any sync(2) that has found the superblock is done.
    owner: super::this_module(),
    init_fs_context: Some(init_context),
    kill_sb: Some(bindings::kill_anon_super),
    ..pin_init::zeroed()
};

/// The mount, and the number of its pins, which the VFS changes under a lock of its own. The mount
/// does not change while there is a pin, and only owners of one read it.
static mut MOUNT: *mut bindings::vfsmount = null_mut();
static mut PINS: ffi::c_int = 0;

/// Sets up a mount of a filesystem without files.
///
/// # Safety
///
/// `context` must be a valid context of this type.
unsafe extern "C" fn init_context(context: *mut bindings::fs_context) -> ffi::c_int {
    // The magic number is never shown, because no file of the filesystem can be opened.
    // SAFETY: The caller passes a valid context.
    if unsafe { bindings::init_pseudo(context, 0) }.is_null() {
        return ENOMEM.to_errno();
    }
    0
}

/// Keeps the filesystem mounted. Do not drop the last one in memory reclaim.
///
/// # Invariants
///
/// Owns a pin of [`MOUNT`].
pub(crate) struct Internal(());

impl Internal {
    /// Mounts it, if it is not mounted.
    pub(crate) fn mount() -> Result<Self> {
        let (fs_type, mount, pins) = (&raw mut TYPE, &raw mut MOUNT, &raw mut PINS);
        // SAFETY: The type is complete, and its superblocks keep the module that it is part of.
        to_result(unsafe { bindings::simple_pin_fs(fs_type, mount, pins) })?;
        // INVARIANT: The pin was made above.
        Ok(Internal(()))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns a pin.
        unsafe { bindings::simple_release_fs(&raw mut MOUNT, &raw mut PINS) };
    }
}

/// An inode of the filesystem.
///
/// # Invariants
///
/// Owns a reference to `inode`, which is on the mount that is pinned.
pub(super) struct InternalInode {
    inode: NonNull<bindings::inode>,
    _internal: Internal,
}

impl InternalInode {
    /// Creates an inode.
    pub(super) fn new() -> Result<Self> {
        let internal = Internal::mount()?;
        // SAFETY: The mount is pinned, and keeps its superblock.
        let inode = unsafe { bindings::new_inode((*MOUNT).mnt_sb) };
        // INVARIANT: The inode was made above.
        Ok(InternalInode {
            inode: NonNull::new(inode).ok_or(ENOMEM)?,
            _internal: internal,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.inode.as_ptr()
    }

    /// Keeps the inode, and the filesystem mounted, for good.
    pub(super) fn leak(&self) {
        // SAFETY: By the type invariant the inode has a reference.
        unsafe { bindings::ihold(self.inode.as_ptr()) };
        core::mem::forget(Internal::mount());
    }
}

impl Drop for InternalInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::iput(self.inode.as_ptr()) };
    }
}
