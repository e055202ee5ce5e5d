// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a file while a fault maps it.

use super::{Fault, MapMethod, Memory, Page, Space, PAGE_SIZE};
use core::ops::Deref;

/// The address space of a fault, whose memory cannot go away before this is dropped.
///
/// # Invariants
///
/// `memory` is the memory of `space`.
#[derive(Clone, Copy)]
pub(super) struct Kept<'f> {
    space: &'f Space,
    memory: &'f Memory,
}

impl<'f> Kept<'f> {
    /// Return the address space of `fault`, if `memory` is its memory.
    #[inline]
    pub(super) fn new<C>(fault: &'f Fault<'_, C>, memory: &'f Memory) -> Option<Self> {
        let space = fault.mapping().space();
        // INVARIANT: This is the memory.
        let is_its = space.memory.is(memory);
        is_its.then_some(Kept { space, memory })
    }

    /// Return the address space.
    #[inline]
    pub(super) fn space(self) -> &'f Space {
        self.space
    }

    /// Return how processes map the memory.
    #[inline]
    pub(super) fn method(self) -> MapMethod {
        self.space.memory.method()
    }

    /// Return the page frame of page `page`.
    #[inline]
    pub(super) fn frame(self, page: u64) -> Option<usize> {
        self.memory.frame(self.space.offset + page * PAGE_SIZE)
    }

    /// Return page `page` if it has a reference: pages of [`MapMethod::Pages`], and the copy of the
    /// page after the space, if any.
    #[inline]
    pub(super) fn page(self, page: u64) -> Option<Page<'f>> {
        match page == self.space.length / PAGE_SIZE {
            true => self.space.copy().get(),
            false => self.memory.page(self.space.offset + page * PAGE_SIZE),
        }
    }
}

impl Deref for Kept<'_> {
    type Target = Space;

    #[inline]
    fn deref(&self) -> &Space {
        self.space
    }
}
