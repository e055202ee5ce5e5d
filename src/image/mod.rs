// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The on-image format and its reader.
//!
//! An image is a superblock and five tables: inodes, directory entries, names, extended attributes
//! and data. A sixth lists its packs, where files may keep their data instead. The kernel module
//! and the user-space tools compile the same files, so here are no kernel types and no `unsafe`.

#![deny(unsafe_code)]

mod directory;
mod error;
mod inode;
pub mod layout;
pub mod memory;
// The tools have all of it.
#[cfg(any(CONFIG_DAXFS_FS_SIGNATURES, not(CONFIG_RUST)))]
pub mod signature;
mod superblock;
mod xattr;

pub use directory::{
    Dirent,
    Listing, //
};
pub use error::{
    Error,
    Problem,
    Result, //
};
pub use inode::{
    check_in_pack,
    overlap,
    Content,
    Directory,
    FileType,
    Inode, //
};
pub use memory::{
    Loaded,
    Memory, //
};
pub use superblock::{
    Superblock,
    Table, //
};
pub use xattr::{
    Xattr,
    Xattrs,
    XATTR_NAME_MAX, //
};

use core::mem::offset_of;
use zerocopy::IntoBytes;

/// An image: memory and a validated superblock.
///
/// Both are borrowed. A filesystem keeps the superblock, and borrows the memory for one operation.
pub struct Image<'a, M> {
    memory: &'a M,
    superblock: &'a Superblock,
}

impl<'a, M: Memory> Image<'a, M> {
    /// Creates an image from `memory` and the superblock that [`Superblock::load`] returned for it.
    #[inline]
    pub fn new(memory: &'a M, superblock: &'a Superblock) -> Self {
        Image { memory, superblock }
    }

    /// Returns the memory.
    pub fn memory(&self) -> &'a M {
        self.memory
    }

    /// Returns the superblock.
    pub fn superblock(&self) -> &'a Superblock {
        self.superblock
    }

    /// Loads and validates the inode of the root directory.
    ///
    /// # Errors
    ///
    /// [`Problem::Root`], or the problem of the inode.
    pub fn root(&self) -> Result<Inode> {
        let ino = self.superblock.root;
        let inode = self.inode(ino)?;
        match inode.content {
            Content::Directory(directory) if directory.is_root() => Ok(inode),
            _ => {
                let field = offset_of!(layout::Superblock, root) as u64;
                Err(Error::new(Problem::Root, field, ino.into()))
            }
        }
    }

    /// Compares the metadata with their checksum, in parts of the size of `buffer` (at least 1
    /// byte). Calls `check` between them.
    ///
    /// # Errors
    ///
    /// [`Problem::MetadataChecksum`], [`Problem::Unreadable`], or the error of `check`.
    pub fn verify_metadata<E: From<Error>>(
        &self,
        buffer: &mut [u8],
        check: impl Fn() -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let mut crc = 0;
        let metadata = size_of::<layout::Superblock>() as u64..self.superblock.data.offset;
        memory::parts(self.memory, metadata, buffer, |part| {
            crc = M::crc32c(crc, part);
            check()
        })?;
        if crc != self.superblock.metadata_crc {
            let field = offset_of!(layout::Superblock, metadata_crc) as u64;
            let stored = self.superblock.metadata_crc.into();
            return Err(Error::new(Problem::MetadataChecksum, field, stored).into());
        }
        Ok(())
    }

    /// Passes the bytes of piece `index` to `take`, in order, in parts of at most the size of
    /// `buffer` (at least 1 byte). In the superblock `sha256` and `crc` are zero.
    ///
    /// The image's SHA-256 is the hash of the SHA-256 of its [pieces](Superblock::pieces).
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`], or the error of `take`.
    pub fn piece<E: From<Error>>(
        &self,
        index: u64,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let mut piece = layout::piece(index, self.superblock.total_size);
        if index == 0 {
            // Hash the loaded records, not the memory: later reads use them.
            let record = self.superblock.record();
            take(record.as_bytes())?;
            piece.start = record.as_bytes().len() as u64;
            if self.superblock.packs.length != 0 {
                let place = layout::Extent::from(self.superblock.packs);
                take(place.as_bytes())?;
                piece.start += place.as_bytes().len() as u64;
            }
        }
        memory::parts(self.memory, piece, buffer, take)
    }

    /// Loads and validates inode `ino`: one cache line.
    ///
    /// # Errors
    ///
    /// [`Problem::InodeNumber`] if the inode does not exist, or its problem.
    #[inline]
    pub fn inode(&self, ino: u32) -> Result<Inode> {
        if !self.superblock.has_inode(ino) {
            let field = offset_of!(layout::Superblock, inodes) as u64;
            return Err(Error::new(Problem::InodeNumber, field, ino.into()));
        }
        let offset = self.superblock.inode_offset(ino);
        let raw = memory::load(self.memory, offset)?;
        Inode::validate(self.superblock, ino, offset, &raw)
    }

    /// Loads pack `index`, counted from 0.
    ///
    /// # Errors
    ///
    /// [`Problem::Pack`] if there is none, [`Problem::Packs`] if its record is invalid,
    /// [`Problem::Unreadable`].
    pub fn pack(&self, index: u32) -> Result<layout::Pack> {
        let table = &self.superblock.packs;
        let relative = u64::from(index) * layout::PACK_SIZE;
        let offset = table.offset + relative;
        if !table.holds(relative, layout::PACK_SIZE) {
            return Err(Error::new(Problem::Pack, offset, index.into()));
        }
        let raw: layout::Pack = memory::load(self.memory, offset)?;
        if raw.reserved != [0; 24] || raw.total_size.get() < layout::SUPERBLOCK_SIZE {
            let value = raw.total_size.get();
            return Err(Error::new(Problem::Packs, offset, value));
        }
        Ok(raw)
    }

    /// Reads the target of a symlink, at offset `target`, into `buffer`, which has its length.
    ///
    /// # Errors
    ///
    /// [`Problem::Symlink`] if the target contains a NUL, [`Problem::Unreadable`].
    pub fn symlink(&self, target: u64, buffer: &mut [u8]) -> Result<()> {
        self.memory.read(target, buffer)?;
        if buffer.contains(&0) {
            let length = buffer.len() as u64;
            return Err(Error::new(Problem::Symlink, target, length));
        }
        Ok(())
    }
}
