// SPDX-License-Identifier: GPL-2.0-only

//! PMD entries for memory without a DAX device.

use super::access::Access;
use super::extents::MappedExtent;
use super::space::Info;
use super::{poison, Gate, MapMethod};
use crate::bindings;
use crate::linux::fs::{Fault, FaultResult, Mapping};

const PAGE_SIZE: u64 = bindings::PAGE_SIZE;
const PMD_SIZE: u64 = bindings::PMD_SIZE;

/// Number of pages that a PMD entry maps.
const PAGES: usize = (PMD_SIZE / PAGE_SIZE) as usize;

/// Return where the 2 MiB around `fault` start in the extent, in bytes, if the file and the area
/// have all of them. Only there a PMD entry can be set.
fn whole(fault: &Fault<'_, MappedExtent>, info: &Info) -> Option<u64> {
    let (_, area_start, area_end) = fault.area();
    let start = fault.address() as u64 & !(PMD_SIZE - 1);
    let before = fault.address() as u64 % PMD_SIZE / PAGE_SIZE;
    let first = fault.page().checked_sub(before)? * PAGE_SIZE;
    let fits = start >= area_start
        && start + (PMD_SIZE - 1) <= area_end
        && first + PMD_SIZE <= info.length;
    fits.then_some(first)
}

/// Return the lock that excludes PMD entries and pages: those who insert pages hold it for reading,
/// those who insert PMD entries for writing. Nothing else uses it, as there is no page cache.
fn lock_of(extent: &MappedExtent) -> *mut bindings::rw_semaphore {
    // SAFETY: The address space of an extent is valid, and this is the address of a field.
    unsafe { &raw mut (*extent.as_raw().as_ptr()).invalidate_lock }
}

/// Keeps other threads from setting PMD entries while this one inserts pages: the MM expects a page
/// table there.
///
/// # Invariants
///
/// Holds the lock for reading.
pub(super) struct NoPmd<'a>(&'a MappedExtent);

impl<'a> NoPmd<'a> {
    /// Exclude PMD entries around `fault`. Return `None` if there cannot be any.
    ///
    /// # Safety
    ///
    /// `fault` must be a fault on the extent that `info` describes, whose memory must be kept.
    pub(super) unsafe fn new(fault: &Fault<'a, MappedExtent>, info: &Info) -> Option<Self> {
        if let MapMethod::Dax(_) = info.method {
            // The DAX code locks its entries.
            return None;
        }
        let first = whole(fault, info)?;
        let here = info.window.base.as_ptr();
        let here = here.wrapping_add((info.offset + fault.page() * PAGE_SIZE) as usize);
        // SAFETY: The caller guarantees that the memory is mapped.
        let frame = unsafe { poison::frame_at(here) };
        // A PMD entry maps contiguous frames from an aligned one on.
        if frame % PAGES != (fault.page() - first / PAGE_SIZE) as usize {
            return None;
        }
        let extent = fault.mapping()?;
        // SAFETY: The lock is valid, and a fault handler may sleep.
        unsafe { bindings::down_read(lock_of(extent)) };
        // INVARIANT: The lock was taken above.
        Some(NoPmd(extent))
    }
}

impl Drop for NoPmd<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this holds the lock.
        unsafe { bindings::up_read(lock_of(self.0)) };
    }
}

/// Insert a PMD entry, if the file, the memory and the area have 2 MiB around the fault.
///
/// # Safety
///
/// `fault` must be a fault on the extent that `info` describes, and `access` keep its memory.
pub(super) unsafe fn insert_pmd<'a>(
    fault: &Fault<'a, MappedExtent>,
    info: &Info,
    access: &Access<'_>,
    gate: &impl Gate,
) -> FaultResult<'a> {
    // A write to a private mapping copies single pages. PUD entries are not safe: munmap() of a
    // part of one can crash the kernel, see Documentation/design.rst.
    if fault.order() != bindings::PMD_ORDER || fault.is_write() {
        return FaultResult::FALLBACK;
    }
    let (Some(first), Some(extent)) = (whole(fault, info), fault.mapping()) else {
        return FaultResult::FALLBACK;
    };
    let offset = info.offset + first;
    // The gate was opened for these bytes, or others if the mapping is not aligned.
    if access.readable(offset, PMD_SIZE) < PMD_SIZE || !gate.is_open(offset, PMD_SIZE) {
        return FaultResult::FALLBACK;
    }
    let base = info.window.base.as_ptr().wrapping_add(offset as usize);
    // SAFETY: The caller guarantees that the memory is mapped.
    let frame = unsafe { poison::frame_at(base) };
    // Reading /proc/PID/pagemap needs the struct page of a PMD entry.
    // SAFETY: This takes any number.
    if frame % PAGES != 0 || !unsafe { bindings::pfn_valid(frame) } {
        return FaultResult::FALLBACK;
    }
    for number in 1..PAGES {
        let from = base.wrapping_add(number * PAGE_SIZE as usize);
        // SAFETY: The caller guarantees that the memory is mapped.
        if unsafe { poison::frame_at(from) } != frame + number {
            return FaultResult::FALLBACK;
        }
    }
    let folio = match info.method {
        MapMethod::Pages => {
            // SAFETY: The frame has a struct page.
            let page = unsafe { bindings::pfn_to_page(frame) };
            // SAFETY: The page is pinned, so its folio does not change.
            let folio = unsafe { bindings::page_folio(page) };
            // SAFETY: The folio is pinned.
            if unsafe { bindings::folio_order(folio) } != bindings::PMD_ORDER {
                return FaultResult::FALLBACK;
            }
            Some(folio)
        }
        _ => None,
    };
    let vmf = fault.as_raw();
    // SAFETY: The lock is valid, and a fault handler may sleep.
    unsafe { bindings::down_write(lock_of(extent)) };
    // If there is a page table, this sets no entry.
    let result = match folio {
        // SAFETY: The fault is in an area that has room for the entry. The folio is pinned.
        Some(folio) => unsafe { bindings::vmf_insert_folio_pmd(vmf, folio, false) },
        // SAFETY: The fault is in an area that has room for the entry. A revocation unmaps the
        // frames.
        None => unsafe { bindings::vmf_insert_pfn_pmd(vmf, frame, false) },
    };
    // SAFETY: The lock was taken above.
    unsafe { bindings::up_write(lock_of(extent)) };
    // SAFETY: This is the result of handling the fault.
    unsafe { fault.result(result) }
}
