// SPDX-License-Identifier: GPL-2.0-only

//! How the processor caches memory.
//!
//! An exporter maps its memory into the kernel with the cache attributes that the memory needs.
//! Processes must map it with the same attributes, because mappings of a page that are cached
//! differently may show different bytes.
//!
//! On x86-64 with a page attribute table the kernel also records the memory type of each page, and
//! uses that for page frames, instead of the attributes of the mapping. The page-table entries that
//! we look up here agree with it.

use crate::linux::prelude::*;

/// Cache attributes of the mappings of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Cached, as ordinary memory is.
    WriteBack = bindings::CACHE_WRITEBACK as isize,
    /// Reads are not cached, writes are combined.
    WriteCombine = bindings::CACHE_WRITECOMBINE as isize,
    /// Not cached.
    Uncached = bindings::CACHE_UNCACHED as isize,
}

impl CacheMode {
    /// Returns true if a mapping of these page frames can also contain copies of pages, which must
    /// be cached: a file's last page, or pages that the process has written to.
    pub(crate) fn allows_copies(self) -> bool {
        // SAFETY: The function returns a flag.
        self == CacheMode::WriteBack || unsafe { bindings::cache_mode_is_per_frame() }
    }
}

/// Finds the cache attributes of the kernel's own mapping, of I/O memory if `io` is set. Returns
/// `None` if its pages do not agree, or one of them is not mapped, or not encrypted on a machine
/// that encrypts the memory of processes (SEV, TDX).
///
/// # Safety
///
/// The `size` bytes at `base` must be mapped.
pub(crate) unsafe fn mode(base: NonNull<u8>, size: u64, io: bool) -> Option<CacheMode> {
    let first = base.as_ptr() as usize;
    let end = first + size as usize;
    let mut found = None;
    let mut address = first;
    while address < end {
        let mut size = 0;
        // SAFETY: The address is mapped, so its page-table entry stays.
        let mode = match unsafe { bindings::cache_mode(address, io, &mut size) } {
            bindings::CACHE_WRITEBACK => CacheMode::WriteBack,
            bindings::CACHE_WRITECOMBINE => CacheMode::WriteCombine,
            bindings::CACHE_UNCACHED => CacheMode::Uncached,
            _ => return None,
        };
        if *found.get_or_insert(mode) != mode {
            return None;
        }
        address = (address | (size - 1)) + 1;
    }
    found
}
