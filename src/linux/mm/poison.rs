// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is known to have failed, by the numbers of its page frames.
//!
//! The kernel marks the struct page of failed memory. Checking it costs more than the rest of a
//! small read, so we check pages only in memory where one has failed.

use crate::linux::prelude::*;

/// Set if some of this machine's memory may have failed.
static FAILED: Atomic<bool> = Atomic::new(false);

/// Set if the kernel does not report failures.
static UNREPORTED: Atomic<bool> = Atomic::new(false);

/// The number of a page frame that the kernel marks although it is intact, or [`NONE`].
static SPARED: Atomic<usize> = Atomic::new(NONE);

/// Not the number of a page frame.
const NONE: usize = usize::MAX;

/// Returns true if any memory may have failed.
#[inline]
pub(crate) fn any() -> bool {
    read_once(&FAILED)
}

/// Returns true if the kernel reports failures.
pub(crate) fn all_reported() -> bool {
    !read_once(&UNREPORTED)
}

/// Records that some memory has failed.
pub(crate) fn set_any() {
    FAILED.store(true, Release);
}

/// Records that the kernel does not report failures.
pub(crate) fn set_unreported() {
    UNREPORTED.store(true, Release);
    set_any();
}

/// Returns true if page frame `frame` has a struct page.
pub(in crate::linux) fn has_page(frame: usize) -> bool {
    // SAFETY: The function looks the number up.
    unsafe { bindings::pfn_valid(frame) != 0 }
}

/// A page frame of memory that this module uses, so that it may be marked.
///
/// # Invariants
///
/// Its struct page, if it has one, stays for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a>(usize, PhantomData<&'a ()>);

impl Frame<'_> {
    /// # Safety
    ///
    /// The caller must use the memory, and guarantee the invariant.
    pub(in crate::linux) unsafe fn new(frame: usize) -> Self {
        // INVARIANT: The caller guarantees it.
        Frame(frame, PhantomData)
    }

    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// Returns the first page frame of the folio.
    pub(crate) fn first_of_folio(self) -> Self {
        // SAFETY: By the type invariant the struct page stays.
        let first = unsafe { bindings::pfn_folio(self.0) };
        // INVARIANT: The pages of a folio stay together.
        Frame(first, PhantomData)
    }

    /// Returns true if the memory is known to have failed.
    pub(crate) fn has_failed(self) -> bool {
        // SAFETY: By the type invariant the struct page stays.
        let is_marked = || unsafe { bindings::pfn_hwpoison(self.0) };
        if !is_marked() {
            return false;
        }
        // The number was stored before the mark was set. If it was removed since, so was the mark.
        // This reads the number, with a full barrier.
        SPARED.fetch_add(0, Full) != self.0 && is_marked()
    }

    /// Marks the page frame as failed, if it has a struct page.
    pub(crate) fn mark(self) {
        set_any();
        self.set(true);
    }

    /// Calls `mark`, which may mark this page frame although it is intact, and removes the mark.
    /// [`Self::has_failed`] returns false for it throughout.
    ///
    /// Call this from memory_failure(), of which one runs at a time, and wait for the readers of
    /// the memory between two calls for a page frame, or they find it failed.
    pub(crate) fn spare(self, mark: impl FnOnce()) {
        SPARED.xchg(self.0, Full);
        mark();
        self.set(false);
        SPARED.store(NONE, Release);
    }

    fn set(self, failed: bool) {
        // SAFETY: By the type invariant the struct page stays, and the memory is this module's.
        unsafe { bindings::pfn_set_hwpoison(self.0, failed) };
    }
}

/// Returns true if memory has failed since boot.
pub(crate) fn failed_before() -> bool {
    // SAFETY: This reads counters of the nodes that are online.
    unsafe { bindings::memory_failed_before() }
}
