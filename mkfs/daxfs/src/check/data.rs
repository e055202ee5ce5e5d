// SPDX-License-Identifier: GPL-2.0

//! Checks where the data of files stand, and that there is nothing between them.

use super::Checker;
use crate::image::layout;
use crate::memory::Storage;
use std::mem::offset_of;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    /// Data of different files must not share a block, and the rest of the data, the last block of every file
    /// included, must be zero.
    pub(super) fn check_data(&mut self) -> ControlFlow<()> {
        let table = self.image.superblock().data;
        let block = u64::from(self.image.superblock().block_size);
        let mut extents = std::mem::take(&mut self.extents);
        extents.sort_unstable_by_key(|extent| (extent.offset, extent.size));
        let mut end = table.offset;
        for extent in extents {
            let field = self.inode_offset(extent.ino) + offset_of!(layout::Inode, data) as u64;
            if extent.offset < end.next_multiple_of(block) {
                self.rule("files share data", field, extent.offset)?;
            } else {
                self.zeros(end, extent.offset)?;
            }
            end = end.max(extent.offset + extent.size);
        }
        self.zeros(end, table.end())
    }
}
