// SPDX-License-Identifier: GPL-2.0-only

//! The address spaces of mapped extents, which belong to internal inodes.

use super::{internal, poison, MapMethod, Window};
use crate::bindings;
#[cfg(CONFIG_TRACEPOINTS)]
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// Number of bytes of an extent that are forgotten at a time: the DAX code keeps interrupts off
/// while it deletes the entries of a range.
const FORGET_PIECE: u64 = 64 << 20;

/// Number of page frames that are compared before other threads get their turn.
#[cfg(CONFIG_TRACEPOINTS)]
const RESCHEDULE: usize = 1024;

/// A request to claim an extent.
pub(super) struct Request {
    /// Window of the region.
    pub(super) window: Window,
    /// How files of the region are mapped.
    pub(super) method: MapMethod,
    /// Offset of the first byte in the region.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) length: u64,
    /// Number of bytes of the files in the page after the extent.
    pub(super) tail: u64,
    /// Number of the inode whose data it is.
    pub(super) owner: u64,
}

impl Request {
    /// Return the offset of the first byte as the DAX device counts, which announces failures.
    pub(super) fn key(&self) -> u64 {
        match self.method {
            MapMethod::Dax(range) => range.offset + self.offset,
            MapMethod::Pages | MapMethod::Frames(_) => self.offset,
        }
    }
}

/// The `i_private` of an internal inode.
pub(super) struct Info {
    /// Window of the region.
    pub(super) window: Window,
    /// How files of the region are mapped. A DAX device outlives the extent.
    pub(super) method: MapMethod,
    /// Offset of the first byte in the region.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) length: u64,
    /// Number of bytes of the files in the page after the extent.
    pub(super) tail: u64,
    /// A copy of the page after the extent, with a reference; null until it is needed. If its
    /// memory has failed, the next page fault replaces it.
    pub(super) tail_page: AtomicPtr<bindings::page>,
}

impl Info {
    /// Return the info of an internal inode.
    ///
    /// # Safety
    ///
    /// `inode` must be that of a [`Space`] that lives for `'a`.
    #[inline]
    pub(super) unsafe fn of<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: The caller passes a valid inode.
        let info = unsafe { (*inode).i_private };
        // SAFETY: By the invariant of `Space` this is a boxed info.
        unsafe { &*info.cast::<Info>() }
    }

    /// Return the copy of the page after the extent.
    ///
    /// # Errors
    ///
    /// Without a good copy: null, or the copy whose memory has failed.
    pub(super) fn good_tail(&self) -> Result<NonNull<bindings::page>, *mut bindings::page> {
        let found = self.tail_page.load(Ordering::Acquire);
        match NonNull::new(found) {
            // SAFETY: The info has a reference to the page.
            Some(page) if !poison::any() || !unsafe { bindings::page_hwpoison(found) } => Ok(page),
            _ => Err(found),
        }
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        let page = *self.tail_page.get_mut();
        if !page.is_null() {
            // SAFETY: This owns a reference to the page.
            unsafe { bindings::put_page(page) };
        }
    }
}

/// The address space of an extent.
///
/// # Invariants
///
/// Owns a reference to an internal inode whose `i_private` is a boxed [`Info`].
pub(super) struct Space(NonNull<bindings::inode>);

// SAFETY: A reference to an inode may be put by any thread, and an `Info` may be dropped by any.
unsafe impl Send for Space {}
// SAFETY: An `Info` does not change, but for the tail page, which is atomic.
unsafe impl Sync for Space {}

impl Space {
    /// Make an address space for the extent that `request` describes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(request: &Request) -> Result<Self> {
        let info = Info {
            window: request.window,
            method: request.method,
            offset: request.offset,
            length: request.length,
            tail: request.tail,
            tail_page: AtomicPtr::new(ptr::null_mut()),
        };
        let info = KBox::new(info, GFP_KERNEL)?;
        let inode = internal::new_inode()?;
        let raw = inode.as_ptr();
        // SAFETY: The inode is new, so nothing else accesses it.
        unsafe { (*raw).i_private = KBox::into_raw(info).cast() };
        // SAFETY: The inode is new, so nothing else accesses it. The table is static.
        unsafe { (*raw).i_data.a_ops = &OPERATIONS };
        // SAFETY: The inode is new, so nothing else accesses it.
        unsafe { bindings::i_size_write(raw, request.length as bindings::loff_t) };
        if let MapMethod::Dax(_) = request.method {
            // SAFETY: The inode is new, so nothing else accesses it.
            unsafe { (*raw).i_flags |= bindings::S_DAX };
        }
        // INVARIANT: `i_private` was set above.
        Ok(Space(inode))
    }

    /// Return the internal inode.
    pub(super) fn inode(&self) -> NonNull<bindings::inode> {
        self.0
    }

    fn info(&self) -> &Info {
        // SAFETY: By the type invariant the inode lives as long as this.
        unsafe { Info::of(self.0.as_ptr()) }
    }

    /// Unmap `count` pages, starting with page `first`, or all pages if `count` is 0.
    fn unmap(&self, first: usize, count: usize) {
        // SAFETY: By the type invariant the inode is valid.
        let mapping = unsafe { &raw mut (*self.0.as_ptr()).i_data };
        // SAFETY: The address space is valid.
        unsafe { bindings::unmap_mapping_pages(mapping, first, count, false) };
    }

    /// Return the length of the extent in bytes.
    pub(super) fn length(&self) -> u64 {
        self.info().length
    }

    /// Unmap the pages from byte `from` on and forget them, up to one that is still in use. Return
    /// the byte up to which they are forgotten. This does not wait for users of pages.
    pub(super) fn forget(&self, mut from: u64) -> u64 {
        let info = self.info();
        // All of it, also what comes after a page that is still in use.
        self.unmap(0, 0);
        let MapMethod::Dax(_) = info.method else {
            return info.length;
        };
        while from < info.length {
            let last = (from + FORGET_PIECE).min(info.length) - 1;
            let (from_offset, last_offset) = (from as bindings::loff_t, last as bindings::loff_t);
            let inode = self.0.as_ptr();
            // SAFETY: The inode is valid. Without a callback the function does not wait.
            let busy = unsafe { bindings::dax_break_layout(inode, from_offset, last_offset, None) };
            if busy != 0 {
                return from;
            }
            from = last + 1;
        }
        from
    }

    /// Unmap the pages of `frames`, whose memory has failed. Return true if the extent has any.
    ///
    /// # Safety
    ///
    /// The caller must be a reader of the lease.
    #[cfg(CONFIG_TRACEPOINTS)]
    pub(super) unsafe fn unmap_frames(&self, frames: &Range<usize>) -> bool {
        let info = self.info();
        let pages = (info.length >> bindings::PAGE_SHIFT) as usize;
        let base = info.window.base.as_ptr().wrapping_add(info.offset as usize);
        // The copy of the last page that failed may be an older one than the extent has now. The
        // next fault maps a good one.
        let mut found = !info.tail_page.load(Ordering::Acquire).is_null();
        if found {
            self.unmap(pages, 1);
        }
        let first = (info.offset >> bindings::PAGE_SHIFT) as usize;
        let places = match (info.method, poison::page(frames.start)) {
            // A page of a memfd knows its place in it, if it is one.
            (MapMethod::Pages, Some(failed)) => {
                // SAFETY: The struct page is valid.
                let at = unsafe { bindings::page_pgoff(failed) }.wrapping_sub(first);
                at..at.saturating_add(1)
            }
            // Pages of other owners can be anywhere. Device memory has no struct pages, and so has
            // a physical range that is mapped by frames.
            (MapMethod::Frames(_), Some(_)) if !info.window.io => {
                // SAFETY: A reader of the lease keeps the window mapped, and the extent is in it.
                let frame = unsafe { poison::frame_at(base) };
                if poison::page(frame).is_none() {
                    return found;
                }
                0..pages
            }
            // A DAX device announces failures itself.
            _ => return found,
        };
        for place in places.filter(|&place| place < pages) {
            if place % RESCHEDULE == 0 {
                // SAFETY: The caller is a reader of the lease, which may sleep.
                unsafe { bindings::cond_resched() };
            }
            let at = base.wrapping_add(place << bindings::PAGE_SHIFT);
            // SAFETY: A reader of the lease keeps the window mapped, and the extent is in it.
            if frames.contains(&unsafe { poison::frame_at(at) }) {
                self.unmap(place, 1);
                found = true;
            }
        }
        found
    }

    /// Get another reference to the internal inode.
    pub(super) fn hold(&self) -> Held {
        // SAFETY: By the type invariant the inode is valid.
        unsafe { bindings::ihold(self.0.as_ptr()) };
        // INVARIANT: ihold() got a reference.
        Held(self.0)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the inode is valid.
        let info = unsafe { (*self.0.as_ptr()).i_private }.cast::<Info>();
        // SAFETY: By the type invariant this is a box. Its extent has no users, so there is no
        // mapping, and no page fault uses the info.
        drop(unsafe { KBox::from_raw(info) });
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// A reference to the internal inode of a [`Space`]. It does not keep the info.
///
/// # Invariants
///
/// Owns the reference.
pub(super) struct Held(NonNull<bindings::inode>);

impl Held {
    /// Kill the processes that map page `index`, whose memory has failed, and unmap it.
    pub(super) fn page_failed(&self, index: usize, flags: kernel::ffi::c_int) {
        // SAFETY: By the type invariant the inode is valid.
        let mapping = unsafe { &raw mut (*self.0.as_ptr()).i_data };
        #[cfg(CONFIG_MEMORY_FAILURE)]
        // SAFETY: The address space is valid.
        unsafe {
            bindings::mf_dax_kill_procs(mapping, index, 1, flags)
        };
        #[cfg(not(CONFIG_MEMORY_FAILURE))]
        let _ = flags;
        // The function above spares some processes. They fault when they use the page.
        // SAFETY: The address space is valid.
        unsafe { bindings::unmap_mapping_pages(mapping, index, 1, false) };
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// `struct address_space_operations` of extents. Nothing is read or written through them.
const OPERATIONS: bindings::address_space_operations = bindings::address_space_operations {
    dirty_folio: Some(bindings::noop_dirty_folio),
    ..pin_init::zeroed()
};
