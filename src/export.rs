// SPDX-License-Identifier: GPL-2.0-only

//! File handles of a mounted image.

use crate::dir::directory;
use crate::inode::{self, Object};
use crate::linux::fs::{ExportOperations, INode, INodeRef, SuperBlock};
use crate::linux::Errno;
use crate::mount::{report, DaxFs};
use kernel::prelude::*;

/// Check for signals every this many entries.
const CHECK_SIGNALS: u32 = 4096;

impl ExportOperations for DaxFs {
    fn get_inode(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>> {
        let inodes = sb.data().superblock.inode_count();
        // This is an error of the handle, and not of the image, so it is not reported.
        if generation != sb.data().generation() || ino == 0 || ino > inodes {
            return Err(Errno::Stale.into());
        }
        let access = sb.data().region.access()?;
        inode::get(sb, &sb.data().image(&access), ino as u32)
    }

    fn get_parent(dir: &INode<Self>) -> Result<INodeRef<Self>> {
        let sb = dir.super_block();
        let access = sb.data().region.access()?;
        inode::get(sb, &sb.data().image(&access), directory(dir)?.parent)
    }

    fn get_name(dir: &INode<Self>, child: &INode<Self>, name: &mut [u8]) -> Result {
        let sb = dir.super_block();
        let parent = directory(dir)?;
        // The inode of a directory has the number of its entry. For other inodes search the parent.
        let start = match &child.data().object {
            Object::Directory(child) => child.position,
            _ => 0,
        };
        let access = sb.data().region.access()?;
        let image = sb.data().image(&access);
        let refuse = |error| report(sb, parent.ino, error);
        let mut result = Err(ENOENT);
        image.list(parent, start).each(refuse, |entry, found| {
            if u64::from(entry.ino) == child.ino() {
                let room = name.get_mut(..found.len()).ok_or(Errno::NameTooLong)?;
                room.copy_from_slice(found);
                result = Ok(());
                return Ok(false);
            }
            if matches!(child.data().object, Object::Directory(_)) {
                return Ok(false);
            }
            if entry.position % CHECK_SIGNALS == 0 && kernel::current!().signal_pending() {
                return Err(EINTR);
            }
            Ok(true)
        })?;
        result
    }
}
