// SPDX-License-Identifier: GPL-2.0-only

//! Inodes of a mounted image.

use crate::image::{Content, Directory, Image, Inode};
use crate::linux::fs::{Attributes, INodeRef, Kind, MappedBy, SuperBlock};
use crate::memory::{Access, MapMethod};
use crate::mount::{report, DaxFs};
use kernel::{page::PAGE_SIZE, prelude::*};

/// The private data of an inode.
pub(crate) struct Data {
    /// The object.
    pub(crate) object: Object,
    /// Offset of the set of extended attributes in the image, 0 for none.
    pub(crate) xattrs: u64,
}

/// The object that an inode stands for.
pub(crate) enum Object {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(FileData),
    /// A symlink, with its target and a NUL.
    Symlink(KVec<u8>),
    /// A device, FIFO, socket, or regular file without data.
    Special,
}

/// The data of a regular file.
pub(crate) struct FileData {
    /// Offset of the first byte in the image.
    pub(crate) data: u64,
    /// Number of bytes, from the first on, in pages that hold nothing else and so can be mapped: a
    /// multiple of the page size. They reach to the end of the file, or to its last page.
    pub(crate) mappable: u64,
    /// Number of the inode that owns the data. Other files may share them.
    pub(crate) owner: u32,
}

/// Returns the inode `ino`, from the inode cache or from `image`.
///
/// # Errors
///
/// `EUCLEAN` if it is invalid, `EIO` if it cannot be read, `ENOMEM`.
pub(crate) fn get(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    ino: u32,
) -> Result<INodeRef<DaxFs>> {
    sb.inode(ino.into(), || {
        let inode = image.inode(ino).map_err(|error| report(sb, ino, error))?;
        let page_cache = match inode.original {
            0 => None,
            _ => check_original(sb, image, inode)?,
        };
        attributes(sb, image, &inode, page_cache)
    })
}

/// Checks that `inode` may share the data of its original. Returns the original in memory if
/// `inode` uses its page cache.
#[cold]
fn check_original(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: Inode,
) -> Result<Option<INodeRef<DaxFs>>> {
    let original = image
        .inode(inode.original)
        .map_err(|error| report(sb, inode.original, error))?;
    inode
        .check_original(image.superblock(), &original)
        .map_err(|error| report(sb, inode.ino, error))?;
    match mappable(sb, &inode) {
        0 => owner_of_page_cache(sb, image, &inode, &original).map(Some),
        _ => Ok(None),
    }
}

/// Returns the inode in memory of `original`; `inode` uses its page cache. Its number is smaller,
/// and it uses its own page cache. So new inodes are locked in one order, whatever the image says.
fn owner_of_page_cache(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
    original: &Inode,
) -> Result<INodeRef<DaxFs>> {
    let found = sb.inode(original.ino.into(), || {
        attributes(sb, image, original, None)
    })?;
    // It may have been cached before the image was changed.
    if let (Object::File(theirs), Content::Regular { data }) = (&found.data().object, inode.content)
    {
        let same = (theirs.data, theirs.mappable, found.size()) == (data, 0, inode.size);
        if same && theirs.owner == original.ino {
            return Ok(found);
        }
    }
    let error = inode.unsuitable_original(image.superblock());
    Err(report(sb, inode.ino, error))
}

/// Returns the number of bytes of a regular file that can be mapped directly, from the first on.
#[inline]
fn mappable(sb: &SuperBlock<DaxFs>, inode: &Inode) -> u64 {
    match sb.data().region.memory.method() {
        MapMethod::Frames(mode) if !mode.allows_copies() => 0,
        _ => inode.mappable(PAGE_SIZE as u64),
    }
}

#[inline(always)] // The parts of a new inode need not go through memory.
fn attributes(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
    page_cache: Option<INodeRef<DaxFs>>,
) -> Result<Attributes<DaxFs>> {
    let (kind, object, allocated) = match inode.content {
        Content::Regular { data } => {
            let block = u64::from(image.superblock().block_size);
            let allocated = if inode.packed {
                inode.size
            } else {
                // The size of blocks is a power of two. A division could panic, as far as the
                // compiler knows, and objtool does not know that panic.
                inode.size.wrapping_add(block - 1) & !(block - 1)
            };
            let mappable = mappable(sb, inode);
            let mapped_by = match sb.data().region.memory.method() {
                // Without pages, the page cache answers with SIGBUS.
                _ if mappable == 0 => MappedBy::PageCache,
                MapMethod::Dax(_) => MappedBy::Dax,
                MapMethod::Pages | MapMethod::Frames(_) => MappedBy::Filesystem,
            };
            let owner = match inode.original {
                0 => inode.ino,
                original => original,
            };
            let file = FileData {
                data,
                mappable,
                owner,
            };
            (Kind::Regular(mapped_by), Object::File(file), allocated)
        }
        Content::MetadataOnly => (Kind::Regular(MappedBy::Nothing), Object::Special, 0),
        Content::Directory(directory) => {
            (Kind::Directory, Object::Directory(directory), inode.size)
        }
        Content::Symlink { target, length } => {
            let length = usize::from(length);
            let mut text = KVec::from_elem(0, length + 1, GFP_KERNEL_ACCOUNT)?;
            image
                .symlink(target, &mut text[..length])
                .map_err(|error| report(sb, inode.ino, error))?;
            (Kind::Symlink, Object::Symlink(text), 0)
        }
        Content::Device { major, minor } => (Kind::Special { major, minor }, Object::Special, 0),
        Content::Special => (Kind::Special { major: 0, minor: 0 }, Object::Special, 0),
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
        page_cache,
        data: Data {
            object,
            xattrs: inode.xattrs,
        },
    })
}
