// SPDX-License-Identifier: GPL-2.0-only

//! Blobs while they are copied.

use daxfs_image::error::Error;
use daxfs_reader::Memory;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};

/// The first bytes of a file of any size.
pub struct Head<'a>(pub &'a [u8]);

impl Memory for Head<'_> {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> daxfs_reader::Result<()> {
        self.0.read(offset, into)
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        <&[u8]>::crc32c(crc, bytes)
    }

    fn name_hash(name: &[u8]) -> u32 {
        <&[u8]>::name_hash(name)
    }
}

/// Why a copy failed.
pub enum Fault {
    /// The blob cannot be read.
    Read(io::Error),
    /// It has so many bytes, or more than there should be.
    Size(Option<u64>),
    /// It does not start with a superblock.
    Image(daxfs_reader::Error),
    /// It should have more bytes than this, the most that fit to its superblock.
    Long(u64),
    Other(Error),
}

/// A blob with the digest and the number of the bytes that were read.
pub struct Counted {
    file: io::Take<File>,
    pub hash: Sha256,
    pub length: u64,
}

impl Counted {
    /// Read at most the first `size` bytes of `file`.
    pub fn new(file: File, size: u64) -> Self {
        Counted {
            file: file.take(size),
            hash: Sha256::new(),
            length: 0,
        }
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(into)?;
        self.hash.update(&into[..length]);
        self.length += length as u64;
        Ok(length)
    }
}
