// SPDX-License-Identifier: GPL-2.0-only

//! Per-CPU counters: add to one in a few instructions and without a lock.

use crate::linux::prelude::*;

/// `N` counters.
///
/// # Invariants
///
/// Owns a per-CPU allocation of `N` counters.
pub(crate) struct Counters<const N: usize>(NonNull<u64>);

// SAFETY: Per-CPU memory may be used and freed by any thread.
unsafe impl<const N: usize> Send for Counters<N> {}
// SAFETY: Each CPU adds to its own counters, by this_cpu_add(), which interrupts cannot split.
unsafe impl<const N: usize> Sync for Counters<N> {}

impl<const N: usize> Counters<N> {
    /// Creates counters that start at 0.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: This may be called in any context that can sleep.
        let place = unsafe { bindings::alloc_percpu(N * size_of::<u64>(), align_of::<u64>()) };
        // INVARIANT: The memory was allocated above.
        NonNull::new(place.cast()).map(Counters).ok_or(ENOMEM)
    }

    /// Returns the per-CPU address of a counter. Clamp an index that is out of range, which can
    /// only be a bug in this module.
    #[inline]
    fn address(&self, index: usize) -> *mut u64 {
        self.0.as_ptr().wrapping_add(index.min(N - 1))
    }

    /// Adds `amount` to counter `index`.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: u64) {
        // SAFETY: By the type invariant there is a counter at this per-CPU address.
        unsafe { bindings::this_cpu_add(self.address(index), amount) };
    }

    /// Returns the value of counter `index`, to which other CPUs may add at the same time.
    pub(crate) fn sum(&self, index: usize) -> u64 {
        let counter = self.address(index);
        // SAFETY: By the type invariant this is a counter.
        unsafe { bindings::per_cpu_sum(counter) }
    }
}

impl<const N: usize> Drop for Counters<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the memory.
        unsafe { bindings::free_percpu(self.0.as_ptr().cast()) };
    }
}
