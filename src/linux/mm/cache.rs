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

use super::Window;
#[cfg(CONFIG_X86_64)]
use crate::bindings;

/// Cache attributes of the mappings of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Cached, as ordinary memory is.
    WriteBack,
    /// Reads are not cached, writes are combined.
    WriteCombine,
    /// Not cached.
    #[cfg_attr(not(CONFIG_X86_64), allow(dead_code))]
    Uncached,
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
/// `window` must be mapped.
#[cfg(CONFIG_X86_64)]
pub(crate) unsafe fn mode(window: &Window) -> Result<CacheMode, Mixed> {
    let first = window.base.as_ptr() as usize;
    let end = first + window.size as usize;
    let mut found = None;
    let mut address = first;
    while address < end {
        // SAFETY: The address is in the window.
        let (mode, size) = unsafe { mode_at(address) }.ok_or(Mixed)?;
        if *found.get_or_insert(mode) != mode {
            return Err(Mixed);
        }
        address = (address | (size - 1)) + 1;
    }
    found.ok_or(Mixed)
}

/// Find the cache attributes of the kernel's own mapping.
///
/// This architecture exports no function that looks them up. Most exporters map device memory
/// write-combined and other memory cached.
///
/// # Safety
///
/// None.
#[cfg(not(CONFIG_X86_64))]
pub(crate) unsafe fn mode(window: &Window) -> Result<CacheMode, Mixed> {
    Ok(match window.io {
        true => CacheMode::WriteCombine,
        false => CacheMode::WriteBack,
    })
}

/// Look up the kernel's page-table entry for `address`. Return its cache attributes, and the number
/// of bytes that it maps.
///
/// # Safety
///
/// `address` must stay mapped.
#[cfg(CONFIG_X86_64)]
unsafe fn mode_at(address: usize) -> Option<(CacheMode, usize)> {
    let mut level = 0;
    // SAFETY: This takes any address of the kernel.
    let entry = unsafe { bindings::lookup_address(address, &mut level) };
    if entry.is_null() {
        return None;
    }
    // SAFETY: The entry stays while the address is mapped.
    let bits = unsafe { bindings::pte_cache(entry) };
    // SAFETY: This computes a number.
    let combine = unsafe { bindings::cache_writecombine() };
    let mode = match bits {
        0 => CacheMode::WriteBack,
        bits if bits == combine => CacheMode::WriteCombine,
        _ => CacheMode::Uncached,
    };
    // SAFETY: This computes a number.
    let size = unsafe { bindings::page_level_size(level) };
    Some((mode, size))
}
