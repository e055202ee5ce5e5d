// SPDX-License-Identifier: GPL-2.0-only

//! Checks the table of packs.

use super::Checker;
use daxfs_files::memory::Storage;
use daxfs_reader::layout;
use std::collections::HashSet;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    /// Checks the table of packs. The inodes must have been checked before.
    pub(super) fn check_packs(&mut self) -> ControlFlow<()> {
        let table = self.image.superblock().packs;
        let mut seen = HashSet::new();
        for index in 0..self.image.superblock().pack_count() {
            let offset = table.offset + u64::from(index) * layout::PACK_SIZE;
            let number = u64::from(index) + 1;
            let record = self.image.pack(index);
            let Some(record) = self.ok(record)? else {
                continue;
            };
            if !seen.insert(record.sha256) {
                self.rule("pack is in the table twice", offset, number)?;
            } else if !self.used_packs[index as usize] {
                self.rule("no file has data in the pack", offset, number)?;
            }
            let pack = self.packs.get(index as usize);
            if let Some(Some(pack)) = pack {
                if pack.superblock().pack_count() > 0 {
                    self.rule("pack has packs itself", offset, number)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}
