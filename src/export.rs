// SPDX-License-Identifier: GPL-2.0-only

//! File handles of a mounted image.

use crate::dir::directory;
use crate::inode;
use crate::linux::fs::{
    ExportOperations,
    INode,
    INodeRef,
    SuperBlock, //
};
use crate::linux::Errno;
use crate::mount::DaxFs;
use kernel::prelude::*;

impl ExportOperations for DaxFs {
    fn get_inode(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>> {
        let inodes = sb.data().backing.superblock.inode_count();
        // This is an error of the handle, and not of the image, so it is not reported.
        if generation != sb.data().generation() || ino == 0 || ino > inodes {
            return Err(Errno::Stale.into());
        }
        let access = sb.data().backing.region.access()?;
        inode::get(sb, &sb.data().backing.image(&access), ino as u32)
    }

    fn get_parent(dir: &INode<Self>) -> Result<INodeRef<Self>> {
        let sb = dir.super_block();
        let access = sb.data().backing.region.access()?;
        inode::get(
            sb,
            &sb.data().backing.image(&access),
            directory(dir)?.parent,
        )
    }
}
