// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a file while a fault maps it.

use super::{Fault, MapMethod, Mappable, Mapping, Memory, Page, Space, PAGE_SIZE};
use core::ops::Deref;

/// The address space that a fault is on, whose memory cannot go away meanwhile.
///
/// # Invariants
///
/// The [`Memory`] of the space exists for `'f`.
#[derive(Clone, Copy)]
pub(super) struct Kept<'f>(&'f Space);

impl<'f> Kept<'f> {
    /// Return the address space of `fault`, if `memory` is its memory.
    #[inline]
    pub(super) fn new<M: Mapping>(fault: &'f Fault<'_, M>, memory: &'f Memory) -> Option<Self> {
        let space = fault.mapping()?.space();
        // INVARIANT: This is the memory.
        space.memory().is(memory).then_some(Kept(space))
    }

    /// Return the address space.
    #[inline]
    pub(super) fn space(self) -> &'f Space {
        self.0
    }

    /// Return how processes map the memory.
    #[inline]
    pub(super) fn method(self) -> MapMethod {
        self.0.memory().method()
    }

    /// Return the page frame of page `page`.
    ///
    /// # Safety
    ///
    /// The space must have this page.
    #[inline]
    pub(super) unsafe fn frame(self, page: u64) -> usize {
        let offset = self.offset() + page * PAGE_SIZE;
        // SAFETY: By the invariant of `Space` the page is in the window, which is mapped.
        unsafe { self.memory().mappable.window.frame(offset) }
    }

    /// Return page `page` if it has a reference: those of [`MapMethod::Pages`], and the copy of the
    /// page after the space, if there is one.
    ///
    /// # Safety
    ///
    /// The space must have this page, or it must be the one after it.
    #[inline]
    pub(super) unsafe fn page(self, page: u64) -> Option<Page<'f>> {
        if page == self.0.length() / PAGE_SIZE {
            return self.0.copy().get();
        }
        let Mappable { window, method } = &self.0.memory().mappable;
        let offset = self.0.offset() + page * PAGE_SIZE;
        let at = window.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: By the invariant of `Memory` vmap() has mapped the page, which has a reference.
        matches!(method, MapMethod::Pages).then(|| unsafe { Page::of_vmalloc(at) })
    }
}

impl Deref for Kept<'_> {
    type Target = Space;

    #[inline]
    fn deref(&self) -> &Space {
        self.0
    }
}
