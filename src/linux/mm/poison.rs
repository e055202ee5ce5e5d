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

/// Return true if page frame `frame` has a struct page.
pub(crate) fn has_page(frame: usize) -> bool {
    // SAFETY: This takes any number.
    unsafe { bindings::pfn_valid(frame) }
}

/// Return true if the memory of page frame `frame` is known to have failed.
pub(crate) fn frame_has_failed(frame: usize) -> bool {
    // SAFETY: This takes any number.
    unsafe { bindings::pfn_hwpoison(frame) }
}

/// Return the first page frame of the folio that page frame `frame` is part of, and the page frames
/// that fail with it: a hugetlb folio fails as a whole.
fn folio_of(frame: usize) -> (usize, Range<usize>) {
    let mut count = 1;
    // SAFETY: This takes any number.
    match (unsafe { bindings::pfn_folio(frame, &mut count) }, count) {
        (first, 1) => (first, frame..frame + 1),
        (first, count) => (first, first..first + count),
    }
}

/// Return the first page frame of the folio that page frame `frame` is part of.
pub(crate) fn first_of_folio(frame: usize) -> usize {
    folio_of(frame).0
}

/// Return the page frames that fail with page frame `frame`.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(crate) fn failing_with(frame: usize) -> Range<usize> {
    folio_of(frame).1
}

/// Return the page of its file that page frame `frame` is, if it has a struct page and a file.
#[cfg(CONFIG_TRACEPOINTS)]
pub(crate) fn page_of_file(frame: usize) -> Option<usize> {
    // SAFETY: The frame has a struct page.
    has_page(frame).then(|| unsafe { bindings::pfn_pgoff(frame) })
}

/// Mark page frame `frame` as failed, if it has a struct page.
pub(crate) fn mark(frame: usize) {
    check_pages();
    // SAFETY: This takes any number.
    unsafe { bindings::pfn_set_hwpoison(frame, true) };
}

/// Remove the mark of page frame `frame`.
pub(crate) fn unmark(frame: usize) {
    // SAFETY: This takes any number.
    unsafe { bindings::pfn_set_hwpoison(frame, false) };
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
