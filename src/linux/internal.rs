// SPDX-License-Identifier: GPL-2.0-only

//! The internal filesystem: its inodes have the address spaces that files are mapped through.
//!
//! It is mounted while memory is in use. Nothing can be looked up in it.

use crate::linux::prelude::*;
use core::ptr::null_mut;

/// The filesystem type. It is never registered, so users cannot mount it.
struct Type(Opaque<bindings::file_system_type>);

// SAFETY: Only the VFS accesses the type, and serializes its accesses.
unsafe impl Sync for Type {}

#[expect(clippy::disallowed_methods)] // `as_char_ptr` is not const.
static TYPE: Type = Type(Opaque::new(bindings::file_system_type {
    name: c"daxfs-internal".as_ptr().cast(),
    // Superblocks keep the module loaded. The VFS uses the type after the last unmount, until a
    // sync(2) that has found the superblock is done with it.
    owner: super::this_module(),
    init_fs_context: Some(init_context),
    kill_sb: Some(bindings::kill_anon_super),
    ..pin_init::zeroed()
}));

/// The mount, and the number of its pins.
struct Mount {
    mount: Opaque<*mut bindings::vfsmount>,
    pins: Opaque<ffi::c_int>,
}

// SAFETY: The VFS changes both under a lock of its own. The mount does not change while there is a
// pin, and is read by owners of one only.
unsafe impl Sync for Mount {}

static MOUNT: Mount = Mount {
    mount: Opaque::new(null_mut()),
    pins: Opaque::new(0),
};

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
        let (mount, pins) = (MOUNT.mount.get(), MOUNT.pins.get());
        // SAFETY: The type is complete, and its superblocks keep the module that it is part of.
        to_result(unsafe { bindings::simple_pin_fs(TYPE.0.get(), mount, pins) })?;
        // INVARIANT: The pin was made above.
        Ok(Internal(()))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns a pin.
        unsafe { bindings::simple_release_fs(MOUNT.mount.get(), MOUNT.pins.get()) };
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
    /// Makes an inode.
    pub(super) fn new() -> Result<Self> {
        let internal = Internal::mount()?;
        // SAFETY: The mount is pinned, and keeps its superblock.
        let inode = unsafe { bindings::new_inode((**MOUNT.mount.get()).mnt_sb) };
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
