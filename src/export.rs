// SPDX-License-Identifier: GPL-2.0

//! From file handles to the inodes and names of a mounted image.

use crate::dir::directory;
use crate::inode::{self, Node};
use crate::super_block::{report, DaxFs};
use crate::vfs::{Errno, INode, INodeRef, SuperBlock};
use kernel::prelude::*;

/// Entries that are looked at between two looks for a signal.
const PIECE: u32 = 4096;

/// See [`crate::vfs::FileSystem::inode_of_handle`].
pub(crate) fn inode_of_handle(
    sb: &SuperBlock<DaxFs>,
    ino: u64,
    generation: u32,
) -> Result<INodeRef<DaxFs>> {
    // No inode of this image: not worth a line in the log, as the image is not to blame.
    if generation != sb.data().generation() || ino == 0 || ino > sb.data().inode_count() {
        return Err(Errno::Stale.into());
    }
    let access = sb.data().region().access()?;
    inode::get(sb, &sb.data().image(&access), ino as u32)
}

/// See [`crate::vfs::FileSystem::parent`].
pub(crate) fn parent(dir: &INode<DaxFs>) -> Result<INodeRef<DaxFs>> {
    let sb = dir.super_block();
    let access = sb.data().region().access()?;
    inode::get(sb, &sb.data().image(&access), directory(dir)?.parent)
}

/// See [`crate::vfs::FileSystem::name_in`].
pub(crate) fn name_in(
    dir: &INode<DaxFs>,
    child: &INode<DaxFs>,
    take: impl FnOnce(&[u8]),
) -> Result {
    let sb = dir.super_block();
    let parent = directory(dir)?;
    // A directory knows its entry; what other inodes are called, only the entries tell.
    let start = match &child.data().node {
        Node::Directory(child) => child.position,
        _ => 0,
    };
    let access = sb.data().region().access()?;
    let image = sb.data().image(&access);
    let mut listing = image.list(parent, start);
    while let Some(next) = listing.next() {
        let (entry, name) = next.map_err(|error| report(sb, parent.ino, error))?;
        if u64::from(entry.ino) == child.ino() {
            take(name);
            return Ok(());
        }
        if matches!(child.data().node, Node::Directory(_)) {
            break;
        }
        if entry.position % PIECE == 0 && kernel::current!().signal_pending() {
            return Err(EINTR);
        }
    }
    Err(ENOENT)
}
