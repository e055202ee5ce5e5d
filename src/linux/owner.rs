// SPDX-License-Identifier: GPL-2.0-only

//! Owners of memory that the kernel and processes map.

use super::mm::Mappable;

/// Owner of mapped memory. Dropping it releases the memory.
///
/// # Safety
///
/// The memory that [`Self::mappable`] returns must stay mapped, and processes may map it by that
/// method, until [`Self::release`] is called or the object is dropped.
pub(crate) unsafe trait Owner: Send + Sync {
    /// Return the memory, if it is mapped.
    fn mappable(&self) -> Option<Mappable> {
        None
    }

    /// Release the memory before the drop. Called once, after the last user is gone.
    fn release(&mut self) {}
}
