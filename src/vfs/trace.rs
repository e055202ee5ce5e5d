// SPDX-License-Identifier: GPL-2.0

//! The tracepoints that `src/trace.h` declares. As long as nobody listens, each is an instruction that does nothing.

use super::{FileSystem, SuperBlock};
use crate::bindings;

/// Calls the tracepoint, if somebody listens. Unsafe, as what it calls.
macro_rules! trace {
    ($tracepoint:ident, $call:ident($($argument:expr),*)) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        {
            // Only its address is taken.
            #[allow(improper_ctypes)]
            extern "C" {
                static $tracepoint: kernel::bindings::tracepoint;
            }
            let listens = kernel::jump_label::static_branch_unlikely!(
                $tracepoint,
                kernel::bindings::tracepoint,
                key
            );
            if listens {
                bindings::$call($($argument),*);
            }
        }
        #[cfg(not(CONFIG_TRACEPOINTS))]
        {
            $(let _ = $argument;)*
        }
    }};
}

/// A fault of `order` came to `result`.
///
/// # Safety
///
/// `vmf` must be a fault on a mapping of a file, whose lock is held.
#[inline(always)]
pub(super) unsafe fn fault(
    vmf: *mut bindings::vm_fault,
    order: kernel::ffi::c_uint,
    result: bindings::vm_fault_t,
) {
    // SAFETY: By the contract; the tracepoint is a static of `src/helpers.c`.
    unsafe {
        trace!(
            __tracepoint_daxfs_fault,
            rust_do_trace_daxfs_fault(vmf, order, result)
        )
    };
}

impl<T: FileSystem> SuperBlock<T> {
    /// Something was wrong with inode `ino`: `problem`, with `value` at `offset` in the image.
    #[inline]
    pub(crate) fn trace_error(&self, ino: u64, problem: &str, offset: u64, value: u64) {
        let (text, length) = (problem.as_ptr(), problem.len());
        // SAFETY: The super block and the text are valid during the call, which only reads them.
        unsafe {
            trace!(
                __tracepoint_daxfs_error,
                rust_do_trace_daxfs_error(self.as_raw(), ino, text, length, offset, value)
            )
        };
    }
}
