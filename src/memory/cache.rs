// SPDX-License-Identifier: GPL-2.0

//! How the processor caches a region's memory.
//!
//! An exporter maps its memory into the kernel with the cache attributes that the memory needs. Processes must map
//! it with the same ones: two mappings of a page that are cached differently may show different bytes.
//!
//! On x86-64 with a page attribute table the kernel also records the memory type of each page. Inserting a page frame
//! uses that record, whatever the mapping asks for; the page-table entries that are looked up here agree with it.

use super::Mapping;
#[cfg(CONFIG_X86_64)]
use crate::bindings;

/// Cache attributes of the mappings of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Cached, as ordinary memory is.
    WriteBack,
    /// Reads are not cached, writes are collected.
    WriteCombine,
    /// Not cached at all.
    #[cfg_attr(not(CONFIG_X86_64), allow(dead_code))]
    Uncached,
}

/// The pages of a mapping do not agree on their cache attributes, or one is not mapped.
#[cfg_attr(not(CONFIG_X86_64), allow(dead_code))]
pub(crate) struct Mixed;

impl CacheMode {
    /// Finds the cache attributes that the kernel's own mapping has.
    ///
    /// The mapping must exist during this call.
    ///
    /// # Errors
    ///
    /// [`Mixed`] if its pages do not agree.
    #[cfg(CONFIG_X86_64)]
    pub(super) fn of(mapping: &Mapping) -> Result<Self, Mixed> {
        let first = mapping.base.as_ptr() as usize;
        let end = first + mapping.size as usize;
        let mut found = None;
        let mut address = first;
        while address < end {
            let (mode, size) = Self::at(address).ok_or(Mixed)?;
            if *found.get_or_insert(mode) != mode {
                return Err(Mixed);
            }
            address = (address | (size - 1)) + 1;
        }
        found.ok_or(Mixed)
    }

    /// Finds the cache attributes of the mapping.
    ///
    /// No exported function of this architecture looks up the kernel's own. The two cases here are those of
    /// most exporters: device memory is mapped write-combined, other memory cached.
    #[cfg(not(CONFIG_X86_64))]
    pub(super) fn of(mapping: &Mapping) -> Result<Self, Mixed> {
        Ok(match mapping.io {
            true => CacheMode::WriteCombine,
            false => CacheMode::WriteBack,
        })
    }

    /// Looks up the kernel's page-table entry for `address`: its cache attributes, and how many bytes it maps.
    #[cfg(CONFIG_X86_64)]
    fn at(address: usize) -> Option<(Self, usize)> {
        let mut level = 0;
        // SAFETY: May be called with any address of the kernel.
        let entry = unsafe { bindings::lookup_address(address, &mut level) };
        if entry.is_null() {
            return None;
        }
        // SAFETY: The entry was found just now, and stays while its memory is mapped.
        let bits = unsafe { bindings::daxfs_helper_pte_cache(entry) };
        // SAFETY: Computes a number.
        let combine = unsafe { bindings::daxfs_helper_cache_writecombine() };
        let mode = match bits {
            0 => CacheMode::WriteBack,
            bits if bits == combine => CacheMode::WriteCombine,
            _ => CacheMode::Uncached,
        };
        // SAFETY: Computes a number.
        let size = unsafe { bindings::daxfs_helper_level_size(level) };
        Some((mode, size))
    }
}
