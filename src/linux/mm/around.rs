// SPDX-License-Identifier: GPL-2.0-only

//! Fault-around: a read fault on a page also maps the pages around it that can be mapped.
//!
//! The page cache does the same, from `vm_ops->map_pages`, which must not sleep. The DAX code
//! allocates entries for pages that are new to it, so we do it in the fault handler.
//!
//! Once a DAX fault maps the pages around it up to the end of the iomap, drop everything for DAX
//! devices here, and let iomaps end before unusable pages.

use super::fault::Kept;
use super::pmd::NoPmd;
use super::{
    Fault,
    FaultResult,
    MapMethod,
    Memory,
    Page,
    PageCopy,
    PAGE_SIZE, //
};
use crate::linux::prelude::*;

/// Number of pages that one fault maps at most, as in the page cache by default with pages of
/// 4 KiB.
const AROUND: u64 = bindings::AROUND as u64;

/// Number of attempts to map the faulting page.
const ATTEMPTS: usize = 8;

/// Number of pages that a page table maps.
const PAGES_OF_TABLE: u64 = bindings::PMD_SIZE / PAGE_SIZE;

impl<'a, C> Fault<'a, C> {
    /// Makes the DAX code map an entry of the order of the fault, while `memory` is the file's.
    #[inline]
    pub(crate) fn map_dax(&self, memory: ArcBorrow<'_, Memory>) -> FaultResult<'a> {
        match Kept::new(self, memory) {
            Some(kept) if matches!(kept.method(), MapMethod::Dax(_)) => {
                // SAFETY: The fault is on a DAX device, and `kept` keeps its memory.
                unsafe { self.result(bindings::dax_iomap_fault(self.as_raw(), self.order())) }
            }
            _ => FaultResult::SIGBUS,
        }
    }

    /// Maps the faulting page, which the file or its copy of the last page has, while `memory` is
    /// the file's. For a read, also map the pages around it. Leaves pages that cannot be mapped, or
    /// are not `usable`, to later faults. For a write, which must be to a private mapping, passes
    /// the page to the MM for copying.
    pub(crate) fn map_pages(
        &self,
        memory: ArcBorrow<'_, Memory>,
        usable: impl Fn(u64, u64) -> bool,
    ) -> FaultResult<'a> {
        let here = self.page();
        let kept = Kept::new(self, memory);
        let Some(kept) = kept.filter(|kept| here < kept.pages()) else {
            return FaultResult::SIGBUS;
        };
        if self.is_write() {
            if let Some(result) = self.give(&kept) {
                return result;
            }
        }
        let no_pmd = NoPmd::new(self, &kept);
        if no_pmd.is_some() && self.is_huge() {
            // SAFETY: The entry is set.
            return unsafe { self.result(bindings::VM_FAULT_NOPAGE) };
        }
        // SAFETY: `no_pmd` excludes PMD entries, and `find_known` leaves out pages that could be in
        // one of a DAX device. This is the result of handling the fault.
        unsafe { self.result(Around::new(self, &kept).map(usable)) }
    }
}

/// A fault on a page table, and the pages that it may map.
///
/// # Invariants
///
/// `pages` have entries in the page table and in the area of the fault. No PMD entry is set there.
///
/// The page of each bit that is set in `known` follows `first` by the number of the bit. It belongs
/// to the space as a single page, a folio of its own, while the fault is handled: the space forgets
/// its pages without users or after a revocation only, and a fault excludes both.
struct Around<'f, 'a, C> {
    fault: &'f Fault<'a, C>,
    kept: &'f Kept<'f>,
    pages: Range<u64>,
    first: *mut bindings::page,
    known: u32,
}

impl<'f, 'a, C> Around<'f, 'a, C> {
    /// Finds the pages around `fault`: up to [`AROUND`] for a read, and one for a write.
    ///
    /// # Safety
    ///
    /// No PMD entry may be set there.
    unsafe fn new(fault: &'f Fault<'a, C>, kept: &'f Kept<'f>) -> Self {
        let (vma, first, last) = fault.area();
        let (here, at) = (fault.page(), fault.address() as u64 / PAGE_SIZE);
        // INVARIANT: No page is known, and the caller guarantees the rest.
        let mut this = Around {
            fault,
            kept,
            pages: here..here + 1,
            first: ptr::null_mut(),
            known: 0,
        };
        if fault.is_write() {
            return this;
        }
        // SAFETY: The area is locked while the fault is handled.
        if !unsafe { bindings::uffd_disable_fault_around(vma) } {
            // Counted from where the area or the page table starts, ranges of an area do not
            // overlap.
            let in_table = at % PAGES_OF_TABLE;
            let before = (at - first / PAGE_SIZE).min(in_table) % AROUND;
            let after = (AROUND - 1 - before)
                .min(PAGES_OF_TABLE - 1 - in_table)
                .min(last / PAGE_SIZE - at);
            this.pages = here - before..here + after + 1;
            if this.pages.end > kept.length / PAGE_SIZE {
                this.leave_out_copies();
            }
        }
        this.find_known();
        this
    }

    /// Drops all pages starting with the first one whose copy is required but does not exist yet.
    #[cold]
    fn leave_out_copies(&mut self) {
        let (whole, here) = (self.kept.length / PAGE_SIZE, self.fault.page());
        let is_made = |page: &u64| {
            let made = || self.kept.copy(*page).and_then(PageCopy::good).is_some();
            *page == here || *page < whole || made()
        };
        let before = (self.pages.start..here).rev().take_while(is_made).count() as u64;
        let after = (here..self.pages.end).take_while(is_made).count() as u64;
        self.pages = here - before..here + after;
    }

    /// Finds out which of the pages belong to the space, if it is on a DAX device.
    ///
    /// Pages of a PMD entry are left to the DAX code: its entry lock keeps other threads from
    /// mapping them by such an entry at the same time. If the DAX code already has an entry for a
    /// single page, it maps single pages only.
    fn find_known(&mut self) {
        let Range { start, end } = self.pages;
        let count = end.min(self.kept.length / PAGE_SIZE).saturating_sub(start) as u32;
        let (MapMethod::Dax(_), Some(frame)) = (self.kept.method(), self.kept.frame(start)) else {
            return;
        };
        if count == 0 {
            return;
        }
        let mapping = self.kept.as_raw().as_ptr();
        // INVARIANT: The bits stand for pages that belong to the space.
        // SAFETY: By the invariant of `Memory` memory of a DAX device has struct pages. The frames
        // of the pages, which are in the space, are contiguous. Fault handlers hold no locks of
        // address spaces.
        unsafe {
            self.first = bindings::pfn_to_page(frame);
            self.known = bindings::dax_single_pages(mapping, start as usize, self.first, count);
        }
    }

    /// Returns page `page` of `pages`, if it belongs to the space according to the DAX code.
    #[inline]
    fn known(&self, page: u64) -> Option<*mut bindings::page> {
        let number = page - self.pages.start;
        (self.known >> number & 1 != 0).then(|| self.first.wrapping_add(number as usize))
    }

    /// Maps the pages. Returns the result for the faulting one.
    fn map(self, usable: impl Fn(u64, u64) -> bool) -> bindings::vm_fault_t {
        let (fault, here, start) = (self.fault, self.fault.page(), self.pages.start);
        // Usable pages stay usable. A failed page is unmapped once this fault releases the memory.
        let offset = self.kept.offset;
        let usable = |page: u64, count: u64| usable(offset + page * PAGE_SIZE, count * PAGE_SIZE);
        let count = self.pages.end.saturating_sub(start);
        let all_usable = count > 1 && usable(start, count);
        if all_usable && self.insert_together() {
            fault.set_around();
            return bindings::VM_FAULT_NOPAGE;
        }
        // A write first inserts the page like a read and then faults again, so that the MM can copy
        // the page. The copy that the DAX code makes for a write does not survive a machine check.
        // SAFETY: The fault is valid. The copy of it is used here only.
        let mut vmf = unsafe { fault.as_raw().read() };
        vmf.flags &= !bindings::FAULT_FLAG_WRITE;
        vmf.cow_page = ptr::null_mut();
        // MADV_DONTNEED of another thread frees a page table without entries (CONFIG_PT_RECLAIM).
        // If that happens after the MM found the table for this page but before the MM locks the
        // table, the MM reports that memory is short, and a system call would fail with EFAULT.
        // SAFETY: This is a copy of the fault, changed to a read.
        let mut results = (0..ATTEMPTS).map(|_| unsafe { self.map_page(&mut vmf, here) });
        let result = results
            .find(|result| result & bindings::VM_FAULT_OOM == 0)
            .unwrap_or(bindings::VM_FAULT_OOM);
        // A PMD entry that another thread has set maps the pages around as well.
        if result != bindings::VM_FAULT_NOPAGE || fault.is_huge() {
            return result;
        }
        let first = fault.address() as u64 - (here - start) * PAGE_SIZE;
        for page in self.pages.clone() {
            if page == here || !all_usable && !usable(page, 1) {
                continue;
            }
            let address = (first + (page - start) * PAGE_SIZE) as usize;
            vmf.__bindgen_anon_1.pgoff = page as usize;
            vmf.__bindgen_anon_1.address = address;
            vmf.__bindgen_anon_1.real_address = address;
            // SAFETY: The copy was made a fault on the page.
            if unsafe { self.map_page(&mut vmf, page) } != bindings::VM_FAULT_NOPAGE {
                break;
            }
            fault.set_around();
        }
        result
    }

    /// Inserts all of the pages in one call. Returns false if that is not possible: the DAX code
    /// does not know one of them, they lack struct pages, one of the entries is set, or memory is
    /// short. Some may have been inserted then. The caller has checked that all pages are usable.
    fn insert_together(&self) -> bool {
        let mut list = [ptr::null_mut(); AROUND as usize];
        let mut count = 0;
        for (place, page) in list.iter_mut().zip(self.pages.clone()) {
            let known = self.known(page);
            let Some(found) = known.or_else(|| self.kept.page(page).map(Page::as_raw)) else {
                return false;
            };
            *place = found;
            count += 1;
        }
        let held = match self.kept.method() {
            // These pages may not have a user yet.
            MapMethod::Dax(_) => count,
            // The other pages have a reference.
            _ => 0,
        };
        for page in list.iter().take(held) {
            // SAFETY: By the type invariant this is a folio, as the copy is. The memory is kept.
            unsafe { bindings::folio_ref_inc(page.cast()) };
        }
        let (vma, _, _) = self.fault.area();
        let before = (self.fault.page() - self.pages.start) * PAGE_SIZE;
        let start = (self.fault.address() as u64 - before) as usize;
        // SAFETY: The area is locked and has `pages`. The first `count` places of the list have
        // them, with a reference to each.
        let result = unsafe { bindings::map_kernel_pages(vma, start, list.as_mut_ptr(), count) };
        for page in list.iter().take(held) {
            // SAFETY: The reference was got above.
            unsafe { bindings::put_page(*page) };
        }
        result == 0
    }

    /// Maps one of the pages.
    ///
    /// # Safety
    ///
    /// `vmf` must be the fault, or a copy that was made a fault on `page`.
    #[inline]
    unsafe fn map_page(&self, vmf: *mut bindings::vm_fault, page: u64) -> bindings::vm_fault_t {
        let Some(known) = self.known(page) else {
            // SAFETY: The caller guarantees what this requires.
            return unsafe { map_unknown_page(vmf, self.kept, page) };
        };
        // Like the DAX code. The page may not have a user yet.
        // SAFETY: By the type invariant this is a folio, and the memory is kept. The area is
        // locked. The page is inserted with a reference.
        unsafe {
            bindings::folio_ref_inc(known.cast());
            let result = bindings::vmf_insert_page_mkwrite(vmf, known, false);
            bindings::put_page(known);
            result
        }
    }
}

/// Maps a page that the DAX code may not know yet.
///
/// # Safety
///
/// `vmf` must be a fault on `page`, for which no PMD entry may be set.
#[inline(never)]
unsafe fn map_unknown_page(
    vmf: *mut bindings::vm_fault,
    kept: &Kept<'_>,
    page: u64,
) -> bindings::vm_fault_t {
    if let Some(page) = kept.page(page) {
        // SAFETY: The area is locked. The page has a reference.
        return unsafe { bindings::vmf_insert_page_mkwrite(vmf, page.as_raw(), false) };
    }
    if let MapMethod::Dax(_) = kept.method() {
        // SAFETY: This is a fault on a space on a DAX device, and `kept` keeps its memory.
        return unsafe { bindings::dax_iomap_fault(vmf, 0) };
    }
    let Some(frame) = kept.frame(page).filter(|_| page < kept.length / PAGE_SIZE) else {
        return bindings::VM_FAULT_SIGBUS;
    };
    // SAFETY: The fault's area is locked, and a mixed one by the invariant of `Fault`. The frame is
    // kept until it is unmapped.
    unsafe {
        let place = &(*vmf).__bindgen_anon_1;
        bindings::vmf_insert_mixed(place.vma, place.address, frame)
    }
}
