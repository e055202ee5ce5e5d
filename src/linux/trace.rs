// SPDX-License-Identifier: GPL-2.0-only

//! The tracepoints that `trace.h` declares. One that is off costs one instruction.

#[cfg(CONFIG_TRACEPOINTS)]
use crate::bindings;

/// Return true if a tracepoint is on.
///
/// `kernel::tracepoint::declare_trace` needs bindings in the kernel crate, so it cannot be used
/// here.
#[cfg(CONFIG_TRACEPOINTS)]
macro_rules! is_on {
    ($tracepoint:ident) => {{
        // Only its address is taken.
        #[allow(improper_ctypes)]
        extern "C" {
            static $tracepoint: kernel::bindings::tracepoint;
        }
        // SAFETY: `helpers.c` defines the tracepoint, a static.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                $tracepoint,
                kernel::bindings::tracepoint,
                key
            )
        }
    }};
}

/// The values of the tracepoint `daxfs_fault`.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(crate) struct Fault {
    /// Device number of the superblock.
    pub(crate) device: u32,
    /// Inode number.
    pub(crate) ino: u64,
    /// Offset in the file in bytes.
    pub(crate) offset: u64,
    /// Order of the page-table entry.
    pub(crate) order: u32,
    /// Address that faulted.
    pub(crate) address: usize,
    /// Result (`vm_fault_t`).
    pub(crate) result: u32,
}

/// Trace a page fault. Call `values` only if the tracepoint is on.
#[inline(always)]
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(unused_variables))]
pub(crate) fn fault(values: impl FnOnce() -> Fault) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_daxfs_fault) {
        let Fault {
            device,
            ino,
            offset,
            order,
            address,
            result,
        } = values();
        // SAFETY: The tracepoint takes values only.
        unsafe {
            bindings::rust_do_trace_daxfs_fault(
                device,
                ino,
                offset,
                order,
                address,
                result as usize,
            )
        };
    }
}

/// Trace an error in an image: a `problem` at inode `ino`, with the `value` found at `offset`.
#[inline]
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(unused_variables))]
pub(crate) fn error(device: u32, ino: u64, problem: &str, offset: u64, value: u64) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_daxfs_error) {
        let (text, length) = (problem.as_ptr(), problem.len());
        // SAFETY: The tracepoint reads the text during the call.
        unsafe { bindings::rust_do_trace_daxfs_error(device, ino, text, length, offset, value) };
    }
}
