// SPDX-License-Identifier: GPL-2.0-only

//! Safe interfaces to parts of the kernel that are not about filesystems, and that the kernel crate
//! does not have.
//!
//! * [`Errno`]: error codes
//! * [`Counters`]: per-CPU counters
//! * [`Sha256`]: the hash function
//! * [`sysfs`]: directories with values
//! * [`trace`]: the tracepoints of `trace.h`

mod counters;
mod errno;
mod sha256;
pub(crate) mod sysfs;
pub(crate) mod trace;

pub(crate) use counters::Counters;
pub(crate) use errno::Errno;
pub(crate) use sha256::Sha256;

use crate::bindings;

/// Return true if a signal is going to kill the current process.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: This may be called in any context that has a current process.
    unsafe { bindings::fatal_signal_pending() }
}

/// Return true if a message about an image in use may be logged: ten in five seconds.
pub(crate) fn ratelimit() -> bool {
    // SAFETY: This may be called in any context.
    unsafe { bindings::ratelimit() }
}
