// SPDX-License-Identifier: GPL-2.0-only

//! Fault-around: a read fault on a page also maps the pages around it that can be mapped.
//!
//! The page cache does the same, from `vm_ops->map_pages`, which must not sleep. Pages that the DAX
//! code does not know yet need memory for their entries. So here the fault handler does it.

use super::kept::Kept;
#[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
use super::pmd::NoPmd;
use super::{Fault, FaultResult, MapMethod, Mapping, Memory, Page, PAGE_SIZE};
use crate::bindings;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr;

/// Number of pages that one fault maps at most, as in the page cache by default with pages of
/// 4 KiB.
const AROUND: u64 = 16;

/// Number of pages that a page table maps.
const PAGES_OF_TABLE: u64 = bindings::PMD_SIZE / PAGE_SIZE;

impl<'a, M: Mapping> Fault<'a, M> {
    /// Have the DAX code map an entry of the order of the fault, while `memory` is that of the
    /// file.
    #[inline]
    pub(crate) fn map_dax(&self, memory: &Memory) -> FaultResult<'a> {
        match Kept::new(self, memory).map(|kept| kept.method()) {
            Some(MapMethod::Dax(_)) => {
                // SAFETY: The fault is on a DAX device, whose memory is kept.
                let raw = unsafe { bindings::dax_iomap_fault(self.as_raw(), self.order()) };
                // SAFETY: This is the result of handling the fault.
                unsafe { self.result(raw) }
            }
            _ => FaultResult::SIGBUS,
        }
    }

    /// Map the faulting page, which the file or its copy of the last page has, while `memory` is
    /// that of the file. For a read, also map the pages around it. Pages that cannot be mapped, or
    /// that are not `usable`, are left to faults of their own.
    pub(crate) fn map_pages(
        &self,
        memory: &Memory,
        usable: impl Fn(u64, u64) -> bool,
    ) -> FaultResult<'a> {
        let Some(kept) = Kept::new(self, memory) else {
            return FaultResult::SIGBUS;
        };
        let here = self.page();
        if here > kept.length() / PAGE_SIZE {
            return FaultResult::SIGBUS;
        }
        if self.is_write() {
            // The MM copies the page. Then it need not be inserted first.
            // SAFETY: The page was compared with the length.
            if let Some(page) = unsafe { kept.page(here) } {
                return self.give(page);
            }
        }
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        let no_pmd = NoPmd::new(self, kept);
        // Another thread may have set a PMD entry since the MM looked.
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        // SAFETY: The fault is valid, and has a PMD.
        if no_pmd.is_some() && unsafe { bindings::vmf_pmd_is_huge(self.as_raw()) } {
            // SAFETY: The entry is set.
            return unsafe { self.result(bindings::VM_FAULT_NOPAGE) };
        }
        // SAFETY: The current thread handles the fault, and the page is there. A PMD entry is
        // excluded while `no_pmd` exists.
        let result = unsafe { map_around(self, kept, usable) };
        // SAFETY: This is the result of handling the fault.
        unsafe { self.result(result) }
    }
}

/// Do what [`Fault::map_pages`] does.
///
/// # Safety
///
/// The space must have the page of the fault. Nobody must set a PMD entry there.
unsafe fn map_around<M: Mapping>(
    fault: &Fault<'_, M>,
    kept: Kept<'_>,
    usable: impl Fn(u64, u64) -> bool,
) -> bindings::vm_fault_t {
    let here = fault.page();
    let pages = around(fault, kept);
    // What is usable now stays so. If a page fails, it is unmapped when the memory is let go.
    let usable =
        |page: u64, count: u64| usable(kept.offset() + page * PAGE_SIZE, count * PAGE_SIZE);
    let count = pages.end - pages.start;
    let all_usable = count > 1 && usable(pages.start, count);
    let known = match fault.is_write() {
        false => KnownPages::new(kept, &pages),
        true => KnownPages::NONE,
    };
    // SAFETY: The caller guarantees what this requires.
    if all_usable && unsafe { insert_together(fault, kept, &pages, &known) } {
        fault.set_around();
        return bindings::VM_FAULT_NOPAGE;
    }
    let vmf = fault.as_raw();
    // SAFETY: This is a fault on the page.
    let result = unsafe { map_page(vmf, kept, here, known.page(here - pages.start)) };
    if result != bindings::VM_FAULT_NOPAGE {
        return result;
    }
    // SAFETY: The fault is valid. The copy is used for other pages only.
    let mut near = unsafe { vmf.read() };
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
        // SAFETY: The copy was made a fault on the page.
        let mapped = unsafe { map_page(&mut near, kept, page, known.page(number)) };
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
/// `pages` must be what [`around`] returns for `fault`, and `known` be about them. Nobody must set a
/// PMD entry there.
unsafe fn insert_together<M: Mapping>(
    fault: &Fault<'_, M>,
    kept: Kept<'_>,
    pages: &Range<u64>,
    known: &KnownPages<'_>,
) -> bool {
    let mut list = [ptr::null_mut(); AROUND as usize];
    let mut count = 0;
    for (place, page) in list.iter_mut().zip(pages.clone()) {
        // SAFETY: `around` found that the space has this page, or a copy.
        let found = unsafe { kept.page(page) }.map(Page::as_raw);
        let found = found.or_else(|| known.page(page - pages.start));
        match found {
            Some(found) => *place = found,
            None => return false,
        }
        count += 1;
    }
    let held = match kept.method() {
        // They may have no user yet.
        MapMethod::Dax(_) => count,
        // The others have a reference.
        _ => 0,
    };
    for page in list.iter().take(held) {
        // SAFETY: By the invariant of `KnownPages` this is a single page until the fault is
        // handled, as the copy is, and so a folio of its own. The memory is not going away.
        unsafe { bindings::folio_ref_inc(page.cast()) };
    }
    let (vma, _, _) = fault.area();
    let start = fault.address() as u64 - (fault.page() - pages.start) * PAGE_SIZE;
    // SAFETY: The area is locked, and the function checks that `pages` are in it. The first `count`
    // places of the list have them, with a reference to each.
    let result =
        unsafe { bindings::map_kernel_pages(vma, start as usize, list.as_mut_ptr(), count) };
    for page in list.iter().take(held) {
        // SAFETY: The reference was got above.
        unsafe { bindings::folio_put(page.cast()) };
    }
    result == 0
}

/// Map the page `page` of a space, or the copy of its last page, as `vmf` says.
///
/// # Safety
///
/// `vmf` must be a fault on that page, which the space must have, or on the copy. `known` must be
/// what [`KnownPages::page`] returns for this fault and page. Nobody must set a PMD entry there.
#[inline]
unsafe fn map_page(
    vmf: *mut bindings::vm_fault,
    kept: Kept<'_>,
    page: u64,
    known: Option<*mut bindings::page>,
) -> bindings::vm_fault_t {
    match known {
        Some(known) => {
            let folio = known.cast::<bindings::folio>();
            // The DAX code inserts a page in the same way. It may have no user yet.
            // SAFETY: By the invariant of `KnownPages` this is a single page until the fault is
            // handled, which is a folio of its own. The memory is not going away.
            unsafe { bindings::folio_ref_inc(folio) };
            // SAFETY: The area is locked. There is a reference to the page.
            let result = unsafe { bindings::vmf_insert_page_mkwrite(vmf, known, false) };
            // SAFETY: The reference was got above.
            unsafe { bindings::folio_put(folio) };
            result
        }
        // SAFETY: The caller guarantees what this requires.
        None => unsafe { map_unknown_page(vmf, kept, page) },
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
    kept: Kept<'_>,
    page: u64,
) -> bindings::vm_fault_t {
    // SAFETY: The caller guarantees that the space has this page, or a copy.
    if let Some(page) = unsafe { kept.page(page) } {
        // SAFETY: The area is locked. The page has a reference.
        return unsafe { bindings::vmf_insert_page_mkwrite(vmf, page.as_raw(), false) };
    }
    if page >= kept.length() / PAGE_SIZE {
        return bindings::VM_FAULT_SIGBUS;
    }
    if let MapMethod::Dax(_) = kept.method() {
        // SAFETY: This is a fault on a page of a space on a DAX device, whose memory is kept.
        return unsafe { bindings::dax_iomap_fault(vmf, 0) };
    }
    // SAFETY: The space has this page.
    let frame = unsafe { kept.frame(page) };
    // SAFETY: The fault is valid.
    let place = unsafe { &(*vmf).__bindgen_anon_1 };
    // SAFETY: The area is locked, and a mixed one by the invariant of `Fault`. The frame is kept
    // until it is unmapped.
    unsafe { bindings::vmf_insert_mixed(place.vma, place.address, frame) }
}

/// Return the pages that `fault` may map: up to [`AROUND`], in one page table, in the memory area
/// and in the file.
fn around<M: Mapping>(fault: &Fault<'_, M>, kept: Kept<'_>) -> Range<u64> {
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
    let count = kept.length() / PAGE_SIZE + u64::from(kept.copy().good().is_some());
    here - before..(here + after + 1).min(count)
}

/// Pages near a fault that belong to the space as single pages, according to the DAX code.
///
/// # Invariants
///
/// The page of each bit that is set follows `first` by the number of the bit. It belongs to the
/// space while the fault is handled: the space forgets its pages without users or after a
/// revocation only, and a fault excludes both.
struct KnownPages<'f> {
    first: *mut bindings::page,
    bits: u32,
    _fault: PhantomData<Kept<'f>>,
}

impl<'f> KnownPages<'f> {
    /// No pages.
    // INVARIANT: No bit is set.
    const NONE: Self = KnownPages {
        first: ptr::null_mut(),
        bits: 0,
        _fault: PhantomData,
    };

    /// Find out which of `pages` belong to the space, if it is on a DAX device.
    ///
    /// Pages of a PMD entry are left to the DAX code, whose entry lock keeps other threads from
    /// mapping them by such an entry at the same time. If it already has an entry of a single page,
    /// it maps by pages only.
    fn new(kept: Kept<'f>, pages: &Range<u64>) -> Self {
        let end = pages.end.min(kept.length() / PAGE_SIZE);
        if !matches!(kept.method(), MapMethod::Dax(_)) || pages.start >= end {
            return Self::NONE;
        }
        let mapping = kept.as_raw().as_ptr();
        // SAFETY: The space has this page.
        let frame = unsafe { kept.frame(pages.start) };
        // SAFETY: By the invariant of `Memory` memory of a DAX device has struct pages.
        let first = unsafe { bindings::pfn_to_page(frame) };
        let mut bits = 0;
        // The DAX code sets the owner of a page and stores its entry under this lock.
        // SAFETY: The address space is valid, and fault handlers hold no locks of address spaces.
        unsafe { bindings::xa_lock_irq(&raw mut (*mapping).i_pages) };
        for number in 0..end - pages.start {
            // The frames are contiguous by the invariant of `Memory`. With
            // CONFIG_SPARSEMEM_VMEMMAP, which DAX needs, their struct pages are, too.
            let page = first.wrapping_add(number as usize);
            // SAFETY: So this is the struct page of one of `pages`, which are in the space.
            let single = !unsafe { bindings::page_compound(page) };
            let folio = page.cast::<bindings::folio>();
            // SAFETY: A single page is a folio of its own. Its owner changes under the lock only.
            if single && unsafe { (*folio).__bindgen_anon_1.__bindgen_anon_1.mapping } == mapping {
                bits |= 1 << number;
            }
        }
        // SAFETY: The lock was taken above.
        unsafe { bindings::xa_unlock_irq(&raw mut (*mapping).i_pages) };
        // INVARIANT: The pages whose bits are set belong to the space.
        KnownPages {
            first,
            bits,
            _fault: PhantomData,
        }
    }

    /// Return page `number` of those that were looked at, if it belongs to the space.
    #[inline]
    fn page(&self, number: u64) -> Option<*mut bindings::page> {
        (self.bits >> number & 1 != 0).then(|| self.first.wrapping_add(number as usize))
    }
}
