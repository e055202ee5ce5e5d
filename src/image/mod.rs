// SPDX-License-Identifier: GPL-2.0

//! The on-image format and its reader.
//!
//! An image is a superblock, five tables and nothing else: inodes, directory entries, names, xattrs, data.
//! This room knows no kernel type and holds no `unsafe`; the kernel module and the user-space tools compile
//! the same files.
//!
//! * [`layout`]: the records, byte for byte
//! * [`hash`]: the order of a directory
//! * [`memory`]: how the reader gets at bytes, always by copy
//! * `superblock`, `inode`, `directory`, `listing`, `xattr`: validated copies of the records and the look-ups
//! * `error`: what can be wrong, where

#![deny(unsafe_code)]

mod directory;
mod error;
pub mod hash;
mod inode;
pub mod layout;
mod listing;
pub mod memory;
mod superblock;
mod xattr;

pub use directory::Dirent;
pub use error::{Error, Problem, Result};
pub use inode::{overlap, Content, Directory, FileType, Inode};
pub use listing::Listing;
pub use memory::Memory;
pub use superblock::{Superblock, Table};
pub use xattr::{Xattr, Xattrs, XATTR_NAME_MAX};

use core::mem::{offset_of, size_of};
use zerocopy::IntoBytes;

/// An image with a validated superblock, in memory that can be read as long as this lives.
///
/// Both parts are borrowed: who serves an image keeps its superblock, and takes hold of memory that can go
/// away for one operation at a time.
pub struct Image<'a, M> {
    memory: &'a M,
    superblock: &'a Superblock,
}

impl<M> Clone for Image<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Image<'_, M> {}

impl<'a, M: Memory> Image<'a, M> {
    /// The image in `memory` to which `superblock`, loaded by [`Superblock::load`], belongs.
    #[inline]
    pub fn new(memory: &'a M, superblock: &'a Superblock) -> Self {
        Image { memory, superblock }
    }

    /// The memory that holds the image.
    pub fn memory(&self) -> &'a M {
        self.memory
    }

    /// The validated superblock.
    pub fn superblock(&self) -> &'a Superblock {
        self.superblock
    }

    /// Loads and validates the root directory's inode.
    ///
    /// # Errors
    ///
    /// [`Problem::Root`], or what is wrong with the inode.
    pub fn root(&self) -> Result<Inode> {
        let ino = self.superblock.root;
        let inode = self.inode(ino)?;
        match inode.content {
            Content::Directory(directory)
                if directory.parent == ino && directory.position == layout::NO_POSITION =>
            {
                Ok(inode)
            }
            _ => {
                let field = offset_of!(layout::Superblock, root) as u64;
                Err(Error::new(Problem::Root, field, ino.into()))
            }
        }
    }

    /// Compares the metadata with its checksum, a piece of `buffer`'s length (at least 1) at a time.
    ///
    /// # Errors
    ///
    /// [`Problem::MetadataChecksum`], or [`Problem::Unreadable`].
    pub fn verify_metadata(&self, buffer: &mut [u8]) -> Result<()> {
        let mut crc = 0;
        let metadata = size_of::<layout::Superblock>() as u64..self.superblock.data.offset;
        memory::parts(self.memory, metadata, buffer, |part| -> Result<()> {
            crc = M::crc32c(crc, part);
            Ok(())
        })?;
        if crc != self.superblock.metadata_crc {
            let field = offset_of!(layout::Superblock, metadata_crc) as u64;
            let stored = self.superblock.metadata_crc.into();
            return Err(Error::new(Problem::MetadataChecksum, field, stored));
        }
        Ok(())
    }

    /// Hands the bytes of piece `index` to `take`, in order and as the image's SHA-256 is defined: with `sha256` and
    /// `crc` of the superblock zero. Uses a part of `buffer` (at least 1 byte) at a time.
    ///
    /// The image's SHA-256 is that of the SHA-256 of all its pieces, [`Superblock::pieces`], one behind the other.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`], or what `take` fails with.
    pub fn piece<E: From<Error>>(
        &self,
        index: u64,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let mut piece = layout::piece(index, self.superblock.total_size);
        if index == 0 {
            let record: layout::Superblock = memory::load(self.memory, 0)?;
            take(record.without_sums().as_bytes())?;
            piece.start = size_of::<layout::Superblock>() as u64;
        }
        memory::parts(self.memory, piece, buffer, take)
    }

    /// Loads and validates inode `ino`: one cache line.
    ///
    /// # Errors
    ///
    /// [`Problem::InodeNumber`] when there is no such inode, else what is wrong with it.
    #[inline]
    pub fn inode(&self, ino: u32) -> Result<Inode> {
        if ino == 0 || u64::from(ino) > self.superblock.inode_count() {
            let field = offset_of!(layout::Superblock, inodes) as u64;
            return Err(Error::new(Problem::InodeNumber, field, ino.into()));
        }
        let record = size_of::<layout::Inode>() as u64;
        let offset = self.superblock.inodes.offset + u64::from(ino - 1) * record;
        let raw = memory::load(self.memory, offset)?;
        Inode::validate(self.superblock, ino, offset, &raw)
    }

    /// Reads a symlink's target into `buffer`, whose length is the target's.
    ///
    /// # Errors
    ///
    /// [`Problem::Symlink`] when the target holds a NUL byte.
    pub fn symlink(&self, target: u64, buffer: &mut [u8]) -> Result<()> {
        self.memory.read(target, buffer)?;
        if buffer.contains(&0) {
            let length = buffer.len() as u64;
            return Err(Error::new(Problem::Symlink, target, length));
        }
        Ok(())
    }
}
