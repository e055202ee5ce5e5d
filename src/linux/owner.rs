// SPDX-License-Identifier: GPL-2.0-only

//! Owners of memory that the kernel and processes map.

use crate::bindings;
use crate::linux::fs::CacheMode;
use core::ptr::NonNull;

/// The kernel's mapping of a region.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Address of the first byte.
    pub(crate) base: NonNull<u8>,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Set if it must be read as I/O memory.
    pub(crate) io: bool,
}

/// How files of a region are mapped into processes.
#[derive(Clone, Copy)]
pub(crate) enum MapMethod {
    /// By the kernel's DAX code.
    Dax(DaxRange),
    /// As pages that are counted, and 2 MiB at once where they are contiguous. Only for memory that
    /// its owner cannot take away, move or reuse while we hold it.
    Pages,
    /// As page frames that are not counted, with these cache attributes. Direct I/O and ptrace(2)
    /// do not work on the mappings.
    Frames(CacheMode),
}

/// The start of a region on a DAX device.
#[derive(Clone, Copy)]
pub(crate) struct DaxRange {
    /// The device, which lives as long as the owner of the region's memory.
    pub(crate) device: NonNull<bindings::dax_device>,
    /// Offset of the first byte of the region in bytes.
    pub(crate) offset: u64,
}

/// Memory that the kernel and processes can map.
#[derive(Clone, Copy)]
pub(crate) struct Mappable {
    /// Where the kernel has mapped it.
    pub(crate) window: Window,
    /// How processes map it.
    pub(crate) method: MapMethod,
}

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
