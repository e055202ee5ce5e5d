// SPDX-License-Identifier: GPL-2.0

//! Counters that cost next to nothing to step: one for each processor.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// `N` counters of events and of their amounts.
///
/// # Invariants
///
/// Owns a per-CPU allocation of `N` pairs of numbers of 64 bits.
pub(crate) struct Tally<const N: usize>(NonNull<u64>);

// SAFETY: Each processor steps its own numbers, with instructions that interrupts do not split.
unsafe impl<const N: usize> Send for Tally<N> {}
// SAFETY: As above.
unsafe impl<const N: usize> Sync for Tally<N> {}

impl<const N: usize> Tally<N> {
    /// Counters that are 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: May be called in any context that can sleep.
        let numbers = unsafe { bindings::daxfs_helper_tally_alloc(2 * N as u32) };
        // INVARIANT: Allocated just now.
        NonNull::new(numbers).map(Tally).ok_or(ENOMEM)
    }

    /// The per-CPU address of counter `index`.
    #[inline]
    fn counter(&self, index: usize) -> *mut u64 {
        // An index that there is not would be a mistake of this module's; it counts as another.
        self.0.as_ptr().wrapping_add(2 * index.min(N - 1))
    }

    /// Counts an event of this amount in counter `index`.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: u64) {
        // SAFETY: By the invariant it is a pair of per-CPU numbers.
        unsafe { bindings::daxfs_helper_tally_add(self.counter(index), amount) };
    }

    /// How many events counter `index` has seen, and of what amount; roughly, if there are some just now.
    pub(crate) fn sum(&self, index: usize) -> (u64, u64) {
        let counter = self.counter(index);
        // SAFETY: As above.
        unsafe {
            (
                bindings::daxfs_helper_tally_sum(counter),
                bindings::daxfs_helper_tally_sum(counter.wrapping_add(1)),
            )
        }
    }
}

impl<const N: usize> Drop for Tally<N> {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is ours.
        unsafe { bindings::daxfs_helper_tally_free(self.0.as_ptr()) };
    }
}
