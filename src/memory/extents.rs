// SPDX-License-Identifier: GPL-2.0-only

//! The extents of a region that files map.
//!
//! In a valid image extents do not overlap, and files with the same data share one extent. We
//! refuse an extent that overlaps another one, so the DAX code never sees it.

use crate::linux::mm::{
    Space,
    Span,
    PAGE_SIZE, //
};
use crate::prelude::*;

/// How many bytes of an extent to forget at a time, because the DAX code disables interrupts while
/// it deletes a range's entries.
const FORGET_PIECE: u64 = 64 << 20;

/// A mapped extent.
struct Extent {
    /// How many inodes in memory map it.
    users: usize,
    /// How many bytes at its start are forgotten. Page faults never map those bytes again.
    forgotten: u64,
    space: Arc<Space>,
}

/// The extents, by [`Span::key`].
type Tree = RBTree<u64, Extent>;

impl Extent {
    /// Makes the DAX code forget the next pages that it tracks. Returns false if one is in use.
    ///
    /// Call this only while no page fault can map a page of the extent.
    fn forget_piece(&mut self) -> bool {
        let piece = FORGET_PIECE.min(self.space.length - self.forgotten);
        let forgotten = piece == 0 || self.space.forget(self.forgotten, piece);
        if forgotten {
            self.forgotten += piece;
        }
        forgotten
    }
}

/// Adds a user to the extent of `span`, if it exists.
///
/// Errors: `EEXIST` if another extent has a page in common with it.
fn share(tree: &mut Tree, span: &Span) -> Result<Option<Arc<Space>>> {
    let start = span.key();
    if let Some(extent) = tree.get_mut(&start) {
        let space = &extent.space;
        if (space.length, space.tail, space.owner) != (span.length, span.tail, span.owner) {
            return Err(EEXIST);
        }
        extent.users += 1;
        extent.forgotten = 0;
        return Ok(Some(extent.space.clone()));
    }
    match last_before(tree, start + span.length) {
        Some(space) if space.key() + space.length > start => Err(EEXIST),
        _ => Ok(None),
    }
}

/// Returns the last extent that starts before `offset`.
fn last_before(tree: &Tree, offset: u64) -> Option<&Arc<Space>> {
    let start = match tree.cursor_lower_bound(&offset) {
        Some(cursor) => *cursor.peek_prev()?.0,
        None => *tree.cursor_back()?.current().0,
    };
    Some(&tree.get(&start)?.space)
}

/// All mapped extents of a region. They do not overlap.
///
/// The mutex protects the tree and the user counts. Memory reclaim takes it, so do not allocate
/// under it. Do not hold it while waiting for a page fault or for users of a page, or for work on
/// more pages than [`FORGET_PIECE`] has, except [`Space::release`] after all are forgotten.
#[pin_data]
pub(super) struct Extents {
    #[pin]
    tree: Mutex<Tree>,
}

impl Extents {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- new_mutex!(RBTree::new()),
        })
    }

    /// Claims the extent of `span` for one more inode. Returns its address space.
    ///
    /// Errors: `EEXIST` if it overlaps another extent, and the errors of [`Space::new`].
    pub(super) fn claim(&self, span: Span) -> Result<Arc<Space>> {
        if let Some(space) = share(&mut self.tree.lock(), &span)? {
            return Ok(space);
        }
        let space = Space::new(span)?;
        let extent = Extent {
            users: 1,
            forgotten: 0,
            space: space.clone(),
        };
        let node = RBTreeNode::new(span.key(), extent, GFP_KERNEL_ACCOUNT)?;
        let mut tree = self.tree.lock();
        // Another thread may have claimed the extent, or an overlapping one, in between.
        let found = share(&mut tree, &span);
        if let Ok(None) = found {
            tree.insert(node);
            return Ok(space);
        }
        drop(tree);
        drop(node);
        Ok(found?.unwrap_or(space))
    }

    /// Removes a user of the extent at `start`. Returns false if pages of it are still in use, so
    /// that it must be swept later.
    pub(super) fn release(&self, start: u64) -> bool {
        if let Some(extent) = self.tree.lock().get_mut(&start) {
            extent.users -= 1;
        }
        self.forget(start, false)
    }

    /// If no inode maps the extent at `start`, unmap and forget its pages, and remove it. With
    /// `unmap`, also unmap and forget one that inodes map. Returns false if a page is still in use.
    ///
    /// With `unmap`, see [`Extents::sweep`].
    fn forget(&self, start: u64, unmap: bool) -> bool {
        let is_wanted = |extent: &&mut Extent| unmap || extent.users == 0;
        let space = match self.tree.lock().get_mut(&start).filter(is_wanted) {
            Some(extent) if extent.forgotten < extent.space.length => Some(extent.space.clone()),
            _ => None,
        };
        if let Some(space) = space {
            // All of it, also what comes after a page that is still in use.
            space.unmap(0, 0);
        }
        loop {
            let mut tree = self.tree.lock();
            // An inode may have claimed it again.
            let Some(extent) = tree.get_mut(&start).filter(is_wanted) else {
                return true;
            };
            if !extent.forget_piece() {
                return false;
            }
            if extent.forgotten == extent.space.length {
                if !extent.space.release() {
                    return false;
                }
                let unused = extent.users == 0;
                let node = unused.then(|| tree.remove_node(&start));
                drop(tree);
                drop(node);
                return true;
            }
        }
    }

    /// Removes the extents that no inode maps. With `unmap`, also unmaps all others and makes their
    /// address spaces forget their pages. Returns false if their pages are still in use.
    ///
    /// With `unmap`, the lease must be revoked and have no readers, so that no page fault maps a
    /// page during the sweep.
    pub(super) fn sweep(&self, unmap: bool) -> bool {
        let mut idle = true;
        self.for_each(|start, _| idle &= self.forget(start, unmap));
        idle
    }

    /// Unmaps the failed page frame `frame`, like [`Space::unmap_failed`]. Returns true if an
    /// extent contains it.
    pub(super) fn unmap_failed(&self, frame: usize, has: bool) -> bool {
        let mut found = false;
        self.for_each(|_, space| found |= space.unmap_failed(frame, has));
        found
    }

    /// Calls `visit` with the start and the space of each extent, without the mutex.
    fn for_each(&self, mut visit: impl FnMut(u64, Arc<Space>)) {
        let mut from = 0;
        loop {
            let tree = self.tree.lock();
            let Some(cursor) = tree.cursor_lower_bound(&from) else {
                return;
            };
            let (&start, extent) = cursor.current();
            let space = extent.space.clone();
            drop(tree);
            visit(start, space);
            from = start + 1;
        }
    }

    /// Kills the processes that map the failed page at `offset`, and unmaps it.
    pub(super) fn page_failed(&self, offset: u64, flags: ffi::c_int) {
        let found = last_before(&self.tree.lock(), offset + 1).cloned();
        let Some(space) = found.filter(|space| offset < space.key() + space.length) else {
            return;
        };
        let index = (offset - space.key()) / PAGE_SIZE;
        // This waits for page faults, so the mutex must not be held.
        space.page_failed(index as usize, flags);
    }
}
