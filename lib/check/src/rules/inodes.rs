// SPDX-License-Identifier: GPL-2.0-only

//! Checks the inode table.

use super::{Checker, DataRange, Seen};
use daxfs_files::memory::Storage;
use daxfs_reader::layout;
use daxfs_reader::memory::load;
use daxfs_reader::{Content, Image, Inode};
use std::mem::offset_of;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    /// Checks each inode on its own, and records facts for the later checks.
    pub(super) fn check_inodes(&mut self) -> ControlFlow<()> {
        let root = self.image.root();
        self.ok(root)?;
        let count = self.image.superblock().inode_count() as u32;
        for ino in 1..=count {
            let seen = match self.load_inode(ino)? {
                Some(inode) => self.inode(&inode)?,
                None => Seen::default(),
            };
            self.inodes.push(seen);
        }
        ControlFlow::Continue(())
    }

    fn inode(&mut self, inode: &Inode) -> ControlFlow<(), Seen> {
        let offset = self.inode_offset(inode.ino);
        let raw = load::<_, layout::Inode>(self.image.memory(), offset);
        let Some(raw) = self.ok(raw)? else {
            return ControlFlow::Continue(Seen::default());
        };
        for (field, id) in [
            (offset_of!(layout::Inode, uid), inode.uid),
            (offset_of!(layout::Inode, gid), inode.gid),
        ] {
            if id == u32::MAX {
                self.rule("invalid owner", offset + field as u64, id.into())?;
            }
        }
        let mut unused = Vec::new();
        if !matches!(inode.content, Content::InPack { .. }) {
            unused.push((offset_of!(layout::Inode, pack), raw.pack.get().into()));
        }
        let directory = matches!(inode.content, Content::Directory(_));
        match inode.content {
            Content::Directory(directory) => self.directories.push(directory),
            Content::Regular { data } if inode.size > 0 && inode.original == 0 => {
                self.extents.push(DataRange {
                    offset: data,
                    size: inode.size,
                    ino: inode.ino,
                    packed: inode.packed,
                });
            }
            Content::Regular { .. } if inode.size > 0 => {
                if let Some(original) = self.load_inode(inode.original)? {
                    let checked = inode.check_original(self.image.superblock(), &original);
                    self.ok(checked)?;
                }
            }
            Content::Regular { .. } | Content::Special => {
                let original = raw.original.get().into();
                unused.push((offset_of!(layout::Inode, data), raw.data.get()));
                unused.push((offset_of!(layout::Inode, flags), raw.flags.get().into()));
                unused.push((offset_of!(layout::Inode, original), original));
            }
            Content::Symlink { .. } => {
                let target = self.image.target(inode);
                self.ok(target)?;
            }
            Content::InPack { pack, .. } => {
                self.used_packs[pack as usize] = true;
                let pack = self.packs.get(pack as usize);
                if let Some(Some(pack)) = pack {
                    let pack = Image::new(pack.memory(), pack.superblock());
                    let source = self.image.source(inode, |_| Some(pack));
                    self.ok(source)?;
                }
            }
            // The reader checks the fields of a file without data.
            Content::Device { .. } => {}
        }
        if !directory {
            let (parent, position) = (raw.parent.get(), raw.position.get());
            unused.push((offset_of!(layout::Inode, parent), parent.into()));
            unused.push((offset_of!(layout::Inode, position), position.into()));
        }
        for (field, value) in unused {
            if value != 0 {
                let what = "unused field of an inode is not zero";
                self.rule(what, offset + field as u64, value)?;
            }
        }
        if inode.xattrs != 0 {
            self.xattrs.push((inode.xattrs, inode.ino));
        }
        ControlFlow::Continue(Seen {
            valid: true,
            directory,
            nlink: inode.nlink,
            links: 0,
            walk: directory,
        })
    }

    /// Checks each inode's link count. The directories must have been checked before.
    pub(super) fn check_links(&mut self) -> ControlFlow<()> {
        let root = self.image.superblock().root;
        for index in 0..self.inodes.len() {
            let seen = self.inodes[index];
            let ino = index as u32 + 1;
            let offset = self.inode_offset(ino);
            if !seen.valid {
                continue;
            }
            // Without a walk, a directory's subdirectories were not counted.
            let reached = if seen.directory {
                seen.walk
            } else {
                seen.links > 0
            };
            if !reached && ino != root {
                self.rule("inode is in no directory", offset, ino.into())?;
            } else if seen.links != seen.nlink {
                let field = offset_of!(layout::Inode, nlink) as u64;
                self.rule("wrong link count", offset + field, seen.nlink.into())?;
            }
        }
        ControlFlow::Continue(())
    }
}
