// SPDX-License-Identifier: GPL-2.0

//! Inodes of a mounted image.

use crate::image::{Content, Directory, Image, Inode};
use crate::memory::{Access, Files};
use crate::super_block::{report, DaxFs};
use crate::vfs::{Attributes, Errno, INodeRef, Kind, SuperBlock};
use core::ptr::NonNull;
use kernel::prelude::*;

/// What an inode in memory keeps.
pub(crate) struct Data {
    /// Where its content stands in the image.
    pub(crate) node: Node,
    /// Where its set of extended attributes stands, 0 for none.
    pub(crate) xattrs: u64,
}

/// Where the content of an inode stands in the image.
pub(crate) enum Node {
    /// A directory.
    Directory(Directory),
    /// A regular file, with the offset of its data in the image in bytes.
    Regular(u64),
    /// A symlink, with its target and a NUL: the VFS wants to have it at hand.
    Symlink(#[expect(dead_code)] KVec<u8>),
    /// Anything else.
    Special,
}

/// The inode `ino`, from the cache or from `image`.
///
/// # Errors
///
/// `EUCLEAN` when it is not valid, `EIO` when its memory fails, `ENOMEM`.
pub(crate) fn get(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    ino: u32,
) -> Result<INodeRef<DaxFs>> {
    sb.inode(ino.into(), || {
        let inode = image.inode(ino).map_err(|error| report(sb, ino, error))?;
        attributes(sb, image, &inode)
    })
}

fn attributes(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
) -> Result<Attributes<DaxFs>> {
    let (kind, node, allocated) = match inode.content {
        Content::Regular { data } => {
            let block = u64::from(image.superblock().block_size);
            let allocated = inode.size.next_multiple_of(block);
            let dax = matches!(sb.data().region().files(), Files::Dax(_));
            (Kind::Regular { dax }, Node::Regular(data), allocated)
        }
        Content::Directory(directory) => (Kind::Directory, Node::Directory(directory), inode.size),
        Content::Symlink { target, length } => {
            let length = usize::from(length);
            let mut text = KVec::from_elem(0, length + 1, GFP_KERNEL)?;
            image
                .symlink(target, &mut text[..length])
                .map_err(|error| report(sb, inode.ino, error))?;
            let target =
                CStr::from_bytes_with_nul(&text).map_err(|_| Error::from(Errno::Corrupted))?;
            (Kind::Symlink(NonNull::from(target)), Node::Symlink(text), 0)
        }
        Content::Device { major, minor } => (Kind::Special { major, minor }, Node::Special, 0),
        Content::Special => (Kind::Special { major: 0, minor: 0 }, Node::Special, 0),
    };
    Ok(Attributes {
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        allocated,
        time: (inode.mtime_sec, inode.mtime_nsec),
        generation: sb.data().generation(),
        may_have_acl: inode.xattrs != 0,
        kind,
        data: Data {
            node,
            xattrs: inode.xattrs,
        },
    })
}
