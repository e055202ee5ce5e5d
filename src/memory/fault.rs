// SPDX-License-Identifier: GPL-2.0

//! Page faults on mappings of files.

use super::extents::Info;
use super::{Files, Region};
use crate::bindings;
use kernel::prelude::*;

/// Bytes that a PMD entry maps.
const PMD_SIZE: u64 = bindings::DAXFS_PMD_SIZE;

/// Pages that one fault maps around the faulting one: a cache line of entries, twice over.
const AROUND: u64 = 16;

/// `struct iomap_ops` of extents on DAX devices.
const IOMAP: bindings::iomap_ops = bindings::iomap_ops {
    iomap_begin: Some(iomap_begin),
    ..pin_init::zeroed()
};

/// Describe the whole extent.
///
/// # Safety
///
/// `inode` must be that of a mapped extent, and `iomap` valid for writing.
unsafe extern "C" fn iomap_begin(
    inode: *mut bindings::inode,
    _position: bindings::loff_t,
    _length: bindings::loff_t,
    _flags: kernel::ffi::c_uint,
    iomap: *mut bindings::iomap,
    _source: *mut bindings::iomap,
) -> kernel::ffi::c_int {
    // SAFETY: By the contract; `i_private` of such an inode is its info.
    let (info, iomap) = unsafe { (&*(*inode).i_private.cast::<Info>(), &mut *iomap) };
    let Some(device) = info.device else {
        return EIO.to_errno();
    };
    iomap.type_ = bindings::DAXFS_IOMAP_MAPPED;
    iomap.addr = info.start;
    iomap.offset = 0;
    iomap.length = info.length;
    iomap.dax_dev = device.as_ptr();
    0
}

impl Region {
    /// Serve a fault of `order` on a file whose first `mappable` bytes can be mapped and start at `data`, both
    /// multiples of the page size.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault on a mapping of that file, whose address space is the one that [`Region::claim`] returned
    /// for these bytes: a mixed one (`VM_MIXEDMAP`) exactly if the region's files are mapped by frames.
    pub(crate) unsafe fn fault(
        &self,
        vmf: *mut bindings::vm_fault,
        order: u32,
        data: u64,
        mappable: u64,
    ) -> bindings::vm_fault_t {
        // A page that is inserted while there is a reader is unmapped after a revocation.
        let Ok(_reader) = self.lease.read() else {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        };
        // SAFETY: By the contract.
        let page = unsafe { (*vmf).__bindgen_anon_1.pgoff } as u64;
        let page_size = bindings::DAXFS_PAGE_SIZE;
        if page >= mappable / page_size {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        }
        // All that an entry of this order would map, as far as it is in the file.
        let first = (page >> order << order) * page_size;
        let length = (page_size << order).min(mappable - first);
        if self.readable(data + first, length) < length {
            return match order {
                0 => bindings::DAXFS_VM_FAULT_HWPOISON,
                _ => bindings::DAXFS_VM_FAULT_FALLBACK,
            };
        }
        match self.files {
            // SAFETY: By the contract; the extent's address space is a DAX one.
            Files::Dax(_) => unsafe {
                bindings::dax_iomap_fault(
                    vmf,
                    order,
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    &IOMAP,
                )
            },
            // SAFETY: By the contract.
            Files::Pages => unsafe { self.insert(vmf, order, data, mappable, false) },
            // SAFETY: By the contract.
            Files::Frames { .. } => unsafe { self.insert(vmf, order, data, mappable, true) },
        }
    }

    /// Insert the faulting page, and some after it, or 2 MiB.
    ///
    /// # Safety
    ///
    /// As for [`Self::fault`], in a page of the file that can be mapped.
    unsafe fn insert(
        &self,
        vmf: *mut bindings::vm_fault,
        order: u32,
        data: u64,
        mappable: u64,
        frames: bool,
    ) -> bindings::vm_fault_t {
        let page_size = bindings::DAXFS_PAGE_SIZE;
        let pages = mappable / page_size;
        // SAFETY: By the contract.
        let (page, address) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.pgoff as u64, fault.address as u64)
        };
        // The region holds the file's last page whole; it was checked when the extent was claimed.
        let end = data + pages * page_size;
        let base = self.mapping.base.as_ptr();

        if order == 0 {
            let offset = data + page * page_size;
            // The next pages of the file, up to a multiple of `AROUND`, unless they have failed.
            let wanted = (AROUND - page % AROUND).min(pages - page) * page_size;
            let count = self.readable(offset, wanted) / page_size;
            let from = base.wrapping_add(offset as usize);
            // SAFETY: By the contract, and `count` pages at `from` are mapped.
            return unsafe {
                bindings::daxfs_helper_insert_pages(vmf, from.cast(), count as u32, frames)
            };
        }

        // The 2 MiB around the fault, in the file and in the region.
        let into = address % PMD_SIZE / page_size;
        let start = page.checked_sub(into).map(|first| data + first * page_size);
        match start {
            Some(start)
                if start + PMD_SIZE <= end
                    && order == bindings::DAXFS_PMD_ORDER
                    && self.readable(start, PMD_SIZE) == PMD_SIZE =>
            {
                let from = base.wrapping_add(start as usize);
                // SAFETY: By the contract, and `PMD_SIZE` bytes at `from` are mapped.
                unsafe { bindings::daxfs_helper_insert_pmd(vmf, from.cast(), frames) }
            }
            _ => bindings::DAXFS_VM_FAULT_FALLBACK,
        }
    }
}
