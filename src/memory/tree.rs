// SPDX-License-Identifier: GPL-2.0-only

//! The tree of mapped extents.
//!
//! In a valid image extents do not overlap, and files with the same data share one extent. An
//! extent that overlaps another one is refused, so that the DAX code never sees it.

use super::MapMethod;
use crate::linux::mm::{Space, Span, PAGE_SIZE};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{Arc, Mutex},
};

/// Number of bytes of an extent that are forgotten at a time: the DAX code keeps interrupts off
/// while it deletes the entries of a range.
const FORGET_PIECE: u64 = 64 << 20;

/// A request to claim an extent.
pub(super) struct Request {
    /// The extent in the memory of the region.
    pub(super) span: Span,
    /// Number of the inode whose data it is.
    pub(super) owner: u64,
}

impl Request {
    /// Return the offset of the first byte as the DAX device counts, which announces failures.
    pub(super) fn key(&self) -> u64 {
        match self.span.memory.method() {
            MapMethod::Dax(range) => range.offset + self.span.offset,
            MapMethod::Pages | MapMethod::Frames(_) => self.span.offset,
        }
    }
}

/// A mapped extent. The key in the tree is [`Request::key`].
struct Extent {
    /// Key of the byte after the extent.
    end: u64,
    /// Number of the inode whose data it is.
    owner: u64,
    /// Number of inodes in memory that map it.
    users: usize,
    /// Number of bytes at its start that are forgotten, and that no page fault maps again.
    forgotten: u64,
    space: Arc<Space>,
}

impl Extent {
    /// Unmap and forget the pages that are not forgotten yet, up to one that is still in use.
    /// Return false if there is one.
    ///
    /// Call this only while no page fault can map a page of the extent.
    fn forget(&mut self) -> bool {
        let length = self.space.length;
        if self.forgotten < length {
            // All of it, also what comes after a page that is still in use.
            self.space.unmap(0, 0);
        }
        while self.forgotten < length {
            let piece = FORGET_PIECE.min(length - self.forgotten);
            if !self.space.forget(self.forgotten, piece) {
                return false;
            }
            self.forgotten += piece;
        }
        true
    }
}

/// State under the mutex of [`Extents`].
struct Tree {
    extents: RBTree<u64, Extent>,
    /// Number of extents that [`Tree::insert`] has inserted.
    inserted: u64,
}

impl Tree {
    /// Add a user to the extent that `request` describes, if it exists.
    fn share(&mut self, request: &Request) -> Found {
        let start = request.key();
        let end = start + request.span.length;
        let before = match self.extents.cursor_lower_bound_mut(&start) {
            Some(mut cursor) => {
                let (&next, extent) = cursor.current_mut();
                let what = (extent.end, extent.space.tail, extent.owner);
                if next == start && what == (end, request.span.tail, request.owner) {
                    extent.users += 1;
                    extent.forgotten = 0;
                    return Found::Same(extent.space.clone());
                }
                if next == start || next < end {
                    return Found::Overlap;
                }
                cursor.peek_prev().map(|(_, extent)| extent.end)
            }
            None => {
                let last = self.extents.cursor_back();
                last.map(|cursor| cursor.current().1.end)
            }
        };
        match before {
            Some(before) if before > start => Found::Overlap,
            _ => Found::Nothing,
        }
    }

    /// Return the last extent that starts before `offset`, and where it starts.
    fn last_before(&self, offset: u64) -> Option<(u64, &Extent)> {
        let start = match self.extents.cursor_lower_bound(&offset) {
            Some(cursor) => *cursor.peek_prev()?.0,
            None => *self.extents.cursor_back()?.current().0,
        };
        Some((start, self.extents.get(&start)?))
    }

    /// Insert an extent that overlaps none.
    fn insert(&mut self, node: RBTreeNode<u64, Extent>) {
        self.extents.insert(node);
        self.inserted += 1;
    }
}

/// All mapped extents of a region, none of which overlap.
///
/// The mutex protects the tree and the user counts. Memory reclaim takes it, so do not allocate
/// under it. Do not hold it while waiting for a page fault or for users of a page.
#[pin_data]
pub(super) struct Extents {
    #[pin]
    tree: Mutex<Tree>,
}

impl Extents {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- new_mutex!(Tree {
                extents: RBTree::new(),
                inserted: 0,
            }),
        })
    }

    /// Claim an extent for one more inode. Return its address space, or `None` if it overlaps
    /// another extent.
    pub(super) fn claim(&self, request: &Request) -> Result<Option<Arc<Space>>> {
        let inserted = {
            let mut tree = self.tree.lock();
            match tree.share(request) {
                Found::Nothing => tree.inserted,
                Found::Same(space) => return Ok(Some(space)),
                Found::Overlap => return Ok(None),
            }
        };
        let space = Space::new(request.span)?;
        let extent = Extent {
            end: request.key() + request.span.length,
            owner: request.owner,
            users: 1,
            forgotten: 0,
            space: space.clone(),
        };
        let node = RBTreeNode::new(request.key(), extent, GFP_KERNEL)?;
        let mut tree = self.tree.lock();
        // Another thread may have claimed the extent, or an overlapping one, in between. If none
        // was inserted, the range is still free, whatever was removed.
        let found = match tree.inserted == inserted {
            true => Found::Nothing,
            false => tree.share(request),
        };
        let found = match found {
            Found::Nothing => {
                tree.insert(node);
                return Ok(Some(space));
            }
            Found::Same(space) => Some(space),
            Found::Overlap => None,
        };
        drop(tree);
        drop(node);
        Ok(found)
    }

    /// Remove a user of the extent at `start`. Return false if pages of it are still in use, so
    /// that it must be swept later.
    pub(super) fn release(&self, start: u64) -> bool {
        let mut tree = self.tree.lock();
        let Some(extent) = tree.extents.get_mut(&start) else {
            return true;
        };
        extent.users -= 1;
        if extent.users > 0 {
            return true;
        }
        if !extent.forget() {
            return false;
        }
        let node = tree.extents.remove_node(&start);
        drop(tree);
        drop(node);
        true
    }

    /// Remove the extents that no inode maps. With `unmap`, also unmap all others and make their
    /// address spaces forget their pages. Return false if their pages are still in use.
    ///
    /// With `unmap`, the lease must be revoked and have no readers, so that no page fault maps a
    /// page during the sweep.
    pub(super) fn sweep(&self, unmap: bool) -> bool {
        let mut idle = true;
        let mut from = 0;
        loop {
            let mut tree = self.tree.lock();
            let Some(mut cursor) = tree.extents.cursor_lower_bound_mut(&from) else {
                return idle;
            };
            let (&start, extent) = cursor.current_mut();
            let mut node = None;
            let unused = extent.users == 0;
            if unused || unmap {
                let forgotten = extent.forget();
                idle &= forgotten;
                if forgotten && unused {
                    node = tree.extents.remove_node(&start);
                }
            }
            drop(tree);
            drop(node);
            from = start + 1;
        }
    }

    /// Unmap all pages whose memory may have failed. Return true if there is an extent.
    #[cfg(CONFIG_TRACEPOINTS)]
    pub(super) fn unmap_suspects(&self) -> bool {
        let mut from = 0;
        loop {
            let tree = self.tree.lock();
            let Some(cursor) = tree.extents.cursor_lower_bound(&from) else {
                return from > 0;
            };
            let (&start, extent) = cursor.current();
            extent.space.unmap_suspects();
            from = start + 1;
        }
    }

    /// Kill the processes that map the page at `offset`, whose memory has failed, and unmap it.
    pub(super) fn page_failed(&self, offset: u64, flags: kernel::ffi::c_int) {
        let (space, index) = {
            let tree = self.tree.lock();
            let Some((start, extent)) = tree.last_before(offset + 1) else {
                return;
            };
            if offset >= extent.end {
                return;
            }
            let index = (offset - start) / PAGE_SIZE;
            (extent.space.clone(), index)
        };
        // This waits for page faults, so the mutex must not be held.
        space.page_failed(index as usize, flags);
    }
}

/// Result of [`Tree::share`].
enum Found {
    /// The extent exists, and has one more user.
    Same(Arc<Space>),
    /// Another extent has a page in common with it.
    Overlap,
    /// No extent has any of these pages.
    Nothing,
}
