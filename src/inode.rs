// SPDX-License-Identifier: GPL-2.0

//! Inodes of a mounted image.

use crate::file;
use crate::image::{Content, Directory, Image, Inode};
use crate::memory::{Access, CacheMode, Files};
use crate::super_block::{report, DaxFs};
use crate::vfs::{self, Attributes, Errno, INodeRef, Kind, Mapped, SuperBlock};
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
    /// A regular file.
    Regular(file::Content),
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
        if inode.original == 0 {
            return attributes(sb, image, &inode, None);
        }
        let original = image
            .inode(inode.original)
            .map_err(|error| report(sb, inode.original, error))?;
        inode
            .check_original(image.superblock(), &original)
            .map_err(|error| report(sb, ino, error))?;
        let copies = match mappable(sb, &inode) {
            0 => Some(owner_of_copies(sb, image, &inode, &original)?),
            _ => None,
        };
        attributes(sb, image, &inode, copies)
    })
}

/// Return the inode in memory of `original`, whose copies `inode` shows. Its number is the smaller one, and it shows
/// no other's copies, so the locks of new inodes are taken in one order, whatever the image says.
fn owner_of_copies(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
    original: &Inode,
) -> Result<INodeRef<DaxFs>> {
    let found = sb.inode(original.ino.into(), || {
        attributes(sb, image, original, None)
    })?;
    // It may have been in the cache, from when the image said something else.
    if let (Node::Regular(theirs), Content::Regular { data }) = (&found.data().node, inode.content)
    {
        let same = (theirs.data, theirs.mappable, found.size()) == (data, 0, inode.size);
        if same && theirs.owner == original.ino {
            return Ok(found);
        }
    }
    let error = inode.unsuitable_original(image.superblock());
    Err(report(sb, inode.ino, error))
}

/// How many bytes of the regular file `inode` can be mapped from its first on.
fn mappable(sb: &SuperBlock<DaxFs>, inode: &Inode) -> u64 {
    match sb.data().region().files() {
        // Copies of pages are cached as ordinary memory, and one mapping has one cache mode.
        Files::Frames { cache, .. } if inode.packed && cache != CacheMode::WriteBack => 0,
        _ => inode.mappable(vfs::PAGE_SIZE),
    }
}

fn attributes(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
    original: Option<INodeRef<DaxFs>>,
) -> Result<Attributes<DaxFs>> {
    let (kind, node, allocated) = match inode.content {
        Content::Regular { data } => {
            let block = u64::from(image.superblock().block_size);
            let allocated = match inode.packed {
                true => inode.size,
                false => inode.size.next_multiple_of(block),
            };
            let mappable = mappable(sb, inode);
            let mapped = match sb.data().region().files() {
                _ if mappable == 0 && inode.size > 0 => Mapped::Copied,
                Files::Dax(_) => Mapped::Dax,
                _ => Mapped::Paged,
            };
            let owner = match inode.original {
                0 => inode.ino,
                original => original,
            };
            let content = file::Content::new(data, mappable, owner);
            (Kind::Regular { mapped }, Node::Regular(content), allocated)
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
        original,
        data: Data {
            node,
            xattrs: inode.xattrs,
        },
    })
}
