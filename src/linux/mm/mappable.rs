// SPDX-License-Identifier: GPL-2.0-only

//! The memory that mappings show, and how it is mapped.

use super::CacheMode;
use crate::bindings;
use core::ptr::NonNull;
use kernel::iov::IovIterDest;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Number of bytes of a destination that are faulted in at a time.
const PRESENT: usize = 2 << 20;

/// How files of a region are mapped into processes.
#[derive(Clone, Copy)]
#[cfg_attr(not(CONFIG_DAXFS_FS_MEMFD), allow(dead_code))]
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
    /// The device, which lives as long as the owner of the memory.
    pub(in crate::linux) device: NonNull<bindings::dax_device>,
    /// Offset of the first byte of the region in bytes.
    pub(crate) offset: u64,
}

/// Memory that the kernel and processes can map.
#[derive(Clone, Copy)]
pub(crate) struct Mappable {
    /// No other memory has this number.
    pub(in crate::linux) id: u64,
    /// Where the kernel has mapped the first byte.
    pub(in crate::linux) base: NonNull<u8>,
    pub(in crate::linux) size: u64,
    /// Set if it must be read as I/O memory.
    pub(crate) io: bool,
    pub(in crate::linux) method: MapMethod,
}

impl Mappable {
    /// Returns `size` bytes of ordinary memory at `base`.
    pub(crate) fn new(base: NonNull<u8>, size: u64, method: MapMethod) -> Self {
        static NEXT: Atomic<u64> = Atomic::new(0);
        Mappable {
            id: NEXT.fetch_add(1, Relaxed),
            base,
            size,
            io: false,
            method,
        }
    }

    /// Returns the length in bytes. The rest of the last page is also mapped.
    #[inline(always)]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how processes map it.
    #[inline(always)]
    pub(crate) fn method(&self) -> MapMethod {
        self.method
    }
}

// SAFETY: Only `Memory` and faults on it use the addresses, while the memory is mapped.
unsafe impl Send for Mappable {}
// SAFETY: As above.
unsafe impl Sync for Mappable {}

/// Faults in the next pages of a destination, at most `length` bytes. This may wait for anything.
/// Returns false if none of the bytes can be written.
pub(crate) fn fault_in(to: &mut IovIterDest<'_>, length: usize) -> bool {
    let length = length.min(PRESENT);
    let to = to.as_raw().cast();
    // SAFETY: The iterator is borrowed exclusively.
    let missing = unsafe { bindings::fault_in_iov_iter_writeable(to, length) };
    missing < length
}
