// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is known to have failed, by the numbers of its page frames.
//!
//! The kernel marks the struct page of failed memory. Checking it costs more than the rest of a
//! small read, so pages are not checked before any memory of the machine has failed.

use crate::bindings;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

/// Set if memory of this machine has failed, or if the kernel does not report failures.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Return true if any memory has failed, so that pages must be checked.
#[inline]
pub(crate) fn any() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Have pages checked from now on.
pub(crate) fn check_pages() {
    FAILED.store(true, Ordering::Release);
}

/// The struct page of a page frame.
///
/// # Invariants
///
/// `page` is valid, and `folio` is the folio that it is part of.
struct Frame {
    page: *mut bindings::page,
    folio: *mut bindings::folio,
}

impl Frame {
    /// Return the struct page of page frame `frame`, if it has one.
    fn new(frame: usize) -> Option<Self> {
        if !has_page(frame) {
            return None;
        }
        // SAFETY: The frame has a struct page.
        let page = unsafe { bindings::pfn_to_page(frame) };
        // SAFETY: The struct page is valid.
        let folio = unsafe { bindings::page_folio(page) };
        // INVARIANT: They were looked up above.
        Some(Frame { page, folio })
    }

    fn is_hugetlb(&self) -> bool {
        // SAFETY: By the type invariant the folio is valid.
        unsafe { bindings::folio_test_hugetlb(self.folio) }
    }

    /// Return the first page frame of the folio.
    fn first(&self) -> usize {
        // SAFETY: By the type invariant the folio is valid.
        unsafe { bindings::folio_pfn(self.folio) }
    }
}

/// Return true if page frame `frame` has a struct page.
pub(crate) fn has_page(frame: usize) -> bool {
    // SAFETY: This takes any number.
    unsafe { bindings::pfn_valid(frame) }
}

/// Return true if the memory of page frame `frame` is known to have failed.
pub(crate) fn frame_has_failed(frame: usize) -> bool {
    let Some(found) = Frame::new(frame) else {
        return false;
    };
    // SAFETY: By the type invariant the struct page is valid.
    let failed = unsafe { bindings::page_hwpoison(found.page) };
    // hugetlb marks the folio only.
    // SAFETY: By the type invariant the folio is valid.
    failed || found.is_hugetlb() && unsafe { bindings::folio_test_hwpoison(found.folio) }
}

/// Return the first page frame of the folio that page frame `frame` is part of.
pub(crate) fn first_of_folio(frame: usize) -> usize {
    Frame::new(frame).map_or(frame, |found| found.first())
}

/// Return the page frames that fail with page frame `frame`: a hugetlb folio fails as a whole.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(crate) fn failing_with(frame: usize) -> Range<usize> {
    match Frame::new(frame) {
        Some(found) if found.is_hugetlb() => {
            // SAFETY: By the type invariant the folio is valid.
            let count = unsafe { bindings::folio_nr_pages(found.folio) };
            found.first()..found.first() + count
        }
        _ => frame..frame + 1,
    }
}

/// Return the page of its file that page frame `frame` is, if it has a struct page and a file.
#[cfg(CONFIG_TRACEPOINTS)]
pub(crate) fn page_of_file(frame: usize) -> Option<usize> {
    // SAFETY: By the type invariant the struct page is valid.
    Frame::new(frame).map(|found| unsafe { bindings::page_pgoff(found.page) })
}

/// Mark page frame `frame` as failed, if it has a struct page.
pub(crate) fn mark(frame: usize) {
    check_pages();
    if let Some(found) = Frame::new(frame) {
        // SAFETY: By the type invariant the struct page is valid.
        unsafe { bindings::set_page_hwpoison(found.page) };
    }
}

/// Remove the mark of page frame `frame`.
pub(crate) fn unmark(frame: usize) {
    if let Some(found) = Frame::new(frame) {
        // SAFETY: By the type invariant the struct page is valid.
        unsafe { bindings::clear_page_hwpoison(found.page) };
    }
}

/// Return true if memory has failed since boot.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(crate) fn failed_before() -> bool {
    #[cfg(CONFIG_MEMORY_FAILURE)]
    for node in 0..bindings::MAX_NUMNODES {
        // SAFETY: This takes any number of a possible node. An online node has the data.
        if unsafe { bindings::node_online(node) && bindings::node_failures(node) > 0 } {
            return true;
        }
    }
    false
}
