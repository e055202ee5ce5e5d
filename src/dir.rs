// SPDX-License-Identifier: GPL-2.0

//! Directories of a mounted image.

use crate::image::{Directory, FileType, Image};
use crate::inode::{self, Node};
use crate::super_block::{report, DaxFs};
use crate::vfs::{Emitter, Errno, INode, INodeRef};
use kernel::prelude::*;

/// Positions of `.` and `..` in a listing; entry number `n` has position `DOTS + n`, which stays the same
/// as long as the image does.
const DOTS: u64 = 2;

/// The directory behind `inode`.
///
/// # Errors
///
/// `ENOTDIR` when it is none.
pub(crate) fn directory(inode: &INode<DaxFs>) -> Result<&Directory> {
    match &inode.data().node {
        Node::Directory(directory) => Ok(directory),
        _ => Err(ENOTDIR),
    }
}

/// See [`crate::vfs::FileSystem::lookup`].
pub(crate) fn lookup(dir: &INode<DaxFs>, name: &[u8]) -> Result<Option<INodeRef<DaxFs>>> {
    let sb = dir.super_block();
    let directory = directory(dir)?;
    let access = sb.data().region().access()?;
    let image = sb.data().image(&access);
    let refuse = |error| report(sb, directory.ino, error);
    let Some(entry) = image.lookup(directory, name).map_err(refuse)? else {
        return Ok(None);
    };
    let inode = inode::get(sb, &image, entry.ino)?;
    let file_type = FileType::of_mode(inode.mode()).ok_or(Error::from(Errno::Corrupted))?;
    let child = match &inode.data().node {
        Node::Directory(child) => Some(child),
        _ => None,
    };
    image
        .check_entry(directory, &entry, file_type, child)
        .map_err(refuse)?;
    Ok(Some(inode))
}

/// See [`crate::vfs::FileSystem::iterate`].
pub(crate) fn iterate(dir: &INode<DaxFs>, emitter: &mut Emitter<'_>) -> Result {
    let directory = directory(dir)?;
    if emitter.position() == 0 && !emitter.emit(b".", dir.ino(), FileType::Directory) {
        return Ok(());
    }
    let parent = directory.parent.into();
    if emitter.position() == 1 && !emitter.emit(b"..", parent, FileType::Directory) {
        return Ok(());
    }

    let sb = dir.super_block();
    let refuse = |error| report(sb, directory.ino, error);
    // The entries are copied some at a time. Emitting one may wait for a page of the caller's, from anywhere, so the
    // memory is not kept meanwhile.
    let image = Image::new(sb.data().region(), sb.data().superblock());
    let Ok(start) = u32::try_from(emitter.position() - DOTS) else {
        return Ok(());
    };
    let mut listing = image.list(directory, start);
    while let Some(next) = listing.next() {
        let (entry, name) = next.map_err(refuse)?;
        if !emitter.emit(name, entry.ino.into(), entry.file_type) {
            break;
        }
    }
    Ok(())
}
