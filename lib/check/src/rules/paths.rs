// SPDX-License-Identifier: GPL-2.0-only

//! Finds the file that owns a place in an image.

use daxfs_files::memory::Storage;
use daxfs_reader::layout;
use daxfs_reader::memory::load;
use daxfs_reader::{Content, Image, Inode};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// The undamaged files of an image, by their places in it.
pub struct Paths {
    inodes: Range<u64>,
    root: u32,
    /// Parent and name of each inode that is reachable from the root.
    names: HashMap<u32, (u32, Box<[u8]>)>,
    /// Ranges of bytes that belong to an inode, sorted by start.
    ranges: Vec<(Range<u64>, u32)>,
}

impl Paths {
    /// Walks `image`. Visits at most as many entries as its table has, even if directories share
    /// entries.
    pub fn new<S: Storage>(image: &Image<'_, S>) -> Self {
        let superblock = image.superblock();
        let mut paths = Paths {
            inodes: superblock.inodes.offset..superblock.inodes.end(),
            root: superblock.root,
            names: HashMap::new(),
            ranges: Vec::new(),
        };
        let mut left = superblock.dirents.length / layout::DIRENT_SIZE;
        let mut pending = VecDeque::new();
        if let Ok(root) = image.root() {
            paths.add_ranges(image, &root);
            pending.push_back(root);
        }
        while let Some(inode) = pending.pop_front() {
            let Some(directory) = inode.directory() else {
                continue;
            };
            let mut entries = image.entries(&directory, 0);
            while let Some(entry) = entries.next() {
                if left == 0 {
                    break;
                }
                left -= 1;
                let Ok((entry, name)) = entry else {
                    continue;
                };
                if entry.ino == paths.root || paths.names.contains_key(&entry.ino) {
                    continue;
                }
                paths.names.insert(entry.ino, (inode.ino, name.into()));
                if let Ok(child) = image.inode(entry.ino) {
                    paths.add_ranges(image, &child);
                    pending.push_back(child);
                }
            }
        }
        paths.ranges.sort_by_key(|(range, _)| range.start);
        paths
    }

    /// Records which bytes belong to `inode`.
    fn add_ranges<S: Storage>(&mut self, image: &Image<'_, S>, inode: &Inode) {
        let mut add = |start: u64, length: u64| {
            let range = start..start.saturating_add(length);
            self.ranges.push((range, inode.ino));
        };
        match inode.content {
            Content::Directory(directory) => {
                let first = directory.first.saturating_mul(layout::DIRENT_SIZE);
                let start = image.superblock().dirents.offset.saturating_add(first);
                add(start, u64::from(directory.entries) * layout::DIRENT_SIZE);
            }
            Content::Regular { data } => add(data, inode.size),
            Content::Symlink { target, length } => add(target, length.into()),
            Content::InPack { .. } | Content::Device { .. } | Content::Special => (),
        }
        if inode.xattrs != 0 {
            if let Ok(set) = load::<_, layout::XattrSet>(image.memory(), inode.xattrs) {
                add(inode.xattrs, set.length.get().into());
            }
        }
    }

    /// Returns the path of a file that owns the byte at `offset`, if any.
    pub fn find(&self, offset: u64) -> Option<Vec<u8>> {
        if self.inodes.contains(&offset) {
            let ino = (offset - self.inodes.start) / layout::INODE_SIZE + 1;
            return self.path(u32::try_from(ino).ok()?);
        }
        let after = self
            .ranges
            .partition_point(|(range, _)| range.start <= offset);
        let (range, ino) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&offset).then(|| self.path(*ino))?
    }

    fn path(&self, ino: u32) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != self.root {
            // Each inode was found through its parent, so this ends at the root.
            let (parent, name) = self.names.get(&at)?;
            names.push(&name[..]);
            at = *parent;
        }
        names.reverse();
        Some([b"/", &names.join(&b'/')[..]].concat())
    }
}
