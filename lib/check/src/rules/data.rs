// SPDX-License-Identifier: GPL-2.0-only

//! Checks the places of files' data, and that the gaps between them are zero.

use super::Checker;
use daxfs_files::memory::Storage;
use daxfs_reader::layout;
use std::mem::offset_of;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    /// Checks that no two files share a byte, unless one names the other as its original, nor a
    /// block, unless both are packed. The rest of the data must be zero.
    pub(super) fn check_data(&mut self) -> ControlFlow<()> {
        let table = self.image.superblock().data;
        let block = u64::from(self.image.superblock().block_size);
        let mut extents = std::mem::take(&mut self.extents);
        extents.sort_unstable_by_key(|extent| (extent.offset, extent.size));
        let mut end = table.offset;
        let mut packed = false;
        for extent in extents {
            let field = self.inode_offset(extent.ino) + offset_of!(layout::Inode, data) as u64;
            if extent.offset < end {
                self.rule("files share data", field, extent.offset)?;
            } else {
                let apart = extent.offset >= end.next_multiple_of(block);
                if !(apart || packed && extent.packed) {
                    self.rule("files share a block", field, extent.offset)?;
                }
                self.zeros(end, extent.offset)?;
            }
            if extent.offset + extent.size > end {
                end = extent.offset + extent.size;
                packed = extent.packed;
            }
        }
        self.zeros(end, table.end())
    }
}
