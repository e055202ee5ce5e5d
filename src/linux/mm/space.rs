// SPDX-License-Identifier: GPL-2.0-only

//! Address spaces that files are mapped through (`struct address_space`).
//!
//! The kernel's DAX code records the address space of each page, and can forget it only when the
//! page has no users. An inode cannot wait for that, because memory reclaim and unmount evict it.
//! So we create an internal inode for each address space. Nobody can look it up, and it outlives
//! the file's inode as long as one of its pages is in use.

use super::{
    MapMethod,
    Mappable,
    Memory,
    PageCopy,
    PAGE_SIZE, //
};
use crate::linux::internal::InternalInode;
use crate::linux::prelude::*;
use core::ptr::null_mut;

/// A part of memory that files map.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) memory: Mappable,
    /// Offset of the first byte in the memory.
    pub(crate) offset: u64,
    /// Length in bytes: whole pages that contain nothing else.
    pub(crate) length: u64,
    /// Number of bytes of the files after them. They are mapped as copies, because the rest of
    /// their pages is not the files', or the memory cannot be mapped.
    pub(crate) tail: u64,
    /// Number of the inode that owns the data.
    pub(crate) owner: u64,
}

impl Span {
    /// Returns the offset of the first byte as the DAX device counts, which announces failures.
    pub(crate) fn key(&self) -> u64 {
        match self.memory.method {
            MapMethod::Dax(range) => range.offset + self.offset,
            MapMethod::Pages | MapMethod::Frames(_) => self.offset,
        }
    }

    /// Returns the number of pages of the files.
    #[inline(always)]
    pub(crate) fn pages(&self) -> u64 {
        self.length / PAGE_SIZE + self.tail.div_ceil(PAGE_SIZE)
    }
}

/// An address space through which files map a [`Span`].
///
/// # Invariants
///
/// `inode` is an internal inode. Its `i_private` is this object, or null once that is dropped. The
/// span is whole pages of its memory. `memory` is null, or a reference to this memory that the
/// space owns, from [`Arc::into_raw`]. It is not null while processes may map a page, or the DAX
/// code knows one.
pub(crate) struct Space {
    inode: InternalInode,
    span: Span,
    /// A copy of each page after the span that the files have.
    copies: KVVec<PageCopy>,
    kept: Atomic<*mut Memory>,
    /// `i_private` has the address.
    _pinned: PhantomPinned,
}

impl Deref for Space {
    type Target = Span;

    #[inline(always)]
    fn deref(&self) -> &Span {
        &self.span
    }
}

// SAFETY: A reference to an inode may be put by any thread.
unsafe impl Send for Space {}
// SAFETY: Nothing changes, but for the copies, which are atomic, and what the inode's own locks
// protect.
unsafe impl Sync for Space {}

impl Space {
    /// Creates an address space for `span`.
    ///
    /// Errors: `EIO` if it is not whole pages of its memory, `ENOMEM`.
    pub(crate) fn new(span: Span) -> Result<Arc<Self>> {
        let end = span.offset.checked_add(span.length).ok_or(EIO)?;
        let pages = span.length == 0 || (span.offset | span.length) % PAGE_SIZE == 0;
        if !pages || end > span.memory.size.next_multiple_of(PAGE_SIZE) {
            return Err(EIO);
        }
        let count = span.tail.div_ceil(PAGE_SIZE) as usize;
        let mut copies = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            copies.push(PageCopy::new(), GFP_KERNEL_ACCOUNT)?;
        }
        let inode = InternalInode::new()?;
        let raw = inode.as_ptr();
        // INVARIANT: `i_private` is set below.
        let space = Space {
            inode,
            span,
            copies,
            kept: Atomic::new(null_mut()),
            _pinned: PhantomPinned,
        };
        let space = Arc::new(space, GFP_KERNEL_ACCOUNT)?;
        let dax = matches!(span.memory.method, MapMethod::Dax(_)) && span.length > 0;
        // SAFETY: The inode is new, so nothing else accesses these fields.
        unsafe {
            (*raw).i_private = Arc::as_ptr(&space).cast_mut().cast();
            (*raw).i_data.a_ops = &OPERATIONS;
            if dax {
                (*raw).i_flags |= bindings::S_DAX;
                bindings::mapping_set_dax_longterm(&raw mut (*raw).i_data);
            }
            (*raw).i_size = span.length as bindings::loff_t;
        }
        Ok(space)
    }

    /// Returns the copy of page `page`, if it is one of those after the span.
    #[inline]
    pub(crate) fn copy(&self, page: u64) -> Option<&PageCopy> {
        let index = page.checked_sub(self.length / PAGE_SIZE)?;
        self.copies.get(index as usize)
    }

    pub(crate) fn as_raw(&self) -> NonNull<bindings::address_space> {
        // SAFETY: By the type invariant the inode is valid. This is the address of a field.
        unsafe { NonNull::new_unchecked(&raw mut (*self.inode.as_ptr()).i_data) }
    }

    /// Unmaps `count` pages, starting with page `first`, or all pages if `count` is 0.
    pub(crate) fn unmap(&self, first: usize, count: usize) {
        // SAFETY: The address space is valid.
        unsafe { bindings::unmap_mapping_pages(self.as_raw().as_ptr(), first, count, false) };
    }

    /// Makes the DAX code forget `length` bytes at `from`, which are unmapped. Returns false if one
    /// of their pages is in use. This does not wait for users of pages.
    pub(crate) fn forget(&self, from: u64, length: u64) -> bool {
        let (inode, last) = (self.inode.as_ptr(), from + length - 1);
        let (from, last) = (from as bindings::loff_t, last as bindings::loff_t);
        // SAFETY: The inode is valid. Without a callback the function does not wait.
        unsafe { bindings::dax_break_layout(inode, from, last, None) == 0 }
    }

    /// Keeps `memory`, the memory of the space, until [`Self::release`]. Called after each fault:
    /// a fault at the same time as a release keeps the memory, or is unmapped by the release.
    #[inline(always)]
    pub(super) fn keep(&self, memory: ArcBorrow<'_, Memory>) {
        if read_once(&self.kept).is_null() {
            self.put_back(memory.into());
        }
    }

    /// Keeps `memory`.
    #[cold]
    fn put_back(&self, memory: Arc<Memory>) {
        let (none, new) = (null_mut(), memory.into_raw().cast_mut());
        // INVARIANT: The pointer is a reference, which is given up here.
        if self.kept.cmpxchg(none, new, Full).is_err() {
            // SAFETY: The reference was turned into a pointer above, and not stored.
            drop(unsafe { Arc::from_raw(new) });
        }
    }

    /// Unmaps all pages, has the DAX code forget them, and stops keeping the memory. Returns false
    /// if a page is in use. This does not wait for users of pages. A concurrent second call returns
    /// true immediately.
    pub(crate) fn release(&self) -> bool {
        let kept = self.kept.xchg(null_mut(), Full);
        if kept.is_null() {
            return true;
        }
        // SAFETY: By the type invariant this is a reference, and nothing else takes it.
        let memory = unsafe { Arc::from_raw(kept) };
        self.unmap(0, 0);
        let idle = self.length == 0 || self.forget(0, self.length);
        if !idle {
            self.put_back(memory);
        }
        idle
    }

    /// Kills the processes that map the failed page `index`, and unmaps it.
    pub(crate) fn page_failed(&self, index: usize, flags: ffi::c_int) {
        if cfg!(CONFIG_MEMORY_FAILURE) {
            // SAFETY: The address space is valid.
            unsafe { bindings::mf_dax_kill_procs(self.as_raw().as_ptr(), index, 1, flags) };
        }
        // The function above spares some processes, which fault when they use the page.
        self.unmap(index, 1);
    }

    /// Unmaps page frame `frame`, which has failed, so that the next access faults: a copy if that
    /// has it, and all pages if the memory `has` it. Returns true if one of them has it.
    pub(crate) fn unmap_failed(&self, frame: usize, has: bool) -> bool {
        let copy = self.copies.iter().position(|copy| copy.is_at(frame));
        if has {
            self.unmap(0, 0);
        } else if let Some(copy) = copy {
            self.unmap((self.length / PAGE_SIZE) as usize + copy, 1);
        }
        has || copy.is_some()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if !self.release() {
            // Pages in use refer to the address space, so keep it and the memory forever.
            pr_err!("pages are in use after their extent was dropped\n");
            // SAFETY: The inode is valid. A fault has a reference to the space, so none is in
            // progress, and none can begin.
            unsafe { (*self.inode.as_ptr()).i_private = null_mut() };
            self.inode.leak();
        }
    }
}

/// The address space of a file, which is not its inode's, and the file's claim to it.
pub(crate) struct FileMapping<C> {
    // Dropped first.
    claim: C,
    space: Arc<Space>,
}

impl<C> FileMapping<C> {
    pub(crate) fn new(claim: C, space: Arc<Space>) -> Self {
        FileMapping { claim, space }
    }

    pub(crate) fn claim(&self) -> &C {
        &self.claim
    }

    /// Returns the address space, which does not change.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }
}

/// `struct address_space_operations` of a space. Nothing is read or written through it.
const OPERATIONS: bindings::address_space_operations = bindings::address_space_operations {
    dirty_folio: Some(bindings::noop_dirty_folio),
    ..pin_init::zeroed()
};

/// Describes a whole space to the kernel's DAX code. Kernels differ in how they call this, so
/// `helpers.c` hands it to them.
///
/// # Safety
///
/// `inode` must be the internal inode of a space that a fault keeps, and `iomap` valid for writing.
#[no_mangle]
unsafe extern "C" fn daxfs_iomap_begin(
    inode: *mut bindings::inode,
    _position: bindings::loff_t,
    _length: bindings::loff_t,
    _flags: ffi::c_uint,
    iomap: *mut bindings::iomap,
    _source: *mut bindings::iomap,
) -> ffi::c_int {
    // SAFETY: The caller passes the inode of a space. Its private data are the space, which a
    // fault keeps, and an iomap that belongs to the fault.
    let (space, iomap) = unsafe { (&*(*inode).i_private.cast::<Space>(), &mut *iomap) };
    let MapMethod::Dax(range) = space.memory.method else {
        return EIO.to_errno();
    };
    iomap.type_ = bindings::IOMAP_MAPPED;
    iomap.addr = range.offset + space.offset;
    iomap.offset = 0;
    iomap.length = space.length;
    iomap.dax_dev = range.device.as_ptr();
    0
}
