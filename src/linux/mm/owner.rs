// SPDX-License-Identifier: GPL-2.0-only

//! Owners of memory that the kernel and processes map.

use super::Mappable;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

/// Owner of mapped memory. Dropping it releases the memory.
///
/// # Safety
///
/// Until the object is dropped:
///
/// * The window that [`Self::mappable`] returns is mapped, up to the end of its last page.
///   Processes may map the memory by the method.
/// * Memory of a DAX device has contiguous frames with struct pages, and the device lives. Pages
///   that are mapped by [`Pages`](super::MapMethod::Pages) are vmap()'s, each with a reference.
/// * The number of [`Self::bad_blocks`] is valid.
pub(crate) unsafe trait Owner: Send + Sync {
    /// Return the memory, if it is mapped.
    fn mappable(&self) -> Option<Mappable>;

    /// Return a number that changes when more of the memory is known to have failed, and what it
    /// was before the memory was looked at.
    fn bad_blocks(&self) -> Option<(NonNull<AtomicU32>, u32)> {
        None
    }

    /// Mark the pages that are known to have failed.
    fn mark_failed(&self) {}
}
