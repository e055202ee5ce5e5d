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
//! * `superblock`, `inode`, `directory`, `xattr`: validated copies of the records and the look-ups
//! * `error`: what can be wrong, where

#![deny(unsafe_code)]

mod directory;
mod error;
pub mod hash;
mod inode;
pub mod layout;
pub mod memory;
mod superblock;
mod xattr;

pub use directory::{Dirent, LISTED};
pub use error::{Error, Problem, Result};
pub use inode::{Content, Directory, FileType, Inode};
pub use memory::Memory;
pub use superblock::{Superblock, Table};
pub use xattr::{Xattr, Xattrs};

use core::mem::{offset_of, size_of};

/// An image whose superblock has been validated.
pub struct Image<M> {
    memory: M,
    superblock: Superblock,
}

impl<M: Memory> Image<M> {
    /// Validates the superblock and the root directory of the image at the start of `memory`.
    ///
    /// # Errors
    ///
    /// What is wrong with the superblock or with the root inode.
    pub fn open(memory: M) -> Result<Self> {
        let superblock = Superblock::load(&memory)?;
        let image = Image { memory, superblock };
        let root = image.superblock.root;
        match image.inode(root)?.content {
            Content::Directory(directory)
                if directory.parent == root && directory.position == layout::NO_POSITION => {}
            _ => {
                let field = offset_of!(layout::Superblock, root) as u64;
                return Err(Error::new(Problem::Root, field, root.into()));
            }
        }
        Ok(image)
    }

    /// The memory that holds the image.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The validated superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Compares the metadata with its checksum, a piece of `buffer`'s length (at least 1) at a time.
    ///
    /// # Errors
    ///
    /// [`Problem::MetadataChecksum`], or [`Problem::Unreadable`].
    pub fn verify_metadata(&self, buffer: &mut [u8]) -> Result<()> {
        let mut crc = 0;
        let mut offset = size_of::<layout::Superblock>() as u64;
        let end = self.superblock.data.offset;
        while offset < end {
            let length = (end - offset).min(buffer.len() as u64);
            let piece = &mut buffer[..length as usize];
            self.memory.read(offset, piece)?;
            crc = M::crc32c(crc, piece);
            offset += length;
        }
        if crc != self.superblock.metadata_crc {
            let field = offset_of!(layout::Superblock, metadata_crc) as u64;
            let stored = self.superblock.metadata_crc.into();
            return Err(Error::new(Problem::MetadataChecksum, field, stored));
        }
        Ok(())
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
        let raw = memory::load(&self.memory, offset)?;
        Inode::validate(&self.superblock, ino, offset, &raw)
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
