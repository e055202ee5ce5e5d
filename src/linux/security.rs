// SPDX-License-Identifier: GPL-2.0-only

//! Rights of the calling process, and users who mount.

use crate::bindings;

/// Returns true if the calling process has `CAP_SYS_ADMIN`.
pub(crate) fn is_admin() -> bool {
    capable(bindings::CAP_SYS_ADMIN)
}

pub(super) fn capable(capability: kernel::ffi::c_int) -> bool {
    // SAFETY: A number that is not one of a capability is a bug, which the constants rule out.
    unsafe { bindings::capable(capability) }
}

/// An ordinary user, who is root of a user namespace only.
#[derive(Clone, Copy)]
pub(crate) struct User {
    /// The user, in the initial user namespace.
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
pub(crate) fn user_memory() -> u64 {
    // SAFETY: This may be called in any context.
    unsafe { bindings::user_memory() as u64 }
}
