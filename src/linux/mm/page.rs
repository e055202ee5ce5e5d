// SPDX-License-Identifier: GPL-2.0-only

//! Pages of ordinary memory (`struct page`).

use super::{
    poison,
    PAGE_SIZE, //
};
use crate::linux::prelude::*;

/// A page.
///
/// # Invariants
///
/// It has a reference for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a>(*mut bindings::page, PhantomData<&'a ()>);

impl Page<'_> {
    /// Returns the page that vmap() has mapped at `address`.
    ///
    /// # Safety
    ///
    /// The page must be mapped there, and have a reference, for `'a`.
    #[inline]
    pub(super) unsafe fn of_vmalloc(address: *const u8) -> Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees that vmap() has mapped a page at this address.
        let page = unsafe { bindings::vmalloc_to_page(address.cast()) };
        Page(page, PhantomData)
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut bindings::page {
        self.0
    }

    /// Takes another reference, and returns the C object.
    #[inline]
    pub(super) fn get(self) -> *mut bindings::page {
        // SAFETY: By the type invariant the page has a reference.
        unsafe { bindings::get_page(self.0) };
        self.0
    }
}

owned! {
    /// A reference to a page.
    pub(super) struct OwnPage(page, put_page);
}

impl OwnPage {
    /// Returns a new page that begins with `length` bytes of `fill`, at most a page, followed by
    /// zeros, or `None` if memory is short. The caller may sleep.
    pub(super) fn filled<E>(
        flags: bindings::gfp_t,
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        // SAFETY: The caller may sleep for memory.
        let new = unsafe { bindings::alloc_page(flags | bindings::__GFP_ZERO) };
        // INVARIANT: alloc_page() returned the only reference.
        let Some(new) = NonNull::new(new).map(OwnPage) else {
            return Ok(None);
        };
        let length = length.min(PAGE_SIZE) as usize;
        // SAFETY: The new page has so many bytes, which are zeros, and nothing else accesses it.
        let bytes = unsafe {
            let address = bindings::lowmem_page_address(new.0.as_ptr()).cast::<u8>();
            core::slice::from_raw_parts_mut(address, length)
        };
        fill(bytes)?;
        Ok(Some(new))
    }

    /// Returns the page with the reference, which the caller has to put.
    pub(super) fn into_raw(self) -> *mut bindings::page {
        let page = self.0.as_ptr();
        mem::forget(self);
        page
    }
}

/// A page with a copy of other memory. We create it on demand, and again if its memory fails.
///
/// # Invariants
///
/// The pointer is null or a page with a reference, which is not put before the object is dropped,
/// even if another page replaces it.
pub(crate) struct PageCopy(Atomic<*mut bindings::page>);

impl PageCopy {
    /// Creates the object, without a page.
    pub(super) const fn new() -> Self {
        // INVARIANT: The pointer is null.
        PageCopy(Atomic::new(ptr::null_mut()))
    }

    /// Returns the page, good or not.
    #[inline]
    pub(super) fn get(&self) -> Option<Page<'_>> {
        let page = load_acquire(&self.0);
        // INVARIANT: By the invariant of `self` the page has a reference as long as it is borrowed.
        (!page.is_null()).then_some(Page(page, PhantomData))
    }

    /// Returns true if the page has the page frame `frame`.
    pub(super) fn is_at(&self, frame: usize) -> bool {
        // SAFETY: The number is only turned into an address.
        let page = unsafe { bindings::pfn_to_page(frame) };
        self.get().is_some_and(|copy| copy.0 == page)
    }

    /// Returns the page, if its memory has not failed.
    #[inline]
    pub(super) fn good(&self) -> Option<Page<'_>> {
        let is_good = |page: &Page<'_>| {
            // SAFETY: The page has a reference.
            !poison::any() || unsafe { bindings::PageHWPoison(page.0) } == 0
        };
        self.get().filter(is_good)
    }

    /// Returns the page. Without a good one, make one that begins with `length` bytes of `fill`,
    /// followed by zeros. Returns `None` if memory is short.
    pub(crate) fn get_or_make<E>(
        &self,
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Page<'_>>, E> {
        let old = self.0.load(Acquire);
        if let Some(page) = self.good() {
            return Ok(Some(page));
        }
        let Some(new) = OwnPage::filled(bindings::GFP_KERNEL_ACCOUNT, length, fill)? else {
            return Ok(None);
        };
        let stored = self.0.cmpxchg(old, new.0.as_ptr(), Full);
        // A page that has failed keeps its reference: other page faults may still use it, and the
        // kernel would not use its memory again.
        if stored.is_ok() {
            // INVARIANT: The page was stored with its reference.
            mem::forget(new);
            // It may have failed before it could be found here.
            return Ok(self.good());
        }
        // Another thread has stored a page.
        Ok(self.get())
    }
}

impl Drop for PageCopy {
    fn drop(&mut self) {
        // INVARIANT: The `PageCopy` owned the reference until now.
        drop(NonNull::new(*self.0.get_mut()).map(OwnPage));
    }
}
