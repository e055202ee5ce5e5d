// SPDX-License-Identifier: GPL-2.0-only

//! The internal filesystem, whose inodes have the address spaces that files are mapped through.
//!
//! It is mounted while there is a [`Pin`]. Nothing can be looked up in it.

use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{error::to_result, ffi::c_int, prelude::*, types::Opaque};

/// The filesystem type, its mount, and the number of pins. The type is never registered, so users
/// cannot mount it.
struct Internal {
    fs_type: Opaque<bindings::file_system_type>,
    mount: Opaque<*mut bindings::vfsmount>,
    pins: Opaque<c_int>,
}

// SAFETY: The VFS locks what it changes. The mount does not change while there is a pin.
unsafe impl Sync for Internal {}

#[expect(clippy::disallowed_methods)] // `as_char_ptr` is not const.
static INTERNAL: Internal = Internal {
    // It has no owner, because its mount would keep the module from being removed.
    fs_type: Opaque::new(bindings::file_system_type {
        name: c"daxfs-internal".as_ptr().cast(),
        init_fs_context: Some(init_context),
        kill_sb: Some(bindings::kill_anon_super),
        ..pin_init::zeroed()
    }),
    mount: Opaque::new(ptr::null_mut()),
    pins: Opaque::new(0),
};

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

/// Keeps the filesystem mounted.
///
/// # Invariants
///
/// Is one of the pins.
pub(crate) struct Pin(());

impl Pin {
    /// Mount the filesystem, unless it is mounted.
    pub(crate) fn new() -> Result<Self> {
        let (fs_type, mount) = (INTERNAL.fs_type.get(), INTERNAL.mount.get());
        // SAFETY: The type is static and complete. Only the two functions use the other places.
        to_result(unsafe { bindings::simple_pin_fs(fs_type, mount, INTERNAL.pins.get()) })?;
        // INVARIANT: The pin was added above.
        Ok(Pin(()))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a pin to remove.
        unsafe { bindings::simple_release_fs(INTERNAL.mount.get(), INTERNAL.pins.get()) };
    }
}

/// An inode of the filesystem.
///
/// # Invariants
///
/// Owns a reference to `inode`, which is on the mount.
pub(super) struct InternalInode {
    inode: NonNull<bindings::inode>,
    _pin: Pin,
}

impl InternalInode {
    /// Make an inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let pin = Pin::new()?;
        // SAFETY: The pin keeps the mount, which keeps its superblock.
        let inode = unsafe { bindings::new_inode((**INTERNAL.mount.get()).mnt_sb) };
        // INVARIANT: The inode was made above.
        Ok(InternalInode {
            inode: NonNull::new(inode).ok_or(ENOMEM)?,
            _pin: pin,
        })
    }

    #[inline]
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
