// SPDX-License-Identifier: GPL-2.0-only

//! How the processor caches memory.
//!
//! An exporter maps its memory into the kernel with the cache attributes that the memory needs.
//! Processes must map it with the same attributes, because mappings of a page that are cached
//! differently may show different bytes.
//!
//! On x86-64 with a page attribute table the kernel also records the memory type of each page. It
//! uses that record for page frames, instead of the attributes of the mapping. The page-table
//! entries that are looked up here agree with the record.

use crate::bindings;
use core::ptr::NonNull;

/// Cache attributes of the mappings of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Cached, as ordinary memory is.
    WriteBack = bindings::CACHE_WRITEBACK as isize,
    /// Reads are not cached, writes are combined.
    WriteCombine = bindings::CACHE_WRITECOMBINE as isize,
    /// Not cached.
    #[cfg_attr(not(CONFIG_X86_64), allow(dead_code))]
    Uncached = bindings::CACHE_UNCACHED as isize,
}

/// The pages of a mapping have different cache attributes, or one of them is not mapped.
#[cfg_attr(not(CONFIG_X86_64), allow(dead_code))]
pub(crate) struct Mixed;

/// Find the cache attributes of the kernel's own mapping.
///
/// # Errors
///
/// [`Mixed`] if its pages do not agree.
///
/// # Safety
///
/// The `size` bytes at `base` must be mapped.
#[cfg(CONFIG_X86_64)]
pub(crate) unsafe fn mode(base: NonNull<u8>, size: u64, _io: bool) -> Result<CacheMode, Mixed> {
    let first = base.as_ptr() as usize;
    let end = first + size as usize;
    let mut found = None;
    let mut address = first;
    while address < end {
        let mut size = 0;
        // SAFETY: The address is mapped, so its page-table entry stays.
        let mode = match unsafe { bindings::cache_mode(address, &mut size) } {
            bindings::CACHE_WRITEBACK => CacheMode::WriteBack,
            bindings::CACHE_WRITECOMBINE => CacheMode::WriteCombine,
            bindings::CACHE_UNCACHED => CacheMode::Uncached,
            _ => return Err(Mixed),
        };
        if *found.get_or_insert(mode) != mode {
            return Err(Mixed);
        }
        address = (address | (size - 1)) + 1;
    }
    found.ok_or(Mixed)
}

/// Guess the cache attributes: this architecture exports no function that looks them up. Most
/// exporters map device memory write-combined and other memory cached.
///
/// # Safety
///
/// None.
#[cfg(not(CONFIG_X86_64))]
pub(crate) unsafe fn mode(_base: NonNull<u8>, _size: u64, io: bool) -> Result<CacheMode, Mixed> {
    Ok(match io {
        true => CacheMode::WriteCombine,
        false => CacheMode::WriteBack,
    })
}
