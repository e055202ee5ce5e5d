// SPDX-License-Identifier: GPL-2.0-only

//! What the calling process may do, and who mounts.

use crate::linux::prelude::*;

/// Returns true if the calling process has `CAP_SYS_ADMIN`.
pub(crate) fn is_admin() -> bool {
    capable(bindings::CAP_SYS_ADMIN)
}

fn capable(capability: ffi::c_int) -> bool {
    // SAFETY: A number that is not one of a capability is a bug, which the constants rule out.
    unsafe { bindings::capable(capability) }
}

/// An ordinary user, who is root in a user namespace only.
#[derive(Clone, Copy)]
pub(crate) struct User {
    /// The user, in the initial user namespace.
    #[cfg_attr(not(CONFIG_DAXFS_FS_MEMFD), allow(dead_code))]
    pub(crate) uid: u32,
    /// Number of the user namespace.
    pub(crate) namespace: u32,
}

impl User {
    /// Returns the user of a namespace, unless it is the initial one.
    ///
    /// # Safety
    ///
    /// `namespace` must be valid.
    pub(super) unsafe fn of(namespace: *mut bindings::user_namespace) -> Option<Self> {
        let (mut uid, mut number) = (0, 0);
        // SAFETY: The caller passes a valid namespace.
        let is_user = unsafe { bindings::user_of(namespace, &mut uid, &mut number) };
        is_user.then_some(User {
            uid,
            namespace: number,
        })
    }
}

/// Returns the number of bytes that the mounts of one ordinary user may keep pinned.
#[cfg(CONFIG_DAXFS_FS_MEMFD)]
pub(crate) fn user_memory() -> u64 {
    // SAFETY: This may be called in any context.
    unsafe { bindings::user_memory() as u64 }
}

/// Returns true if the calling process has `CAP_SYS_RAWIO`.
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) fn has_raw_io() -> bool {
    capable(bindings::CAP_SYS_RAWIO)
}

/// Returns true if the process that opened the file of `seq` has `CAP_SYS_RAWIO`. Another one may
/// read it, with more capabilities or less. statmount(2) has no file, and checks for itself.
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) fn opener_has_raw_io(seq: &SeqFile) -> bool {
    let seq = ptr::from_ref(seq).cast::<bindings::seq_file>();
    // SAFETY: `SeqFile` is transparent over the C struct. Its file does not change.
    let file = unsafe { (*seq).file };
    if file.is_null() {
        return has_raw_io();
    }
    let everywhere = &raw mut bindings::init_user_ns;
    // SAFETY: The file of a seq_file that is read is open. The namespace is static.
    unsafe { bindings::file_ns_capable(file, everywhere, bindings::CAP_SYS_RAWIO) }
}

/// Returns true if the kernel is locked down against access to physical memory.
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) fn is_locked_down() -> bool {
    // SAFETY: Mount options are parsed in the context of a process, which the hook looks at.
    unsafe { bindings::security_locked_down(bindings::LOCKDOWN_DEV_MEM) != 0 }
}
