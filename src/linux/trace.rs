// SPDX-License-Identifier: GPL-2.0-only

//! The tracepoints that `trace.h` declares. One that is off costs the call of a helper: the macros
//! for static branches include a file that the headers of some distributions lack.

use crate::bindings;

/// Trace the fault of an entry of `order` at `address`, `offset` bytes into inode `ino` of the
/// superblock with the number `device`. `result` is a `vm_fault_t`.
#[inline(always)]
pub(crate) fn fault(device: u32, ino: u64, offset: u64, order: u32, address: usize, result: u32) {
    // SAFETY: The tracepoint takes values only.
    unsafe { bindings::trace_daxfs_fault(device, ino, offset, order, address, result as usize) };
}

/// Trace an error in an image: a `problem` at inode `ino`, with the `value` found at `offset`.
pub(crate) fn error(device: u32, ino: u64, problem: &str, offset: u64, value: u64) {
    let (text, length) = (problem.as_ptr(), problem.len());
    // SAFETY: The tracepoint reads the text during the call.
    unsafe { bindings::trace_daxfs_error(device, ino, text, length, offset, value) };
}
