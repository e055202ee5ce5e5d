// SPDX-License-Identifier: GPL-2.0-only

//! Page faults on mappings of files (`struct vm_fault`).

use super::page::OwnPage;
use super::{
    FileMapping,
    MapMethod,
    Memory,
    Page,
    Space,
    PAGE_SIZE, //
};
use crate::linux::prelude::*;
use core::cell::Cell;

/// Makes `'a` invariant, so that no other lifetime can replace it.
type Brand<'a> = PhantomData<fn(&'a ()) -> &'a ()>;

/// A page fault on a mapping of a file.
///
/// `FileOperations::fault` is called for any `'a`. So it cannot return the result of another fault.
///
/// # Invariants
///
/// `vmf` is a fault that the current thread handles, for an entry of `order`. The memory area was
/// set up for `mapping`: with its address space, and as its [`MapMethod`]
/// requires.
pub(crate) struct Fault<'a, C> {
    vmf: *mut bindings::vm_fault,
    order: u32,
    mapping: &'a FileMapping<C>,
    around: Cell<bool>,
    _brand: Brand<'a>,
}

impl<'a, C> Fault<'a, C> {
    /// # Safety
    ///
    /// The caller must guarantee the invariants.
    pub(crate) unsafe fn new(
        vmf: *mut bindings::vm_fault,
        order: u32,
        mapping: &'a FileMapping<C>,
    ) -> Self {
        // INVARIANT: The caller guarantees them.
        Fault {
            vmf,
            order,
            mapping,
            around: Cell::new(false),
            _brand: PhantomData,
        }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::vm_fault {
        self.vmf
    }

    /// Returns the order of the page-table entry to set: 0 for a page.
    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    pub(crate) fn mapping(&self) -> &'a FileMapping<C> {
        self.mapping
    }

    /// Returns the fields of the C object.
    #[inline(always)]
    fn fields(&self) -> &bindings::vm_fault {
        // SAFETY: The fault is valid by the type invariant, and belongs to this thread.
        unsafe { &*self.vmf }
    }

    /// Returns true if another thread has set a PMD entry since the MM last looked.
    pub(super) fn is_huge(&self) -> bool {
        // SAFETY: The fault is valid. The MM finds the PMD before it calls a handler of faults.
        unsafe { bindings::vmf_pmd_is_huge(self.vmf) }
    }

    /// Returns the page of the file, counted from 0.
    pub(crate) fn page(&self) -> u64 {
        self.fields().__bindgen_anon_1.pgoff as u64
    }

    /// Returns the address that faulted, rounded down to a page.
    pub(super) fn address(&self) -> usize {
        self.fields().__bindgen_anon_1.address
    }

    /// Returns the memory area, which is locked, and its first and last byte.
    pub(super) fn area(&self) -> (*mut bindings::vm_area_struct, u64, u64) {
        let vma = self.fields().__bindgen_anon_1.vma;
        // SAFETY: A fault has a memory area, which is locked while the fault is handled.
        let bounds = unsafe { &(*vma).__bindgen_anon_1.__bindgen_anon_1 };
        (vma, bounds.vm_start as u64, bounds.vm_end as u64 - 1)
    }

    /// Returns true if the access was a write.
    pub(crate) fn is_write(&self) -> bool {
        self.fields().flags & bindings::FAULT_FLAG_WRITE != 0
    }

    /// Passes the faulting page to the MM, which copies it for a write to a private mapping and
    /// survives a machine check. Returns `None` for a page of a DAX device that the DAX code does
    /// not know yet, and for the first page of a huge page.
    pub(super) fn give(&self, kept: &Kept<'_>) -> Option<FaultResult<'a>> {
        let here = self.page();
        let page = match (kept.page(here), kept.method()) {
            (Some(page), _) => page.get(),
            (None, _) if here >= kept.length / PAGE_SIZE => return None,
            (None, MapMethod::Dax(_)) => kept.dax_page(here)?,
            // If the frame were inserted, the MM would copy it through the user's address, and
            // leave zeros if the copy fails.
            (None, _) => match kept.copy_of(here) {
                Ok(None) => return Some(FaultResult::OOM),
                Ok(Some(page)) => page.into_raw(),
                Err(()) => return Some(FaultResult::HWPOISON),
            },
        };
        // SAFETY: The current thread handles the fault. The MM gets the reference.
        unsafe { (*self.vmf).page = page };
        // INVARIANT: The fault has a page.
        Some(FaultResult(0, PhantomData))
    }

    /// Records that pages around the faulting one are mapped too.
    pub(super) fn set_around(&self) {
        self.around.set(true);
    }

    /// Returns the result of this fault.
    ///
    /// # Safety
    ///
    /// `raw` must say how this fault was handled: `VM_FAULT_NOPAGE` only if its entry is set. If
    /// `raw` says that the fault has a page, the fault must have it.
    pub(super) unsafe fn result(&self, raw: bindings::vm_fault_t) -> FaultResult<'a> {
        // INVARIANT: The caller guarantees it.
        FaultResult(raw, PhantomData)
    }

    /// Returns the outcome of this fault, or `None` if the MM repeats it for a single page.
    pub(crate) fn outcome(&self, result: FaultResult<'a>) -> Option<Outcome> {
        // VM_FAULT_ERROR includes VM_FAULT_FALLBACK, so test this first.
        if result.0 & bindings::VM_FAULT_FALLBACK != 0 {
            None
        } else if result.0 & bindings::VM_FAULT_ERROR != 0 {
            Some(match result.0 & bindings::VM_FAULT_HWPOISON {
                0 => Outcome::Failed,
                _ => Outcome::Poisoned,
            })
        } else if self.order > 0 {
            Some(Outcome::Pmd)
        } else if self.around.get() {
            Some(Outcome::Around)
        } else {
            Some(Outcome::Page)
        }
    }
}

/// The address space of a fault. It keeps the memory from going away until this is dropped, after
/// the fault has inserted its pages.
///
/// # Invariants
///
/// `memory` is the memory of `space`.
pub(super) struct Kept<'f> {
    pub(super) space: &'f Space,
    memory: ArcBorrow<'f, Memory>,
}

impl Drop for Kept<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.space.keep(self.memory);
    }
}

impl<'f> Kept<'f> {
    /// Returns the address space of `fault`, if `memory` is its memory.
    #[inline]
    pub(super) fn new<C>(fault: &'f Fault<'_, C>, memory: ArcBorrow<'f, Memory>) -> Option<Self> {
        let space = fault.mapping().space();
        // INVARIANT: This is the memory.
        (space.memory.id == memory.mappable().id).then(|| Kept { space, memory })
    }

    /// Returns how processes map the memory.
    #[inline]
    pub(super) fn method(&self) -> MapMethod {
        self.space.memory.method
    }

    /// Returns the page frame of page `page`.
    #[inline]
    pub(super) fn frame(&self, page: u64) -> Option<usize> {
        self.memory.frame(self.space.offset + page * PAGE_SIZE)
    }

    /// Returns page `page` if it has a reference: pages of [`MapMethod::Pages`], and copies of
    /// pages after the span.
    #[inline]
    pub(super) fn page(&self, page: u64) -> Option<Page<'_>> {
        if page >= self.space.length / PAGE_SIZE {
            self.space.copy(page)?.get()
        } else {
            self.memory.page(self.space.offset + page * PAGE_SIZE)
        }
    }

    /// Returns page `page`, with a reference, if it belongs to the space according to the DAX code.
    /// The space waits for the reference before it forgets the page.
    fn dax_page(&self, page: u64) -> Option<*mut bindings::page> {
        let frame = self.frame(page)?;
        let mapping = self.space.as_raw().as_ptr();
        // SAFETY: By the invariant of `Memory` memory of a DAX device has struct pages. Fault
        // handlers hold no locks of address spaces.
        unsafe {
            let page = bindings::pfn_to_page(frame);
            bindings::dax_get_page(mapping, page).then_some(page)
        }
    }

    /// Returns a new page with a copy of page `page`, or `None` if memory is short.
    fn copy_of(&self, page: u64) -> Result<Option<OwnPage>, ()> {
        let offset = self.space.offset + page * PAGE_SIZE;
        // The last page may be more than the memory.
        let left = self.memory.mappable().size().saturating_sub(offset);
        OwnPage::filled(bindings::GFP_KERNEL, left, |bytes| {
            self.memory.read(offset, bytes).then_some(()).ok_or(())
        })
    }
}

impl Deref for Kept<'_> {
    type Target = Space;

    #[inline]
    fn deref(&self) -> &Space {
        self.space
    }
}

/// The outcome of a page fault.
pub(crate) enum Outcome {
    /// One page was mapped.
    Page,
    /// A page and pages around it were mapped.
    Around,
    /// A PMD entry was set.
    Pmd,
    /// The memory has failed. The process gets SIGBUS.
    Poisoned,
    /// The process gets SIGBUS for another reason, or memory is short.
    Failed,
}

/// The result of handling a page fault (`vm_fault_t`).
///
/// # Invariants
///
/// The value is an error, or the result of the [`Fault`] with the lifetime `'a`.
#[derive(Clone, Copy)]
pub(crate) struct FaultResult<'a>(bindings::vm_fault_t, Brand<'a>);

impl FaultResult<'_> {
    // INVARIANT: These are errors.
    /// Send SIGBUS.
    pub(crate) const SIGBUS: Self = FaultResult(bindings::VM_FAULT_SIGBUS, PhantomData);
    /// Send SIGBUS, because the memory has failed.
    pub(crate) const HWPOISON: Self = FaultResult(bindings::VM_FAULT_HWPOISON, PhantomData);
    /// Fail for lack of memory.
    pub(crate) const OOM: Self = FaultResult(bindings::VM_FAULT_OOM, PhantomData);
    /// Fault again, for an entry of a lower order.
    pub(crate) const FALLBACK: Self = FaultResult(bindings::VM_FAULT_FALLBACK, PhantomData);

    /// Returns the C value.
    pub(crate) fn into_raw(self) -> bindings::vm_fault_t {
        self.0
    }
}
