// SPDX-License-Identifier: GPL-2.0-only

//! PMD entries for memory without a DAX device.

use super::fault::Kept;
use super::poison::has_page;
use super::{
    Fault,
    FaultResult,
    MapMethod,
    Memory,
    Space,
    PAGE_SIZE, //
};
use crate::linux::prelude::*;

const PMD_SIZE: u64 = bindings::PMD_SIZE;

/// Number of pages that a PMD entry maps.
const PAGES: usize = (PMD_SIZE / PAGE_SIZE) as usize;

/// Returns the first page of the 2 MiB around `fault`, if the file and the area have all of them. A
/// PMD entry can be set only there.
fn whole<C>(fault: &Fault<'_, C>, space: &Space) -> Option<u64> {
    let (_, area_start, area_end) = fault.area();
    let start = fault.address() as u64 & !(PMD_SIZE - 1);
    let before = fault.address() as u64 % PMD_SIZE / PAGE_SIZE;
    let first = fault.page().checked_sub(before)?;
    // Without huge pages, the kernel has no functions that insert PMD entries.
    let fits = cfg!(CONFIG_TRANSPARENT_HUGEPAGE)
        && start >= area_start
        && start + (PMD_SIZE - 1) <= area_end
        && first * PAGE_SIZE + PMD_SIZE <= space.length;
    fits.then_some(first)
}

/// Returns the lock that excludes PMD entries and pages: inserting pages takes it for reading,
/// inserting PMD entries for writing. It is otherwise unused without a page cache.
fn lock_of(space: &Space) -> *mut bindings::rw_semaphore {
    // SAFETY: The address space is valid, and this is the address of a field.
    unsafe { &raw mut (*space.as_raw().as_ptr()).invalidate_lock }
}

/// Keeps other threads from setting PMD entries while this one inserts pages: the MM expects a page
/// table there.
///
/// # Invariants
///
/// Holds the lock for reading.
pub(super) struct NoPmd<'f>(&'f Space);

impl<'f> NoPmd<'f> {
    /// Excludes PMD entries around `fault`. Returns `None` if there cannot be any.
    pub(super) fn new<C>(fault: &'f Fault<'_, C>, kept: &Kept<'f>) -> Option<Self> {
        if let MapMethod::Dax(_) = kept.method() {
            // The DAX code locks its entries.
            return None;
        }
        let first = whole(fault, kept.space)?;
        let frame = kept.frame(fault.page())?;
        // A PMD entry maps contiguous frames from an aligned one on.
        if frame % PAGES != (fault.page() - first) as usize {
            return None;
        }
        // SAFETY: The lock is valid, and a fault handler may sleep.
        unsafe { bindings::down_read(lock_of(kept.space)) };
        // INVARIANT: The lock was taken above.
        Some(NoPmd(kept.space))
    }
}

impl Drop for NoPmd<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this holds the lock.
        unsafe { bindings::up_read(lock_of(self.0)) };
    }
}

impl<'a, C> Fault<'a, C> {
    /// Inserts a PMD entry. Returns `None` unless the file, its `memory` and the area have 2 MiB
    /// around the fault, which are `usable`.
    pub(crate) fn insert_pmd(
        &self,
        memory: ArcBorrow<'_, Memory>,
        usable: impl Fn(u64, u64) -> bool,
    ) -> Option<FaultResult<'a>> {
        // A write to a private mapping copies single pages. PUD entries are not safe: munmap() of a
        // part of one can crash the kernel, see Documentation/design.rst.
        if self.order() != bindings::PMD_ORDER || self.is_write() {
            return None;
        }
        let kept = Kept::new(self, memory)?;
        let by_frame = matches!(kept.method(), MapMethod::Frames(_));
        if by_frame && !cfg!(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP) {
            // The MM would treat the pages as counted, and drop counts that it never took.
            return None;
        }
        let first = whole(self, kept.space)?;
        if !usable(kept.offset + first * PAGE_SIZE, PMD_SIZE) {
            return None;
        }
        let frame = kept.frame(first)?;
        // Reading /proc/PID/pagemap needs the struct page of a PMD entry.
        if frame % PAGES != 0 || !has_page(frame) {
            return None;
        }
        let folio = match kept.method() {
            MapMethod::Dax(_) => return None,
            MapMethod::Frames(_) => None,
            MapMethod::Pages => {
                let page = kept.page(first)?.as_raw();
                // SAFETY: The page has a reference, so its folio does not change.
                let folio = unsafe { bindings::folio_of_order(page, bindings::PMD_ORDER) };
                Some(NonNull::new(folio)?)
            }
        };
        // A folio of this order is aligned, so the first page is the folio's, and its other pages
        // follow, as the owner of the memory guarantees. Frames may be in any order.
        let follows = |next: usize| kept.frame(first + next as u64) == Some(frame + next);
        if folio.is_none() && !(1..PAGES).all(follows) {
            return None;
        }
        let (vmf, lock) = (self.as_raw(), lock_of(kept.space));
        // SAFETY: The lock is valid, and a fault handler may sleep. The area has room for the
        // entry. The folio has a reference, and the frames are kept until they are unmapped. If
        // there is a page table, no entry is set. This is the result of handling the fault.
        Some(unsafe {
            bindings::down_write(lock);
            let result = match folio {
                Some(folio) => bindings::vmf_insert_folio_pmd(vmf, folio.as_ptr(), false),
                None => bindings::vmf_insert_pfn_pmd(vmf, frame, false),
            };
            bindings::up_write(lock);
            self.result(result)
        })
    }
}
