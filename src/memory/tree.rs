// SPDX-License-Identifier: GPL-2.0-only

//! The tree of mapped extents.
//!
//! In a valid image extents do not overlap, and files with the same data share one extent. An
//! extent that overlaps another one is refused, so that the DAX code never sees it.

use super::space::{Request, Space};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::Mutex,
};

/// A mapped extent. The key in the tree is [`Request::key`].
struct Extent {
    /// Key of the byte after the extent.
    end: u64,
    /// Number of bytes of the files in the page after the extent.
    tail: u64,
    /// Number of the inode whose data it is.
    owner: u64,
    /// Number of inodes in memory that map it.
    users: usize,
    space: Space,
}

/// All mapped extents of a region, none of which overlap.
///
/// The mutex protects the tree and the user counts. Memory reclaim takes it, so nothing is
/// allocated under it. Nobody who waits for a page fault or for users of a page may hold it.
#[pin_data]
pub(super) struct Extents {
    #[pin]
    tree: Mutex<RBTree<u64, Extent>>,
}

impl Extents {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- new_mutex!(RBTree::new()),
        })
    }

    /// Claim an extent for one more inode. Return its internal inode, or `None` if it overlaps
    /// another extent.
    pub(super) fn claim(&self, request: &Request) -> Result<Option<NonNull<bindings::inode>>> {
        match Self::share(&mut self.tree.lock(), request) {
            Found::Nothing => {}
            Found::Same(inode) => return Ok(Some(inode)),
            Found::Overlap => return Ok(None),
        }
        let space = Space::new(request)?;
        let inode = space.inode();
        let extent = Extent {
            end: request.key() + request.length,
            tail: request.tail,
            owner: request.owner,
            users: 1,
            space,
        };
        let node = RBTreeNode::new(request.key(), extent, GFP_KERNEL)?;
        let mut tree = self.tree.lock();
        // Another thread may have claimed the extent meanwhile.
        let found = match Self::share(&mut tree, request) {
            Found::Nothing => {
                tree.insert(node);
                return Ok(Some(inode));
            }
            Found::Same(inode) => Some(inode),
            Found::Overlap => None,
        };
        drop(tree);
        drop(node);
        Ok(found)
    }

    /// Add a user to the extent that `request` describes, if it exists.
    fn share(tree: &mut RBTree<u64, Extent>, request: &Request) -> Found {
        let start = request.key();
        let end = start + request.length;
        if let Some(extent) = tree.get_mut(&start) {
            if (extent.end, extent.tail, extent.owner) != (end, request.tail, request.owner) {
                return Found::Overlap;
            }
            extent.users += 1;
            return Found::Same(extent.space.inode());
        }
        match Self::last_before(tree, end).and_then(|start| tree.get(&start)) {
            Some(extent) if extent.end > start => Found::Overlap,
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

    /// Remove a user of the extent at `start`. Return false if pages of it are still in use, so
    /// that it must be swept later.
    ///
    /// # Safety
    ///
    /// [`Self::claim`] must have added this user, which does not use the internal inode any more.
    pub(super) unsafe fn release(&self, start: u64) -> bool {
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

    /// Remove the extents that no inode maps. With `unmap`, also unmap all others and make their
    /// address spaces forget their pages. Return false if pages of those are still in use.
    ///
    /// With `unmap`, the lease must be revoked and have no readers, so that no page fault maps a
    /// page meanwhile.
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
    ///
    /// # Safety
    ///
    /// The caller must be a reader of the lease.
    #[cfg(CONFIG_TRACEPOINTS)]
    pub(super) unsafe fn unmap_failed(&self) {
        let mut from = 0;
        loop {
            let tree = self.tree.lock();
            let Some(cursor) = tree.cursor_lower_bound(&from) else {
                return;
            };
            let (&start, extent) = cursor.current();
            // SAFETY: The caller is a reader of the lease.
            unsafe { extent.space.unmap_failed() };
            from = start + 1;
        }
    }

    /// Kill the processes that map the page at `offset`, whose memory has failed, and unmap it.
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
            let index = (offset - start) >> bindings::PAGE_SHIFT;
            (extent.space.hold(), index)
        };
        // This waits for page faults, so the mutex must not be held.
        space.page_failed(index as usize, flags);
    }
}

/// Result of [`Extents::share`].
enum Found {
    /// The extent exists, and has one more user.
    Same(NonNull<bindings::inode>),
    /// Another extent has a page in common with it.
    Overlap,
    /// No extent has any of these pages.
    Nothing,
}
