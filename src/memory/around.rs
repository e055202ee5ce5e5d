// SPDX-License-Identifier: GPL-2.0-only

//! Fault-around: a read fault on a page also maps the pages around it that can be mapped.
//!
//! The page cache does the same, from `vm_ops->map_pages`, which must not sleep. Pages that the DAX
//! code does not know yet need memory for their entries. So here the fault handler does it.

use super::access::Access;
use super::extents::MappedExtent;
#[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
use super::pmd::NoPmd;
use super::space::Info;
use super::{poison, Gate, MapMethod};
use crate::bindings;
use crate::linux::fs::{Fault, Mapping};
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;

const PAGE_SIZE: u64 = bindings::PAGE_SIZE;

/// Number of pages that one fault maps at most, as in the page cache by default with pages of
/// 4 KiB.
const AROUND: u64 = 16;

/// Number of pages that a page table maps.
const PAGES_OF_TABLE: u64 = bindings::PMD_SIZE / PAGE_SIZE;

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
    if let (MapMethod::Pages, true) = (info.method, fault.is_write()) {
        // The MM copies the page. Then it need not be inserted first.
        // SAFETY: Only memfds are mapped by pages, and vmap() has mapped their pages.
        let page = unsafe { bindings::vmalloc_to_page(address(info, here).cast()) };
        // SAFETY: The page is pinned. The MM gets a reference.
        unsafe { bindings::get_page(page) };
        // SAFETY: The current thread handles the fault.
        unsafe { (*fault.as_raw()).page = page };
        return 0;
    }
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    // SAFETY: `fault` is a fault on the extent, and `access` keeps its memory.
    let no_pmd = unsafe { NoPmd::new(fault, info) };
    // Another thread may have set a PMD entry since the MM looked.
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    // SAFETY: The fault is valid, and has a PMD.
    if no_pmd.is_some() && unsafe { bindings::vmf_pmd_is_huge(fault.as_raw()) } {
        return bindings::VM_FAULT_NOPAGE;
    }
    let pages = around(fault, info);
    // What is usable now stays so. If a page fails, it is unmapped when `access` has ended.
    let usable = |page: u64, count: u64| {
        let (first, length) = (info.offset + page * PAGE_SIZE, count * PAGE_SIZE);
        gate.is_open(first, length) && access.readable(first, length) == length
    };
    let count = pages.end - pages.start;
    let all_usable = count > 1 && usable(pages.start, count);
    let known = match info.method {
        // SAFETY: The extent is on a DAX device, and `access` keeps its memory.
        MapMethod::Dax(_) if !fault.is_write() => unsafe { KnownPages::of(fault, info, &pages) },
        _ => KnownPages::NONE,
    };
    // SAFETY: `pages` are around the fault, and `known` is about them. `access` keeps the memory.
    if all_usable && unsafe { insert_together(fault, info, &pages, &known) } {
        fault.set_around();
        return bindings::VM_FAULT_NOPAGE;
    }
    // SAFETY: This is a fault on the page. `access` keeps the memory.
    let result = unsafe { map_page(fault.as_raw(), info, here, known.page(here - pages.start)) };
    if result != bindings::VM_FAULT_NOPAGE {
        return result;
    }
    // SAFETY: The fault is valid. The copy is used for other pages only.
    let mut near = unsafe { fault.as_raw().read() };
    let start = fault.address() as u64 - (here - pages.start) * PAGE_SIZE;
    for page in pages.clone() {
        if page == here || !all_usable && !usable(page, 1) {
            continue;
        }
        let number = page - pages.start;
        let address = (start + number * PAGE_SIZE) as usize;
        near.__bindgen_anon_1.pgoff = page as usize;
        near.__bindgen_anon_1.address = address;
        near.__bindgen_anon_1.real_address = address;
        // SAFETY: The copy was made a fault on the page. `access` keeps the memory.
        let mapped = unsafe { map_page(&mut near, info, page, known.page(number)) };
        if mapped != bindings::VM_FAULT_NOPAGE {
            break;
        }
        fault.set_around();
    }
    result
}

/// Insert all of `pages` in one call. Return false if that is not possible: the DAX code does not
/// know one of them, there are no struct pages, one of the entries is set, or there is no memory.
/// Some may have been inserted then. The caller has found that all of them are usable.
///
/// # Safety
///
/// `pages` must be what [`around`] returns for `fault`, on the extent that `info` describes. The
/// memory of the extent must be kept, and `known` must be about `pages`.
unsafe fn insert_together(
    fault: &Fault<'_, MappedExtent>,
    info: &Info,
    pages: &Range<u64>,
    known: &KnownPages<'_>,
) -> bool {
    let mut list = [ptr::null_mut(); AROUND as usize];
    let mut count = 0;
    for (place, page) in list.iter_mut().zip(pages.clone()) {
        let found = match info.method {
            // `around` found that there is a copy.
            _ if page == info.length / PAGE_SIZE => Some(info.tail_page.load(Ordering::Acquire)),
            MapMethod::Dax(_) => known.page(page - pages.start),
            MapMethod::Pages => {
                // SAFETY: Only memfds are mapped by pages, and vmap() has mapped their pages.
                Some(unsafe { bindings::vmalloc_to_page(address(info, page).cast()) })
            }
            MapMethod::Frames(_) => None,
        };
        match found {
            Some(found) => *place = found,
            None => return false,
        }
        count += 1;
    }
    let held = match info.method {
        // They may have no user yet.
        MapMethod::Dax(_) => count,
        // Pages of a memfd are pinned.
        _ => 0,
    };
    for page in list.iter().take(held) {
        // SAFETY: By the invariant of `KnownPages` this is a single page until the fault is
        // handled, as the copy is, and so a folio of its own. The memory is not going away.
        unsafe { bindings::folio_ref_inc(page.cast()) };
    }
    let (vma, _, _) = fault.area();
    let start = fault.address() as u64 - (fault.page() - pages.start) * PAGE_SIZE;
    // SAFETY: `pages` are in the area, which is locked. The first `count` places of the list have
    // them, with a reference to each.
    let result =
        unsafe { bindings::map_kernel_pages(vma, start as usize, list.as_mut_ptr(), count) };
    for page in list.iter().take(held) {
        // SAFETY: The reference was got above.
        unsafe { bindings::folio_put(page.cast()) };
    }
    result == 0
}

/// Map the page `page` of an extent, or the copy of its last page, as `vmf` says.
///
/// # Safety
///
/// `vmf` must be a fault on that page of the extent that `info` describes, or on the copy if the
/// extent has one. The memory of the extent must be kept. `known` must be what
/// [`KnownPages::page`] returns for this fault and page.
#[inline]
unsafe fn map_page(
    vmf: *mut bindings::vm_fault,
    info: &Info,
    page: u64,
    known: Option<*mut bindings::page>,
) -> bindings::vm_fault_t {
    match known {
        // SAFETY: The page belongs to the extent, and the caller guarantees the rest.
        Some(known) => unsafe { insert_known_page(vmf, known) },
        // SAFETY: The caller guarantees what this requires.
        None => unsafe { map_unknown_page(vmf, info, page) },
    }
}

/// Map a page that the DAX code may not know yet, as [`map_page`] does.
///
/// # Safety
///
/// As for [`map_page`].
#[inline(never)]
unsafe fn map_unknown_page(
    vmf: *mut bindings::vm_fault,
    info: &Info,
    page: u64,
) -> bindings::vm_fault_t {
    if page == info.length / PAGE_SIZE {
        let tail = info.tail_page.load(Ordering::Acquire);
        // SAFETY: The address is in the area, which is locked. The extent has the copy, with a
        // reference.
        return unsafe { bindings::vmf_insert_page_mkwrite(vmf, tail, false) };
    }
    match info.method {
        // SAFETY: This is a fault on a page of an extent on a DAX device, whose memory is kept.
        MapMethod::Dax(_) => unsafe { bindings::dax_iomap_fault(vmf, 0) },
        // SAFETY: The extent is mapped by pages or by frames. The caller guarantees the rest.
        _ => unsafe { insert_page(vmf, info, page) },
    }
}

/// Return the pages that `fault` may map: up to [`AROUND`], in one page table, in the memory area
/// and in the file.
fn around(fault: &Fault<'_, MappedExtent>, info: &Info) -> Range<u64> {
    let (vma, first, last) = fault.area();
    let (here, at) = (fault.page(), fault.address() as u64 / PAGE_SIZE);
    // SAFETY: The area is locked while the fault is handled.
    if fault.is_write() || unsafe { bindings::uffd_disable_fault_around(vma) } {
        return here..here + 1;
    }
    // Counted from where the area or the page table starts, ranges of an area do not overlap.
    let in_table = at % PAGES_OF_TABLE;
    let before = (at - first / PAGE_SIZE).min(in_table) % AROUND;
    let after = (AROUND - 1 - before)
        .min(PAGES_OF_TABLE - 1 - in_table)
        .min(last / PAGE_SIZE - at);
    let has_tail = info.good_tail().is_ok();
    let count = info.length / PAGE_SIZE + u64::from(has_tail);
    here - before..(here + after + 1).min(count)
}

/// Pages near a fault that belong to the extent as single pages, according to the DAX code.
///
/// # Invariants
///
/// The page of each bit that is set follows `first` by the number of the bit. It belongs to the
/// extent while the fault is handled: the extent forgets its pages without users or after a
/// revocation only, and a fault excludes both.
struct KnownPages<'a> {
    first: *mut bindings::page,
    bits: u32,
    fault: PhantomData<&'a ()>,
}

impl<'a> KnownPages<'a> {
    /// No pages.
    // INVARIANT: No bit is set.
    const NONE: Self = KnownPages {
        first: ptr::null_mut(),
        bits: 0,
        fault: PhantomData,
    };

    /// Find out which of `pages` belong to the extent.
    ///
    /// Pages of a PMD entry are left to the DAX code, whose entry lock keeps other threads from
    /// mapping them by such an entry at the same time. If it already has an entry of a single page,
    /// it maps by pages only.
    ///
    /// # Safety
    ///
    /// `info` must describe the extent that `fault` is a fault on. It must be on a DAX device, and
    /// its memory must be kept.
    unsafe fn of(
        fault: &'a Fault<'_, MappedExtent>,
        info: &Info,
        pages: &Range<u64>,
    ) -> KnownPages<'a> {
        let end = pages.end.min(info.length / PAGE_SIZE);
        let Some(extent) = fault.mapping().filter(|_| pages.start < end) else {
            return Self::NONE;
        };
        let mapping = extent.as_raw().as_ptr();
        // SAFETY: The caller guarantees that the memory is mapped.
        let frame = unsafe { poison::frame_at(address(info, pages.start)) };
        // SAFETY: The memory of a DAX device that is mounted has struct pages.
        let first = unsafe { bindings::pfn_to_page(frame) };
        let mut bits = 0;
        // The DAX code sets the owner of a page and stores its entry under this lock.
        // SAFETY: The address space is valid, and fault handlers hold no locks of address spaces.
        unsafe { bindings::xa_lock_irq(&raw mut (*mapping).i_pages) };
        for number in 0..end - pages.start {
            // The frames of the device are contiguous, see `direct::map`. With
            // CONFIG_SPARSEMEM_VMEMMAP, which DAX needs, their struct pages are, too.
            let page = first.wrapping_add(number as usize);
            // SAFETY: So this is the struct page of one of `pages`, which are in the extent.
            let single = !unsafe { bindings::page_compound(page) };
            let folio = page.cast::<bindings::folio>();
            // SAFETY: A single page is a folio of its own. Its owner changes under the lock only.
            if single && unsafe { (*folio).__bindgen_anon_1.__bindgen_anon_1.mapping } == mapping {
                bits |= 1 << number;
            }
        }
        // SAFETY: The lock was taken above.
        unsafe { bindings::xa_unlock_irq(&raw mut (*mapping).i_pages) };
        // INVARIANT: The pages whose bits are set belong to the extent, and the fault is handled
        // for `'a`.
        KnownPages {
            first,
            bits,
            fault: PhantomData,
        }
    }

    /// Return page `number` of those that were looked at, if it belongs to the extent.
    #[inline]
    fn page(&self, number: u64) -> Option<*mut bindings::page> {
        (self.bits >> number & 1 != 0).then(|| self.first.wrapping_add(number as usize))
    }
}

/// Insert a page that belongs to the extent according to the DAX code, as that does.
///
/// # Safety
///
/// `vmf` must be a fault on `page`, which [`KnownPages::page`] must have returned for this fault.
/// The memory of the extent must be kept.
#[inline]
unsafe fn insert_known_page(
    vmf: *mut bindings::vm_fault,
    page: *mut bindings::page,
) -> bindings::vm_fault_t {
    let folio = page.cast::<bindings::folio>();
    // The page may have no user yet.
    // SAFETY: By the invariant of `KnownPages` this is a single page until the fault is handled,
    // which is a folio of its own. The memory is not going away.
    unsafe { bindings::folio_ref_inc(folio) };
    // SAFETY: The address is in the area, which is locked. There is a reference to the page.
    let result = unsafe { bindings::vmf_insert_page_mkwrite(vmf, page, false) };
    // SAFETY: The reference was got above.
    unsafe { bindings::folio_put(folio) };
    result
}
