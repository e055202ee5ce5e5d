// SPDX-License-Identifier: GPL-2.0-only

//! Inodes of a mounted image.

use crate::backing::Backing;
use crate::image::{
    Content,
    Directory,
    Inode, //
};
use crate::memory::{
    Access,
    Gate,
    MapMethod, //
};
use crate::mount::{
    report,
    DaxFs,
    Home, //
};
use crate::prelude::*;
use kernel::sync::SetOnce;

/// The private data of an inode.
pub(crate) struct Data {
    pub(crate) object: Object,
    /// Offset of the set of extended attributes in the image, 0 for none.
    pub(crate) xattrs: u64,
}

/// What an inode stands for.
pub(crate) enum Object {
    /// A directory.
    Directory(Directory),
    /// A regular file with data in the image.
    File(FileData),
    /// A regular file with data in a pack.
    InPack(PackFile),
    /// A symlink, device, FIFO or socket.
    Special,
}

/// The data of a regular file.
pub(crate) struct FileData {
    /// Where they start in the image or pack.
    pub(crate) data: u64,
    /// Number of bytes at the start that can be mapped, because their pages hold nothing else: a
    /// multiple of the page size. The rest is mapped as copies.
    pub(crate) mappable: u64,
    /// The inode there that owns the data. Other files may share the data.
    pub(crate) owner: u32,
}

/// A regular file that shares the data of an inode of a pack.
pub(crate) struct PackFile {
    /// The pack, counted from 0.
    pack: u32,
    /// The inode there.
    original: u32,
    /// Its data, once a file has been opened.
    found: SetOnce<FileData>,
}

impl PackFile {
    /// Returns the memory of the pack, or `ENOMEDIUM` if it is missing.
    #[inline]
    fn home<'a>(&self, sb: &'a SuperBlock<DaxFs>) -> Result<Home<'a>> {
        let backing = &sb.data().packs.get(self.pack)?.backing;
        Ok(Home { sb, backing })
    }
}

/// Returns the inode `ino`, from the inode cache or from `image`.
///
/// Errors: `EUCLEAN` if it is invalid, `EIO` if it cannot be read, `ENOMEM`.
pub(crate) fn get(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    ino: u32,
) -> Result<INodeRef<DaxFs>> {
    sb.inode(ino.into(), || load(sb, image, ino))
}

/// Loads the attributes of the inode `ino` from `image`.
#[inline(always)]
fn load(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    ino: u32,
) -> Result<Attributes<DaxFs>> {
    let inode = image.inode(ino).map_err(|error| report(sb, ino, error))?;
    if inode.original != 0 {
        check_original(sb, image, inode)?;
    }
    attributes(sb, image, &inode)
}

/// Checks that `inode` may share the data of its original.
#[cold]
fn check_original(sb: &SuperBlock<DaxFs>, image: &Image<'_, Access<'_>>, inode: Inode) -> Result {
    let original = image
        .inode(inode.original)
        .map_err(|error| report(sb, inode.original, error))?;
    inode
        .check_original(image.superblock(), &original)
        .map_err(|error| report(sb, inode.ino, error))
}

/// Returns the data of a regular file: `inode` of the image in `backing`, at offset `data`.
#[inline(always)]
fn file_data(backing: &Backing, inode: &Inode, data: u64) -> FileData {
    FileData {
        data,
        mappable: match backing.region.memory.method() {
            MapMethod::Frames(mode) if !mode.allows_copies() => 0,
            _ => inode.mappable(PAGE_SIZE as u64),
        },
        owner: match inode.original {
            0 => inode.ino,
            original => original,
        },
    }
}

/// Returns true if processes map pages of a DAX device.
fn is_dax(backing: &Backing) -> bool {
    matches!(backing.region.memory.method(), MapMethod::Dax(_))
}

/// Finds the data of a file in a pack, before it is opened.
///
/// Errors: `ENOMEDIUM` if the pack is missing, `EIO` if it cannot be read, `EUCLEAN` if its inode
/// is invalid.
pub(crate) fn find_data(file: &INode<DaxFs>) -> Result {
    match &file.data().object {
        Object::InPack(in_pack) if in_pack.found.as_ref().is_none() => find_in_pack(file, in_pack),
        _ => Ok(()),
    }
}

#[cold]
fn find_in_pack(file: &INode<DaxFs>, in_pack: &PackFile) -> Result {
    let sb = file.super_block();
    let home = in_pack.home(sb)?;
    let backing = home.backing;
    let refuse = |error: image::Error| match error.problem {
        Problem::Unreadable if backing.region.revoked() => EIO,
        _ => home.report(in_pack.original, error),
    };
    // It determines where inodes are, so compare it first.
    home.open(0, image::layout::SUPERBLOCK_SIZE)
        .map_err(refuse)?;
    let superblock = &backing.superblock;
    let found = if superblock.has_inode(in_pack.original) {
        let offset = superblock.inode_offset(in_pack.original);
        home.open(offset, image::layout::INODE_SIZE)
            .map_err(refuse)?;
        let access = backing.region.access()?;
        let inode = backing.image(&access).inode(in_pack.original);
        Some(inode.map_err(refuse)?)
    } else {
        None
    };
    let own = &sb.data().backing.superblock;
    let (ino, size) = (file.ino() as u32, file.size());
    let checked = image::check_in_pack(own, ino, size, in_pack.original, found.as_ref());
    let (found, data) = checked.map_err(|error| report(sb, ino, error))?;
    in_pack.found.populate(file_data(backing, found, data));
    Ok(())
}

#[inline(always)] // The parts of a new inode need not go through memory.
fn attributes(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
) -> Result<Attributes<DaxFs>> {
    let backing = &sb.data().backing;
    let block = u64::from(backing.superblock.block_size);
    // The block size is a power of two, so mask: the compiler cannot rule out that a division
    // panics, and objtool does not know that panic. Packed files share blocks.
    let allocated = |packed| {
        if packed {
            inode.size
        } else {
            inode.size.wrapping_add(block - 1) & !(block - 1)
        }
    };
    let (kind, object, allocated) = match inode.content {
        Content::Regular { data } => {
            let data = file_data(backing, inode, data);
            let is_dax = data.mappable > 0 && is_dax(backing);
            let kind = Kind::Regular { is_dax };
            (kind, Object::File(data), allocated(inode.packed))
        }
        Content::InPack { pack, original } => {
            let packs = &sb.data().packs;
            let is_dax = packs.get(pack).is_ok_and(|pack| is_dax(&pack.backing));
            let found = SetOnce::new();
            let object = Object::InPack(PackFile {
                pack,
                original,
                found,
            });
            // Images without packs may also contain packed small files.
            let allocated = allocated(inode.size < block);
            (Kind::Regular { is_dax }, object, allocated)
        }
        Content::Directory(directory) => {
            (Kind::Directory, Object::Directory(directory), inode.size)
        }
        Content::Symlink { target, length } => {
            let length = usize::from(length);
            let mut text = KVec::from_elem(0, length + 1, GFP_KERNEL_ACCOUNT)?;
            image
                .symlink(target, &mut text[..length])
                .map_err(|error| report(sb, inode.ino, error))?;
            (Kind::Symlink(text), Object::Special, 0)
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
        data: Data {
            object,
            xattrs: inode.xattrs,
        },
    })
}

/// Returns an open regular file's data, and the memory that holds the data.
///
/// Errors: `EIO` if it is another file.
#[inline]
pub(crate) fn content(file: &INode<DaxFs>) -> Result<(&FileData, Home<'_>)> {
    let sb = file.super_block();
    match &file.data().object {
        Object::File(data) => Ok((data, Home::own(sb))),
        Object::InPack(in_pack) => {
            let home = in_pack.home(sb)?;
            Ok((in_pack.found.as_ref().ok_or(EIO)?, home))
        }
        _ => Err(EIO),
    }
}

/// Reports an `error` in the content of `file`, and its pack if it is in one, unless the memory
/// goes away. Returns the error code.
#[cold]
pub(crate) fn refuse(file: &INode<DaxFs>, error: image::Error) -> Error {
    match content(file) {
        Err(error) => error,
        Ok((_, home)) if error.problem == Problem::Unreadable && home.backing.region.revoked() => {
            EIO
        }
        Ok((data, home)) => match &file.data().object {
            Object::InPack(_) => home.report(data.owner, error),
            _ => home.report(file.ino(), error),
        },
    }
}

/// Reports that content at `offset` cannot be read with `error`, unless its memory goes away or the
/// destination is bad. Returns the error code.
#[cold]
pub(crate) fn failed(file: &INode<DaxFs>, offset: u64, error: Error) -> Error {
    if error != EIO {
        return error;
    }
    refuse(file, image::Error::new(Problem::Unreadable, offset, 0))
}
