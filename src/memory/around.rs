// SPDX-License-Identifier: GPL-2.0-only

//! Fault-around: a read fault on a page also maps the pages around it that can be mapped.
//!
//! The page cache does the same, from `vm_ops->map_pages`, which must not sleep. Pages that the DAX
//! code does not know yet need memory for their entries. So here the fault handler does it, after
//! the faulting page.

use super::access::Access;
use super::extents::MappedExtent;
use super::iomap::dax_iomap_fault;
use super::space::Info;
use super::{poison, Gate, MapMethod};
use crate::bindings;
use crate::vfs::{Fault, Mapping};
use core::ops::Range;
use core::sync::atomic::Ordering;

const PAGE_SIZE: u64 = bindings::PAGE_SIZE;

/// Number of pages that one fault maps at most, as in the page cache by default: the entries of two
/// cache lines.
const AROUND: u64 = 16;

/// Return the memory area of a fault: its first byte, and its last one.
#[inline]
pub(super) fn area(fault: &Fault<'_, MappedExtent>) -> (*mut bindings::vm_area_struct, u64, u64) {
    // SAFETY: The fault is valid, and has a memory area.
    let vma = unsafe { (*fault.as_raw()).__bindgen_anon_1.vma };
    // SAFETY: The area is locked while the fault is handled.
    let bounds = unsafe { &(*vma).__bindgen_anon_1.__bindgen_anon_1 };
    (vma, bounds.vm_start as u64, bounds.vm_end as u64 - 1)
}

/// Return the address of page `page` of an extent.
fn address(info: &Info, page: u64) -> *const u8 {
    let offset = info.offset + page * PAGE_SIZE;
    info.window.base.as_ptr().wrapping_add(offset as usize)
}

/// Insert the page `page` of the extent as `vmf` says.
///
/// # Safety
///
/// `vmf` must be a fault on the page `page` of the extent that `info` describes, and the memory of
/// the extent must be kept. The extent must be mapped by pages or by frames.
unsafe fn insert_page(
    vmf: *mut bindings::vm_fault,
    info: &Info,
    page: u64,
) -> bindings::vm_fault_t {
    // Another thread may have set a PMD entry since the MM looked.
    // SAFETY: The fault is valid, and has a PMD.
    if unsafe { bindings::vmf_pmd_is_huge(vmf) } {
        return bindings::VM_FAULT_NOPAGE;
    }
    // SAFETY: The caller guarantees what this requires.
    let result = unsafe { insert_in_table(vmf, info, page) };
    // It may do so at any moment. There is no page table then, which looks like a lack of memory.
    // SAFETY: The fault is valid, and has a PMD.
    if result & bindings::VM_FAULT_OOM != 0 && unsafe { bindings::vmf_pmd_is_huge(vmf) } {
        return bindings::VM_FAULT_NOPAGE;
    }
    result
}

/// Insert the page `page` of the extent into a page table.
///
/// # Safety
///
/// As for [`insert_page`].
unsafe fn insert_in_table(
    vmf: *mut bindings::vm_fault,
    info: &Info,
    page: u64,
) -> bindings::vm_fault_t {
    let from = address(info, page);
    if let MapMethod::Pages = info.method {
        // SAFETY: Only memfds are mapped by pages, and vmap() has mapped their pages.
        let page = unsafe { bindings::vmalloc_to_page(from.cast()) };
        // SAFETY: The address is in the area, which is locked. The page is pinned.
        return unsafe { bindings::vmf_insert_page_mkwrite(vmf, page, false) };
    }
    // SAFETY: The caller guarantees that the memory is mapped.
    let frame = unsafe { poison::frame_at(from) };
    // SAFETY: The fault is valid.
    let place = unsafe { &(*vmf).__bindgen_anon_1 };
    // SAFETY: The address is in the area, which is locked, and which is a mixed one as
    // `MappedExtent::insertion` asks for. A revocation unmaps the frame.
    unsafe { bindings::vmf_insert_mixed(place.vma, place.address, frame) }
}

/// Map the faulting page and, for a read, the pages around it. Pages that cannot be mapped, or that
/// `gate` does not let through, are left to faults of their own. Return the result for the faulting
/// page.
///
/// # Safety
///
/// `fault` must be a fault on a page of the extent that `info` describes, or on its copy of the
/// last page, and `access` must keep the memory.
pub(super) unsafe fn map_pages(
    fault: &Fault<'_, MappedExtent>,
    info: &Info,
    access: &Access<'_>,
    gate: &impl Gate,
) -> bindings::vm_fault_t {
    let here = fault.page();
    let pages = around(fault, info);
    let known = match info.method {
        // SAFETY: `access` keeps the memory.
        MapMethod::Dax(_) if !fault.is_write() => unsafe { known_pages(fault, info, &pages) },
        _ => 0,
    };
    let map = |vmf: *mut bindings::vm_fault, page: u64| {
        if page == info.length / PAGE_SIZE {
            let tail = info.tail_page.load(Ordering::Acquire);
            // SAFETY: The address is in the area, which is locked. The extent has a reference to
            // the page.
            return unsafe { bindings::vmf_insert_page_mkwrite(vmf, tail, false) };
        }
        match info.method {
            // SAFETY: The bit says that the page belongs to the extent.
            MapMethod::Dax(_) if known >> (page - pages.start) & 1 != 0 => unsafe {
                insert_known_page(vmf, info, page)
            },
            // SAFETY: This is a fault on the page. `access` keeps the memory.
            MapMethod::Dax(_) => unsafe { dax_iomap_fault(vmf, 0) },
            // SAFETY: This is a fault on the page. `access` keeps the memory.
            _ => unsafe { insert_page(vmf, info, page) },
        }
    };
    let result = map(fault.as_raw(), here);
    if result != bindings::VM_FAULT_NOPAGE {
        return result;
    }
    // SAFETY: The fault is valid. The copy is used for other pages only.
    let mut near = unsafe { fault.as_raw().read() };
    let length = (pages.end - pages.start) * PAGE_SIZE;
    let open = gate.is_open(info.offset + pages.start * PAGE_SIZE, length);
    for page in pages.clone().filter(|&page| page != here) {
        if !open && !gate.is_open(info.offset + page * PAGE_SIZE, PAGE_SIZE) {
            continue;
        }
        if access.readable(info.offset + page * PAGE_SIZE, PAGE_SIZE) < PAGE_SIZE {
            continue;
        }
        let address = fault.address() as u64 + page * PAGE_SIZE - here * PAGE_SIZE;
        near.__bindgen_anon_1.pgoff = page as usize;
        near.__bindgen_anon_1.address = address as usize;
        near.__bindgen_anon_1.real_address = address as usize;
        if map(&mut near, page) != bindings::VM_FAULT_NOPAGE {
            break;
        }
        fault.set_around();
    }
    result
}

/// Return the pages that `fault` may map: those in the same part of a page table that are in the
/// memory area and in the file.
fn around(fault: &Fault<'_, MappedExtent>, info: &Info) -> Range<u64> {
    let (vma, first, last) = area(fault);
    let (here, at) = (fault.page(), fault.address() as u64 / PAGE_SIZE);
    // SAFETY: The area is locked while the fault is handled.
    if fault.is_write() || unsafe { bindings::uffd_disable_fault_around(vma) } {
        return here..here + 1;
    }
    let before = (at % AROUND).min(at - first / PAGE_SIZE).min(here);
    let after = (AROUND - 1 - at % AROUND).min(last / PAGE_SIZE - at);
    let has_tail = !info.tail_page.load(Ordering::Acquire).is_null();
    let count = info.length / PAGE_SIZE + u64::from(has_tail);
    here - before..(here + after + 1).min(count)
}

/// Return the struct page of page `page` of an extent on a DAX device.
///
/// # Safety
///
/// The memory of the extent that `info` describes must be kept.
unsafe fn struct_page(info: &Info, page: u64) -> *mut bindings::page {
    // SAFETY: The caller guarantees that the memory is mapped.
    let frame = unsafe { poison::frame_at(address(info, page)) };
    // SAFETY: The memory of a DAX device that is mounted has struct pages.
    unsafe { bindings::pfn_to_page(frame) }
}

/// Return which of `pages` belong to the extent as single pages according to the DAX code, as bits
/// from the lowest. They belong to it until the extent forgets its pages, which it does without
/// users or after a revocation. A fault excludes both.
///
/// Pages of a PMD entry are left to the DAX code, whose entry lock keeps other threads from mapping
/// them by such an entry at the same time. Where it has an entry of a page it maps by pages only.
///
/// # Safety
///
/// The memory of the extent that `info` describes, and that `fault` is a fault on, must be kept.
unsafe fn known_pages(fault: &Fault<'_, MappedExtent>, info: &Info, pages: &Range<u64>) -> u32 {
    let Some(mapping) = fault.mapping().map(|extent| extent.as_raw().as_ptr()) else {
        return 0;
    };
    let mut known = 0;
    // The DAX code sets the owner of a page and stores its entry under this lock.
    // SAFETY: The address space is valid, and fault handlers hold no locks of address spaces.
    unsafe { bindings::xa_lock_irq(&raw mut (*mapping).i_pages) };
    for page in pages.start..pages.end.min(info.length / PAGE_SIZE) {
        // SAFETY: The caller guarantees that the memory is kept.
        let raw = unsafe { struct_page(info, page) };
        // SAFETY: The struct page is valid. Its folio changes under the lock only.
        let folio = unsafe { bindings::page_folio(raw) };
        // SAFETY: The folio is valid, and changes under the lock only.
        let single = unsafe { bindings::folio_order(folio) } == 0;
        // SAFETY: The folio is valid. Its owner changes under the lock only.
        if single && unsafe { (*folio).__bindgen_anon_1.__bindgen_anon_1.mapping } == mapping {
            known |= 1 << (page - pages.start);
        }
    }
    // SAFETY: The lock was taken above.
    unsafe { bindings::xa_unlock_irq(&raw mut (*mapping).i_pages) };
    known
}

/// Insert a page that belongs to the extent according to the DAX code, as that does.
///
/// # Safety
///
/// `vmf` must be a fault on the page `page` of the extent that `info` describes, which must belong
/// to the extent, and the memory of the extent must be kept.
unsafe fn insert_known_page(
    vmf: *mut bindings::vm_fault,
    info: &Info,
    page: u64,
) -> bindings::vm_fault_t {
    // SAFETY: The caller guarantees that the memory is kept.
    let page = unsafe { struct_page(info, page) };
    // SAFETY: The folio of a page that belongs to an extent does not change.
    let folio = unsafe { bindings::page_folio(page) };
    // The page may have no user yet.
    // SAFETY: The folio is valid, and the memory is not going away.
    unsafe { bindings::folio_ref_inc(folio) };
    // SAFETY: The address is in the area, which is locked. There is a reference to the page.
    let result = unsafe { bindings::vmf_insert_page_mkwrite(vmf, page, false) };
    // SAFETY: The reference was got above.
    unsafe { bindings::folio_put(folio) };
    result
}
