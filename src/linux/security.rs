// SPDX-License-Identifier: GPL-2.0-only

//! Rights of the calling process.

use crate::bindings;

/// Returns true if the calling process has `CAP_SYS_ADMIN`.
pub(crate) fn is_admin() -> bool {
    capable(bindings::CAP_SYS_ADMIN)
}

pub(super) fn capable(capability: kernel::ffi::c_int) -> bool {
    // SAFETY: A number that is not one of a capability is a bug, which the constants rule out.
    unsafe { bindings::capable(capability) }
}
