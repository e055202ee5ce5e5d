// SPDX-License-Identifier: GPL-2.0-only

//! Data that readers use until it is taken away (`include/linux/srcu.h`).
//!
//! 7.2 has no `kernel::sync::Srcu`.
//!
//! The kernel crate's SRCU has no readers without memory barriers. Those would replace the domain
//! and [`Section`].

use super::read_once;
use crate::bindings;
use core::ops::Deref;
use core::ptr::{
    self,
    NonNull, //
};
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Full,
    Release, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// A value that can be taken away from its readers; each reader delays that.
///
/// # Invariants
///
/// * `domain` is an SRCU domain with fast readers.
/// * `seen` is null, and then may be `owned`, and [`Self::REVOKED`], in this order.
/// * `owned` is null, or a reference that this owns, from [`Arc::into_raw`].
#[pin_data(PinnedDrop)]
pub(crate) struct Revocable<T> {
    /// The value that readers find.
    seen: Atomic<*mut T>,
    owned: Atomic<*mut T>,
    #[pin]
    domain: Opaque<bindings::srcu_struct>,
}

// SAFETY: The value may be shared and sent, and an SRCU domain may be cleaned up by any thread.
unsafe impl<T: Send + Sync> Send for Revocable<T> {}
// SAFETY: Readers share the value, and any thread may take it. An SRCU domain may be used by
// several threads at the same time.
unsafe impl<T: Send + Sync> Sync for Revocable<T> {}

impl<T> Revocable<T> {
    const REVOKED: *mut T = ptr::without_provenance_mut(1);

    /// Makes one without a value.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Revocable {
            seen: Atomic::new(ptr::null_mut()),
            owned: Atomic::new(ptr::null_mut()),
            domain <- Opaque::try_ffi_init(|place| {
                // SAFETY: The place is valid for writing and pinned. `drop` cleans it up.
                to_result(unsafe { bindings::init_srcu_struct_fast(place) })
            }),
        }? Error)
    }

    /// Enters a read-side critical section.
    #[inline(always)]
    fn enter(&self) -> Section<'_> {
        let domain = &self.domain;
        // SAFETY: By the type invariant the domain is initialized.
        let counter = unsafe { bindings::srcu_read_lock_fast(domain.get()) };
        // INVARIANT: The critical section was entered above.
        Section { domain, counter }
    }

    /// Becomes a reader, which delays [`Self::wait`].
    ///
    /// # Errors
    ///
    /// `EIO` without a value, or if it is revoked.
    #[inline(always)]
    pub(crate) fn read(&self) -> Result<Reader<'_, T>> {
        let section = self.enter();
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

    /// Delays [`Self::wait`], as a reader does, also without a value.
    ///
    /// # Errors
    ///
    /// `EIO` if it is revoked.
    pub(crate) fn delay(&self) -> Result<Section<'_>> {
        let section = self.enter();
        (!self.is_revoked()).then_some(section).ok_or(EIO)
    }

    /// Shows `data` to readers.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is a value, `EIO` if it is revoked.
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

    /// Prevents new readers. This does not wait.
    pub(crate) fn revoke(&self) {
        self.seen.store(Self::REVOKED, Release);
    }

    /// Waits for those who are readers now.
    pub(crate) fn wait(&self) {
        // SAFETY: By the type invariant the domain is initialized.
        unsafe { bindings::synchronize_srcu_expedited(self.domain.get()) };
    }

    /// Revokes the value, if there is one or will be, and waits for its readers.
    pub(crate) fn drain(&self) {
        self.revoke();
        self.wait();
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

#[pinned_drop]
impl<T> PinnedDrop for Revocable<T> {
    fn drop(self: Pin<&mut Self>) {
        // A reader that was forgotten is waited for without end.
        drop(self.take());
        // SAFETY: By the type invariants the domain is initialized. It has no readers.
        unsafe { bindings::cleanup_srcu_struct(self.domain.get()) };
    }
}

/// A read-side critical section.
///
/// # Invariants
///
/// `counter` belongs to a critical section of `domain`.
pub(crate) struct Section<'a> {
    domain: &'a Opaque<bindings::srcu_struct>,
    counter: *mut bindings::srcu_ctr,
}

impl Drop for Section<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: By the type invariant this ends the critical section.
        unsafe { bindings::srcu_read_unlock_fast(self.domain.get(), self.counter) };
    }
}

/// A reader of a [`Revocable`]. Do not wait while you have one.
pub(crate) struct Reader<'a, T> {
    data: ArcBorrow<'a, T>,
    #[allow(dead_code)] // Only its drop matters.
    section: Section<'a>,
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
