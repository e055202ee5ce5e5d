// SPDX-License-Identifier: GPL-2.0-only

//! Inodes of a mounted image.

use crate::image::{
    self,
    Content,
    Directory,
    Image,
    Inode,
    Problem, //
};
use crate::linux::fs::{
    Attributes,
    INode,
    INodeOperations,
    INodeRef,
    Kind,
    MappedBy,
    SuperBlock, //
};
use crate::linux::Errno;
use crate::memory::{
    Access,
    MapMethod, //
};
use crate::mount::{
    report,
    DaxFs, //
};
use crate::packs;
use core::ptr;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

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
    /// A device, FIFO, socket, or regular file with data that cannot be reached.
    Special,
}

/// The data of a regular file.
pub(crate) struct FileData {
    /// Offset of the first byte in the image that has them.
    pub(crate) data: u64,
    /// Number of bytes, from the first on, in pages that hold nothing else and so can be mapped: a
    /// multiple of the page size. They reach to the end of the file, or to its last page.
    pub(crate) mappable: u64,
    /// Number of the inode that owns the data, in that image. Other files may share them.
    pub(crate) owner: u32,
    /// Number of the pack that has the data, 1 for the first; 0 for the file's own image.
    pub(crate) pack: u32,
}

impl FileData {
    /// Returns the superblock of the image that has the data of `file`.
    ///
    /// # Errors
    ///
    /// `EIO` if the mount does not have the pack.
    #[inline]
    pub(crate) fn home<'a>(&self, file: &'a INode<DaxFs>) -> Result<&'a SuperBlock<DaxFs>> {
        match self.pack {
            0 => Ok(file.super_block()),
            number => packs::pack(file.super_block(), number - 1),
        }
    }
}

impl INodeOperations for DaxFs {
    fn get_link(inode: &INode<Self>) -> Result<&CStr> {
        match &inode.data().object {
            Object::Symlink(text) => {
                CStr::from_bytes_with_nul(text).map_err(|_| Errno::Corrupted.into())
            }
            _ => Err(EINVAL),
        }
    }
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

/// Returns the inode with the page cache that maps `file`, if it is another one: the owner of the
/// data, which uses its own page cache.
///
/// # Errors
///
/// As [`get`].
pub(crate) fn page_cache(file: &INode<DaxFs>, data: &FileData) -> Result<Option<INodeRef<DaxFs>>> {
    if data.pack == 0 && u64::from(data.owner) == file.ino() {
        return Ok(None);
    }
    let home = data.home(file)?;
    let owner = home.inode(data.owner.into(), || {
        let access = home.data().region.access()?;
        load(home, &home.data().image(&access), data.owner)
    })?;
    // The image may have changed since one of the two was read.
    if let Object::File(theirs) = &owner.data().object {
        let same =
            (theirs.data, theirs.mappable, owner.size()) == (data.data, data.mappable, file.size());
        if same && (theirs.owner, theirs.pack) == (data.owner, 0) {
            return Ok(Some(owner));
        }
    }
    let error = image::Error::new(Problem::Original, data.data, data.owner.into());
    Err(report(home, data.owner, error))
}

/// Returns the number of bytes of a regular file that can be mapped directly, from the first on.
#[inline]
fn mappable(sb: &SuperBlock<DaxFs>, inode: &Inode) -> u64 {
    match sb.data().region.memory.method() {
        MapMethod::Frames(mode) if !mode.allows_copies() => 0,
        _ => inode.mappable(PAGE_SIZE as u64),
    }
}

/// Returns the kind and the object of a regular file, and the number of bytes that it takes: it is
/// `inode` of the image in `home`. `pack` is the number of the pack that this image is, or 0.
#[inline(always)]
fn regular(home: &SuperBlock<DaxFs>, inode: &Inode, data: u64, pack: u32) -> (Kind, Object, u64) {
    let block = u64::from(home.data().superblock.block_size);
    let allocated = if inode.packed {
        inode.size
    } else {
        // The size of blocks is a power of two. A division could panic, as far as the compiler
        // knows, and objtool does not know that panic.
        inode.size.wrapping_add(block - 1) & !(block - 1)
    };
    let mappable = mappable(home, inode);
    let mapped_by = match home.data().region.memory.method() {
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
        pack,
    };
    (Kind::Regular(mapped_by), Object::File(file), allocated)
}

#[inline(always)] // The parts of a new inode need not go through memory.
fn attributes(
    sb: &SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
) -> Result<Attributes<DaxFs>> {
    let (kind, object, allocated) = match inode.content {
        Content::Regular { data } => regular(sb, inode, data, 0),
        Content::InPack { pack, original } => {
            match packs::in_pack(sb, image, inode, pack, original)? {
                Some((home, theirs, data)) => regular(home, &theirs, data, pack + 1),
                None => (Kind::Regular(MappedBy::Nothing), Object::Special, 0),
            }
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
        data: Data {
            object,
            xattrs: inode.xattrs,
        },
    })
}

/// Returns the data of a regular file.
///
/// # Errors
///
/// `EIO` if they cannot be reached, or it is another file.
#[inline]
pub(crate) fn file_data(file: &INode<DaxFs>) -> Result<&FileData> {
    match &file.data().object {
        Object::File(data) => Ok(data),
        _ => Err(EIO),
    }
}

/// Reports an `error` of the content of `file`, unless its memory goes away. Returns the error
/// code. It names the image that has the content, which may be a pack.
#[cold]
pub(crate) fn refuse(file: &INode<DaxFs>, error: image::Error) -> Error {
    let home = file_data(file).and_then(|data| Ok((data.home(file)?, data.owner)));
    match home {
        Err(error) => error,
        Ok((sb, _)) if error.problem == Problem::Unreadable && sb.data().region.revoked() => EIO,
        Ok((sb, _)) if ptr::eq(sb, file.super_block()) => report(sb, file.ino(), error),
        Ok((sb, owner)) => report(sb, owner, error),
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
