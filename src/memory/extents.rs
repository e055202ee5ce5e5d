// SPDX-License-Identifier: GPL-2.0

//! Extents of a region that processes have mapped, and their address spaces.
//!
//! The kernel's DAX code notes in each page which address space it belongs to, and waits for the page's users
//! before it forgets that. An inode cannot wait: it is evicted by memory reclaim and by unmount. So the address
//! space belongs to the extent instead, and outlives the inode while a page of it is in use. It is that of an
//! internal inode, which nobody can look up.
//!
//! In a valid image extents do not overlap, and files with the same data share one extent. What an image says
//! otherwise must not reach the DAX code: an overlapping extent is refused.

use super::{internal, poison};
use crate::bindings;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::Mutex,
};

/// A mapped extent, by the offset of its first byte.
struct Extent {
    /// Offset of the first byte after it.
    end: u64,
    /// Number of the inode whose data it is.
    owner: u64,
    /// Inodes in memory that map it.
    users: usize,
    space: Space,
}

/// All mapped extents of a region, none of which overlap.
///
/// The mutex protects the tree and the user counts. It is taken during memory reclaim, so nothing is allocated
/// under it, and nobody who waits for a page fault or for a page's users may hold it.
#[pin_data]
pub(super) struct Extents {
    #[pin]
    tree: Mutex<RBTree<u64, Extent>>,
}

/// What a claim asks for.
pub(super) struct Claim {
    /// Offset of the first byte: on the DAX device if there is one, otherwise in the region.
    pub(super) start: u64,
    /// Length in bytes, a multiple of the page size.
    pub(super) length: u64,
    /// Number of the inode whose data it is.
    pub(super) owner: u64,
    /// The DAX device that holds the extent.
    pub(super) device: Option<NonNull<bindings::dax_device>>,
    /// Kernel address of the first byte.
    pub(super) base: NonNull<u8>,
    /// Whether it is I/O memory.
    pub(super) io: bool,
}

impl Extents {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- new_mutex!(RBTree::new()),
        })
    }

    /// Claim an extent for one more inode. Return its address space, or `None` if it overlaps another extent.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn claim(&self, claim: &Claim) -> Result<Option<NonNull<bindings::address_space>>> {
        match Self::share(&mut self.tree.lock(), claim) {
            Found::Nothing => {}
            found => return Ok(found.mapping()),
        }
        let extent = Extent {
            end: claim.start + claim.length,
            owner: claim.owner,
            users: 1,
            space: Space::new(claim)?,
        };
        let node = RBTreeNode::new(claim.start, extent, GFP_KERNEL)?;
        let mut tree = self.tree.lock();
        // Another process may have been faster.
        match Self::share(&mut tree, claim) {
            Found::Nothing => {}
            found => {
                drop(tree);
                drop(node);
                return Ok(found.mapping());
            }
        }
        tree.insert(node);
        Ok(tree.get(&claim.start).map(|extent| extent.space.mapping()))
    }

    /// Add a user to the extent that `claim` describes, if there is one.
    fn share(tree: &mut RBTree<u64, Extent>, claim: &Claim) -> Found {
        let end = claim.start + claim.length;
        if let Some(extent) = tree.get_mut(&claim.start) {
            if (extent.end, extent.owner) != (end, claim.owner) {
                return Found::Overlap;
            }
            extent.users += 1;
            return Found::Same(extent.space.mapping());
        }
        match Self::last_before(tree, end).and_then(|start| tree.get(&start)) {
            Some(extent) if extent.end > claim.start => Found::Overlap,
            _ => Found::Nothing,
        }
    }

    /// Return the start of the last extent that starts before `offset`.
    fn last_before(tree: &RBTree<u64, Extent>, offset: u64) -> Option<u64> {
        match tree.cursor_lower_bound(&offset) {
            Some(cursor) => cursor.peek_prev().map(|(&start, _)| start),
            None => tree.cursor_back().map(|cursor| *cursor.current().0),
        }
    }

    /// Drop an inode's claim to the extent at `start`. Return false if pages of it are still in use, so that it has
    /// to be swept later.
    pub(super) fn release(&self, start: u64) -> bool {
        let mut tree = self.tree.lock();
        let Some(extent) = tree.get_mut(&start) else {
            return true;
        };
        extent.users -= 1;
        if extent.users > 0 {
            return true;
        }
        if !extent.space.forget() {
            return false;
        }
        let node = tree.remove_node(&start);
        drop(tree);
        drop(node);
        true
    }

    /// Remove the extents that no inode maps. With `unmap`, unmap all extents and make their address spaces forget
    /// their pages. Return false if pages of those are still in use.
    ///
    /// With `unmap`, the caller has made sure that no page fault is in progress and that none will map a page.
    pub(super) fn sweep(&self, unmap: bool) -> bool {
        let mut idle = true;
        let mut from = 0;
        loop {
            let mut tree = self.tree.lock();
            let Some((start, unused)) = tree.cursor_lower_bound(&from).map(|cursor| {
                let (&start, extent) = cursor.current();
                (start, extent.users == 0)
            }) else {
                return idle;
            };
            let mut node = None;
            if unused || unmap {
                let forgotten = tree.get(&start).is_some_and(|extent| extent.space.forget());
                idle &= forgotten;
                if forgotten && unused {
                    node = tree.remove_node(&start);
                }
            }
            drop(tree);
            drop(node);
            from = start + 1;
        }
    }

    /// Unmap all pages whose memory has failed, so that the next access to them faults.
    pub(super) fn unmap_failed(&self) {
        let mut from = 0;
        loop {
            let tree = self.tree.lock();
            let Some(cursor) = tree.cursor_lower_bound(&from) else {
                return;
            };
            let (&start, extent) = cursor.current();
            extent.space.unmap_failed();
            from = start + 1;
        }
    }

    /// Signal the processes that map the page at `offset`, whose memory has failed, and unmap it from all.
    pub(super) fn page_failed(&self, offset: u64, flags: kernel::ffi::c_int) {
        let (space, index) = {
            let tree = self.tree.lock();
            let start = Self::last_before(&tree, offset + 1);
            let Some((start, extent)) = start.and_then(|start| Some((start, tree.get(&start)?)))
            else {
                return;
            };
            if offset >= extent.end {
                return;
            }
            let index = (offset - start) >> bindings::DAXFS_PAGE_SHIFT;
            (extent.space.hold(), index)
        };
        // Not under the mutex: this waits for page faults.
        space.page_failed(index as usize, flags);
    }
}

/// Bytes of an extent that are forgotten at a time.
const PIECE: u64 = 64 << 20;

/// What [`Extents::share`] found.
enum Found {
    /// The extent, with one more user.
    Same(NonNull<bindings::address_space>),
    /// Another extent that has a page in common with it.
    Overlap,
    /// No extent.
    Nothing,
}

impl Found {
    fn mapping(self) -> Option<NonNull<bindings::address_space>> {
        match self {
            Found::Same(mapping) => Some(mapping),
            Found::Overlap | Found::Nothing => None,
        }
    }
}

/// What the DAX code's callbacks find at the internal inode.
pub(super) struct Info {
    /// The DAX device that holds the extent, which outlives it.
    pub(super) device: Option<NonNull<bindings::dax_device>>,
    /// Offset of the first byte on that device.
    pub(super) start: u64,
    /// Length in bytes.
    pub(super) length: u64,
    /// Kernel address of the first byte.
    base: NonNull<u8>,
    /// Whether it is I/O memory.
    io: bool,
    /// A copy of the page after the extent, with the last bytes of its files; null until it is needed.
    tail: AtomicPtr<bindings::page>,
}

/// Return the place for a copy of the page after the extent that `mapping` is of.
///
/// # Safety
///
/// `mapping` must be the address space of a claimed extent, and stay so for `'a`.
pub(crate) unsafe fn tail<'a>(
    mapping: *mut bindings::address_space,
) -> &'a AtomicPtr<bindings::page> {
    // SAFETY: By the contract the host is an internal inode, whose `i_private` is its info.
    unsafe { &(*(*(*mapping).host).i_private.cast::<Info>()).tail }
}

/// An address space of an extent.
///
/// # Invariants
///
/// Owns a reference to an internal inode whose `i_private` is a boxed [`Info`], which lives as long as this.
struct Space(NonNull<bindings::inode>);

// SAFETY: Inodes are counted by reference and may be used by any thread; the info does not change.
unsafe impl Send for Space {}
// SAFETY: As for `Send`.
unsafe impl Sync for Space {}

impl Space {
    fn new(claim: &Claim) -> Result<Self> {
        let info = Info {
            device: claim.device,
            start: claim.start,
            length: claim.length,
            base: claim.base,
            io: claim.io,
            tail: AtomicPtr::new(ptr::null_mut()),
        };
        let info = KBox::new(info, GFP_KERNEL)?;
        let inode = internal::new_inode()?;
        let raw = inode.as_ptr();
        // SAFETY: The inode is new, and nobody else can see it.
        unsafe {
            (*raw).i_private = KBox::into_raw(info).cast();
            (*raw).i_data.a_ops = &OPERATIONS;
            bindings::daxfs_helper_inode_set_size(raw, claim.length as bindings::loff_t);
            if claim.device.is_some() {
                (*raw).i_flags |= bindings::DAXFS_S_DAX;
            }
        }
        // INVARIANT: Set just now.
        Ok(Space(inode))
    }

    fn mapping(&self) -> NonNull<bindings::address_space> {
        // SAFETY: By the invariant the inode is valid.
        NonNull::from(unsafe { &mut (*self.0.as_ptr()).i_data })
    }

    fn info(&self) -> &Info {
        // SAFETY: By the invariant.
        unsafe { &*(*self.0.as_ptr()).i_private.cast::<Info>() }
    }

    /// Unmap everything, and forget the pages unless some are still in use. Return whether they are forgotten. Does
    /// not wait for users of pages.
    fn forget(&self) -> bool {
        if self.info().device.is_none() {
            // SAFETY: The address space is valid. 0 pages are all of them.
            unsafe { bindings::unmap_mapping_pages(self.mapping().as_ptr(), 0, 0, false) };
            return true;
        }
        // The DAX code keeps interrupts off while it deletes the entries of a range.
        let length = self.info().length;
        let mut from = 0;
        while from < length {
            let last = (from + PIECE).min(length) - 1;
            // SAFETY: The inode is valid. Without a callback the function does not wait.
            let busy = unsafe {
                bindings::dax_break_layout(
                    self.0.as_ptr(),
                    from as bindings::loff_t,
                    last as bindings::loff_t,
                    None,
                )
            };
            if busy != 0 {
                return false;
            }
            from += PIECE;
        }
        true
    }

    fn unmap_failed(&self) {
        let info = self.info();
        // Device memory has no marks, and DAX devices announce failures themselves.
        if info.io || info.device.is_some() {
            return;
        }
        let pages = info.length >> bindings::DAXFS_PAGE_SHIFT;
        for index in 0..pages {
            let offset = (index << bindings::DAXFS_PAGE_SHIFT) as usize;
            // SAFETY: The extent is mapped in the kernel's address space as long as it is in the tree.
            if unsafe { poison::has_failed(info.base.as_ptr().wrapping_add(offset)) } {
                let mapping = self.mapping().as_ptr();
                // SAFETY: The address space is valid.
                unsafe { bindings::unmap_mapping_pages(mapping, index as usize, 1, false) };
            }
        }
    }

    /// Get a reference of its own to the address space.
    fn hold(&self) -> Held {
        // SAFETY: By the invariant we hold a reference.
        unsafe { bindings::ihold(self.0.as_ptr()) };
        // INVARIANT: Got just now.
        Held(self.0)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: By the invariant both are ours. No page fault is on the way, which would look at the info: the
        // extent has no user, so there is no mapping of it.
        unsafe {
            let info = KBox::from_raw((*self.0.as_ptr()).i_private.cast::<Info>());
            let tail = info.tail.load(Ordering::Acquire);
            if !tail.is_null() {
                bindings::daxfs_helper_put_page(tail);
            }
            bindings::iput(self.0.as_ptr());
        }
    }
}

/// A counted reference to the internal inode of a [`Space`], without the info.
///
/// # Invariants
///
/// Owns a reference.
struct Held(NonNull<bindings::inode>);

impl Held {
    fn page_failed(&self, index: usize, flags: kernel::ffi::c_int) {
        // SAFETY: By the invariant the inode, and with it its address space, is valid.
        unsafe {
            let mapping = &raw mut (*self.0.as_ptr()).i_data;
            #[cfg(CONFIG_MEMORY_FAILURE)]
            bindings::mf_dax_kill_procs(mapping, index, 1, flags);
            #[cfg(not(CONFIG_MEMORY_FAILURE))]
            let _ = flags;
            // Processes that it spared are to find out when they use the page.
            bindings::unmap_mapping_pages(mapping, index, 1, false);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// The operations of the address spaces. Nothing is ever read or written through them.
const OPERATIONS: bindings::address_space_operations = bindings::address_space_operations {
    dirty_folio: Some(bindings::noop_dirty_folio),
    ..pin_init::zeroed()
};
