// SPDX-License-Identifier: GPL-2.0-only

//! Data that readers use until it is taken away (`include/linux/srcu.h`).
//!
//! All values share one domain. Domains of their own would cost each mount and each pack 448 bytes
//! on each possible processor, and a grace period to clean up. A reader does nothing but copy at
//! most 16 MiB, map pages, or allocate memory, so nobody waits long for another's.
//!
//! Once the kernel crate's SRCU offers readers without memory barriers, drop the domain and
//! [`Section`].

use crate::linux::prelude::*;

/// A value that we can take away from its readers; each reader delays that.
///
/// # Invariants
///
/// * `seen` is null, and then may be `owned`, and [`Self::REVOKED`], in this order.
/// * `owned` is null, or a reference that this owns, from [`Arc::into_raw`].
pub(crate) struct Revocable<T> {
    /// The value that readers find.
    seen: Atomic<*mut T>,
    owned: Atomic<*mut T>,
    /// The grace period after which those who saw the value before [`Self::revoke`] are gone.
    period: Atomic<usize>,
}

// SAFETY: The value may be shared and sent.
unsafe impl<T: Send + Sync> Send for Revocable<T> {}
// SAFETY: Readers share the value, and any thread may take it.
unsafe impl<T: Send + Sync> Sync for Revocable<T> {}

/// Enters a read-side critical section, which delays [`wait`].
#[inline(always)]
pub(crate) fn enter() -> Section {
    // SAFETY: This may be called in any context.
    // INVARIANT: The critical section is entered here.
    Section(unsafe { bindings::readers_enter() })
}

/// Waits for all current readers, of any value.
pub(crate) fn wait() {
    // SAFETY: Callers may sleep, and are not readers.
    unsafe { bindings::readers_wait() };
}

impl<T> Revocable<T> {
    const REVOKED: *mut T = ptr::without_provenance_mut(1);

    /// Creates an object without a value.
    pub(crate) const fn new() -> Self {
        Revocable {
            seen: Atomic::new(ptr::null_mut()),
            owned: Atomic::new(ptr::null_mut()),
            period: Atomic::new(0),
        }
    }

    /// Becomes a reader: [`wait`] waits for it.
    ///
    /// Errors: `EIO` without a value, or if it is revoked.
    #[inline(always)]
    pub(crate) fn read(&self) -> Result<Reader<'_, T>> {
        let section = enter();
        // The reads of the value depend on its address.
        let seen = read_once(&self.seen);
        if seen <= Self::REVOKED {
            return Err(EIO);
        }
        // SAFETY: By the type invariant this is the reference. `take` waits for the critical
        // section.
        let data = unsafe { ArcBorrow::from_raw(seen) };
        Ok(Reader { data, section })
    }

    /// Shows `data` to readers.
    ///
    /// Errors: `EBUSY` if there is a value, `EIO` if it is revoked.
    pub(crate) fn set(&self, data: Arc<T>) -> Result {
        let (none, new) = (ptr::null_mut(), data.into_raw().cast_mut());
        // INVARIANT: This gives up the reference.
        let owned = self.owned.cmpxchg(none, new, Full);
        if owned.is_err() {
            // SAFETY: The reference was turned into a pointer above, and not given away.
            drop(unsafe { Arc::from_raw(new) });
            return Err(EBUSY);
        }
        // If it is revoked, `take` or the drop finds the value.
        match self.seen.cmpxchg(none, new, Full) {
            Ok(_) => Ok(()),
            Err(_) => Err(EIO),
        }
    }

    /// Returns true if it is revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.seen.load(Acquire) == Self::REVOKED
    }

    /// Blocks new readers. Does not wait.
    pub(crate) fn revoke(&self) {
        if self.seen.xchg(Self::REVOKED, Full) != Self::REVOKED {
            // SAFETY: This may be called in any context.
            let period = unsafe { bindings::readers_period() };
            self.period.store(period, Release);
        }
    }

    /// Revokes the value, if there is one or will be, and waits for its readers. Many that were
    /// revoked first share one grace period.
    pub(crate) fn drain(&self) {
        self.revoke();
        // Another thread that has revoked it may not have stored the period yet: 0 is none.
        let period = self.period.load(Acquire);
        // SAFETY: This may be called in any context.
        if period == 0 || !unsafe { bindings::readers_gone(period) } {
            wait();
        }
    }

    /// [Drain](Self::drain) the value and return it, if there is one.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.drain();
        let owned = NonNull::new(self.owned.xchg(ptr::null_mut(), Full))?;
        // SAFETY: By the type invariant this was a reference, which has no readers. Nothing else
        // takes it after the swap.
        Some(unsafe { Arc::from_raw(owned.as_ptr()) })
    }
}

impl<T> Drop for Revocable<T> {
    fn drop(&mut self) {
        // A reader that was forgotten is waited for without end.
        drop(self.take());
    }
}

/// A read-side critical section.
///
/// # Invariants
///
/// The counter belongs to a critical section.
pub(crate) struct Section(*mut bindings::srcu_ctr);

impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: By the type invariant this ends the critical section.
        unsafe { bindings::readers_leave(self.0) };
    }
}

/// A reader of a [`Revocable`]. Drop it before you wait.
pub(crate) struct Reader<'a, T> {
    data: ArcBorrow<'a, T>,
    #[allow(dead_code)] // Only its drop matters.
    section: Section,
}

impl<T> Reader<'_, T> {
    /// Returns the value, from which a reference can be made that outlives the reader.
    #[inline(always)]
    pub(crate) fn borrow(&self) -> ArcBorrow<'_, T> {
        self.data
    }
}

impl<T> Deref for Reader<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.data
    }
}
