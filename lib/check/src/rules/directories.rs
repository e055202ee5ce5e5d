// SPDX-License-Identifier: GPL-2.0-only

//! Checks the directories: their places, their entries, and that a look-up finds each entry.

use super::Checker;
use daxfs_files::memory::Storage;
use daxfs_reader::hash::name_hash;
use daxfs_reader::layout;
use daxfs_reader::{Directory, Dirent};
use std::collections::VecDeque;
use std::mem::offset_of;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    pub(super) fn check_directories(&mut self) -> ControlFlow<()> {
        self.check_records()?;
        let root = self.image.superblock().root;
        let mut walked = vec![false; self.inodes.len()];
        let mut pending = VecDeque::new();
        let directory = self.image.root().ok().and_then(|inode| inode.directory());
        if let Some(directory) = directory.filter(|_| self.may_walk(root)) {
            walked[root as usize - 1] = true;
            pending.push_back(directory);
        }
        while let Some(directory) = pending.pop_front() {
            // One for `.`; `..` and the directory's name are counted when they are seen.
            let links = &mut self.inodes[directory.ino as usize - 1].links;
            *links = links.saturating_add(1);
            if directory.ino == root {
                *links = links.saturating_add(1);
            }
            self.check_entries(&directory, &mut walked, &mut pending)?;
        }
        for (seen, walked) in self.inodes.iter_mut().zip(walked) {
            seen.walk = walked;
        }
        ControlFlow::Continue(())
    }

    fn may_walk(&self, ino: u32) -> bool {
        self.inodes
            .get(ino as usize - 1)
            .is_some_and(|seen| seen.walk)
    }

    /// Checks that directories share no records, and that unused records are zero.
    fn check_records(&mut self) -> ControlFlow<()> {
        let table = self.image.superblock().dirents;
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_unstable_by_key(|directory| (directory.first, directory.entries));
        let mut end = 0;
        for directory in directories {
            if directory.entries == 0 {
                continue;
            }
            if directory.first < end {
                let field = offset_of!(layout::Inode, data) as u64;
                let offset = self.inode_offset(directory.ino) + field;
                self.rule("directories share entries", offset, directory.first)?;
                self.inodes[directory.ino as usize - 1].walk = false;
                continue;
            }
            self.zeros(
                table.offset + end * layout::DIRENT_SIZE,
                table.offset + directory.first * layout::DIRENT_SIZE,
            )?;
            end = directory.first + u64::from(directory.entries);
        }
        self.zeros(table.offset + end * layout::DIRENT_SIZE, table.end())
    }

    fn check_entries(
        &mut self,
        directory: &Directory,
        walked: &mut [bool],
        pending: &mut VecDeque<Directory>,
    ) -> ControlFlow<()> {
        let mut last: Option<(u32, Vec<u8>)> = None;
        let mut entries = self.image.entries(directory, 0);
        while let Some(entry) = entries.next() {
            match entry {
                Ok((entry, name)) => {
                    self.check_entry(directory, &entry, name, &mut last)?;
                    self.enter(directory, &entry, walked, pending)?;
                }
                Err(error) => self.report(error)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// Checks an entry, its order after the previous one, and that a look-up of its name finds it.
    fn check_entry(
        &mut self,
        directory: &Directory,
        entry: &Dirent,
        name: &[u8],
        last: &mut Option<(u32, Vec<u8>)>,
    ) -> ControlFlow<()> {
        let record = directory.first + u64::from(entry.position);
        let offset = self.image.superblock().dirents.offset + record * layout::DIRENT_SIZE;
        if name_hash(name) != entry.hash {
            return self.rule("wrong hash in directory entry", offset, entry.hash.into());
        }
        let before = last
            .as_ref()
            .is_none_or(|(hash, last)| (*hash, last.as_slice()) < (entry.hash, name));
        if !before {
            self.rule("directory entries out of order", offset, entry.hash.into())?;
        }
        *last = Some((entry.hash, name.to_vec()));
        match self.image.lookup(directory, name) {
            Ok(Some(found)) if found == *entry => ControlFlow::Continue(()),
            Ok(found) => {
                let position = found.map_or(u64::MAX, |found| found.position.into());
                self.rule("name does not lead to its entry", offset, position)
            }
            Err(error) => self.report(error),
        }
    }

    /// Counts the link of `entry` and visits the directory that `entry` refers to.
    fn enter(
        &mut self,
        directory: &Directory,
        entry: &Dirent,
        walked: &mut [bool],
        pending: &mut VecDeque<Directory>,
    ) -> ControlFlow<()> {
        let index = entry.ino as usize - 1;
        if !self.inodes.get(index).is_some_and(|seen| seen.valid) {
            // The check of the inodes has reported it.
            return ControlFlow::Continue(());
        }
        let Some(inode) = self.load_inode(entry.ino)? else {
            return ControlFlow::Continue(());
        };
        let child = inode.directory();
        let checked = self
            .image
            .check_entry(directory, entry, inode.file_type, child.as_ref());
        if let Err(error) = checked {
            return self.report(error);
        }
        self.inodes[index].links = self.inodes[index].links.saturating_add(1);
        if let Some(child) = child {
            let parent = &mut self.inodes[directory.ino as usize - 1];
            parent.links = parent.links.saturating_add(1);
            if self.may_walk(child.ino) && !walked[index] {
                walked[index] = true;
                pending.push_back(child);
            }
        }
        ControlFlow::Continue(())
    }
}
