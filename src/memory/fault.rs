// SPDX-License-Identifier: GPL-2.0

//! Page faults on regions without a DAX device.

use super::{Files, Region};
use crate::bindings;

/// Bytes that a PMD entry maps.
const PMD_SIZE: u64 = bindings::DAXFS_PMD_SIZE;

/// Pages that one fault maps around the faulting one: a cache line of entries, twice over.
const AROUND: u64 = 16;

impl Region {
    /// Serves a fault of `order` on a file whose first `mappable` bytes can be mapped and start at `data`, both
    /// multiples of the page size.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault on a mapping of that file: a mixed one (`VM_MIXEDMAP`) exactly if the region has no pages
    /// that can be counted.
    pub(crate) unsafe fn fault(
        &self,
        vmf: *mut bindings::vm_fault,
        order: u32,
        data: u64,
        mappable: u64,
    ) -> bindings::vm_fault_t {
        let page_size = bindings::DAXFS_PAGE_SIZE;
        let pages = mappable / page_size;
        // SAFETY: By the contract.
        let (page, address) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.pgoff as u64, fault.address as u64)
        };
        if page >= pages {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        }
        // The region holds the file's last page whole; it was checked when the inode was loaded.
        let end = data + pages * page_size;
        if end > self.mapping.size.next_multiple_of(page_size) {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        }
        let frames = matches!(self.files, Files::Frames { .. });

        if order == 0 {
            let offset = data + page * page_size;
            // Following pages of the file, up to the next multiple of `AROUND`, come along.
            let count = (AROUND - page % AROUND).min(pages - page);
            let from = self.mapping.base.as_ptr().wrapping_add(offset as usize);
            // SAFETY: By the contract, and `count` pages at `from` are mapped.
            return unsafe {
                bindings::daxfs_helper_insert_pages(vmf, from.cast(), count as u32, frames)
            };
        }

        // The 2 MiB around the fault, in the file and in the region.
        let into = address % PMD_SIZE / page_size;
        let start = page.checked_sub(into).map(|first| data + first * page_size);
        match start {
            Some(start) if start + PMD_SIZE <= end && order == bindings::DAXFS_PMD_ORDER => {
                let from = self.mapping.base.as_ptr().wrapping_add(start as usize);
                // SAFETY: By the contract, and `PMD_SIZE` bytes at `from` are mapped.
                unsafe { bindings::daxfs_helper_insert_pmd(vmf, from.cast(), frames) }
            }
            _ => bindings::DAXFS_VM_FAULT_FALLBACK,
        }
    }
}
