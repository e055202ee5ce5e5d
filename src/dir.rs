// SPDX-License-Identifier: GPL-2.0-only

//! Looks names up, lists directories, and opens file handles.

use crate::image::{
    Directory,
    FileType, //
};
use crate::inode::{
    self,
    Object, //
};
use crate::linux::fatal_signal_pending;
use crate::mount::{
    report,
    DaxFs, //
};
use crate::prelude::*;

/// Positions of `.` and `..` in a listing. Entry `n` is at position `DOTS + n`.
const DOTS: u64 = 2;

/// Returns the directory of an inode.
///
/// Errors: `ENOTDIR` if the inode is not a directory.
pub(crate) fn directory(inode: &INode<DaxFs>) -> Result<&Directory> {
    match &inode.data().object {
        Object::Directory(directory) => Ok(directory),
        _ => Err(ENOTDIR),
    }
}

impl DirOperations for DaxFs {
    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<INodeRef<Self>>> {
        let sb = dir.super_block();
        let directory = directory(dir)?;
        let access = sb.data().backing.region.access()?;
        let image = sb.data().backing.image(&access);
        let refuse = |error| report(sb, directory.ino, error);
        let Some(entry) = image.lookup(directory, name).map_err(refuse)? else {
            return Ok(None);
        };
        let inode = inode::get(sb, &image, entry.ino)?;
        let file_type = FileType::of_mode(inode.mode()).ok_or(Error::from(Errno::Corrupted))?;
        let child = match &inode.data().object {
            Object::Directory(child) => Some(child),
            _ => None,
        };
        image
            .check_entry(directory, &entry, file_type, child)
            .map_err(refuse)?;
        Ok(Some(inode))
    }

    fn iterate(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result {
        let directory = directory(dir)?;
        let d_type = FileType::Directory as u8;
        if emitter.position() == 0 && !emitter.emit(b".", dir.ino(), d_type) {
            return Ok(());
        }
        if emitter.position() == 1 && !emitter.emit(b"..", directory.parent.into(), d_type) {
            return Ok(());
        }

        let sb = dir.super_block();
        let refuse = |error| report(sb, directory.ino, error);
        // Emitting an entry may wait for anything, because it writes to user space. So keep access
        // to the region only during each read.
        let image = Image::new(&sb.data().backing.region, &sb.data().backing.superblock);
        let Ok(start) = u32::try_from(emitter.position() - DOTS) else {
            return Ok(());
        };
        // A directory may contain billions of entries, and overlayfs reads them all in one call.
        let check = || {
            if fatal_signal_pending() {
                Err(EINTR)
            } else {
                Ok(())
            }
        };
        image
            .list(directory, start)
            .each(refuse, check, |entry, name| {
                Ok(emitter.emit(name, entry.ino.into(), entry.file_type as u8))
            })
    }

    fn get_inode(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>> {
        let inodes = sb.data().backing.superblock.inode_count();
        // The handle is wrong, not the image, so don't report an error in the image.
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
