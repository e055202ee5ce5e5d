// SPDX-License-Identifier: GPL-2.0

//! Which file has which pages of a DAX device mapped.
//!
//! The kernel's DAX code notes in each page which file it belongs to, and as what piece of it. In a valid image
//! no two files stand on one page, or share all of their data, and then map it as one. What an image says
//! otherwise must not reach that code, so a file claims its pages before it is mapped for the first time.

use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::Mutex,
};

/// What a file claimed, by the offset in the image of its first byte.
struct Claim {
    /// Offset of the first byte behind it.
    end: u64,
    /// Inode number.
    ino: u64,
}

/// The claims of all files of a mount, none of which overlap.
pub(crate) struct Claims(Pin<KBox<Mutex<RBTree<u64, Claim>>>>);

impl Claims {
    /// No claims.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Claims(KBox::pin_init(
            new_mutex!(RBTree::new()),
            GFP_KERNEL,
        )?))
    }

    /// Claims the bytes from `start` to `end` for inode `ino`, and tells whether it has them now, or has had
    /// them already; it has not if another inode claimed one of them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn claim(&self, start: u64, end: u64, ino: u64) -> Result<bool> {
        let node = RBTreeNode::new(start, Claim { end, ino }, GFP_KERNEL)?;
        let mut claims = self.0.lock();
        let before = match claims.cursor_lower_bound(&start) {
            Some(cursor) => {
                let (&next, claim) = cursor.current();
                if next == start && claim.ino == ino {
                    return Ok(true);
                }
                if next < end {
                    return Ok(false);
                }
                cursor.peek_prev().map(|(_, claim)| claim.end)
            }
            None => claims.cursor_back().map(|cursor| cursor.current().1.end),
        };
        if before.is_some_and(|end| end > start) {
            return Ok(false);
        }
        claims.insert(node);
        Ok(true)
    }

    /// Gives up what inode `ino` claimed from `start` on.
    pub(crate) fn release(&self, start: u64, ino: u64) {
        let mut claims = self.0.lock();
        if claims.get(&start).is_some_and(|claim| claim.ino == ino) {
            let node = claims.remove_node(&start);
            drop(claims);
            drop(node);
        }
    }
}
