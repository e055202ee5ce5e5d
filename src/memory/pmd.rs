// SPDX-License-Identifier: GPL-2.0-only

//! PMD entries for memory without a DAX device.

use super::access::Access;
use super::around::area;
use super::extents::MappedExtent;
use super::space::Info;
use super::{poison, Gate, MapMethod};
use crate::bindings;
use crate::vfs::{Fault, FaultResult};

const PAGE_SIZE: u64 = bindings::PAGE_SIZE;
const PMD_SIZE: u64 = bindings::PMD_SIZE;

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
    const PAGES: usize = (PMD_SIZE / PAGE_SIZE) as usize;

    let (_, area_start, area_end) = area(fault);
    let start = fault.address() as u64 & !(PMD_SIZE - 1);
    // A write to a private mapping copies single pages. PUD entries are not safe: munmap() of a
    // part of one can crash the kernel, see Documentation/design.rst.
    if fault.order() != bindings::PMD_ORDER
        || fault.is_write()
        || start < area_start
        || start + (PMD_SIZE - 1) > area_end
    {
        return FaultResult::FALLBACK;
    }
    let before = fault.address() as u64 % PMD_SIZE / PAGE_SIZE;
    let Some(first) = fault.page().checked_sub(before) else {
        return FaultResult::FALLBACK;
    };
    let first = first * PAGE_SIZE;
    let offset = info.offset + first;
    // The gate was opened for these bytes, or others if the mapping is not aligned.
    if first + PMD_SIZE > info.length
        || access.readable(offset, PMD_SIZE) < PMD_SIZE
        || !gate.is_open(offset, PMD_SIZE)
    {
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
    let vmf = fault.as_raw();
    let result = match info.method {
        MapMethod::Pages => {
            // SAFETY: The frame has a struct page.
            let page = unsafe { bindings::pfn_to_page(frame) };
            // SAFETY: The page is pinned, so its folio does not change.
            let folio = unsafe { bindings::page_folio(page) };
            // SAFETY: The folio is pinned.
            if unsafe { bindings::folio_order(folio) } != bindings::PMD_ORDER {
                return FaultResult::FALLBACK;
            }
            // SAFETY: The fault is in an area that has room for the entry. The folio is pinned.
            unsafe { bindings::vmf_insert_folio_pmd(vmf, folio, false) }
        }
        // SAFETY: The fault is in an area that has room for the entry. A revocation unmaps the
        // frames.
        _ => unsafe { bindings::vmf_insert_pfn_pmd(vmf, frame, false) },
    };
    // SAFETY: This is the result of handling the fault.
    unsafe { fault.result(result) }
}
