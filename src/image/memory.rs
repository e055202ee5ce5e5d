// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Copies bytes of an image.

use super::error::{
    Error,
    Result, //
};
use core::ops::Range;
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

/// Memory that holds an image, and that others may write at any time.
///
/// Nothing refers to it: copy what you need, and validate the copy.
pub trait Memory {
    /// Returns the size in bytes. It never changes.
    fn size(&self) -> u64;

    /// Copies `into.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`](super::Problem::Unreadable) if the range exceeds [`Memory::size`] or
    /// the memory fails. The content of `into` is unspecified then.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()>;

    /// Returns the CRC-32C (Castagnoli) of the bytes that gave `crc`, 0 at first, and `bytes`.
    fn crc32c(crc: u32, bytes: &[u8]) -> u32;

    /// Returns the hash of a name that orders a directory: XXH32 with seed 0. All bits are equally
    /// well distributed, which the interpolation search in directories needs.
    fn name_hash(name: &[u8]) -> u32;
}

/// Memory of which some bytes were loaded before. Reads find these, whatever the memory holds now.
pub struct Loaded<'a, M> {
    /// The memory.
    pub memory: &'a M,
    /// Offset of the bytes.
    pub start: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<M: Memory> Memory for Loaded<'_, M> {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.memory.read(offset, into)?;
        // Where the loaded bytes begin in `into`, or the other way round.
        let skip = self.start.saturating_sub(offset).min(into.len() as u64) as usize;
        let from = offset
            .saturating_sub(self.start)
            .min(self.bytes.len() as u64) as usize;
        let known = &self.bytes[from..];
        for (byte, known) in into[skip..].iter_mut().zip(known) {
            *byte = *known;
        }
        Ok(())
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        M::crc32c(crc, bytes)
    }

    fn name_hash(name: &[u8]) -> u32 {
        M::name_hash(name)
    }
}

/// Loads a record by value.
///
/// # Errors
///
/// See [`Memory::read`].
#[inline]
pub fn load<M: Memory, T: FromBytes + IntoBytes>(memory: &M, offset: u64) -> Result<T> {
    let mut record = T::new_zeroed();
    memory.read(offset, record.as_mut_bytes())?;
    Ok(record)
}

/// Passes the bytes of `range` to `take`, in order, in parts of the size of `buffer` (at least 1
/// byte).
///
/// # Errors
///
/// See [`Memory::read`], and the errors of `take`.
pub fn parts<M: Memory, E: From<Error>>(
    memory: &M,
    range: Range<u64>,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> core::result::Result<(), E>,
) -> core::result::Result<(), E> {
    let mut offset = range.start;
    while offset < range.end {
        let length = (range.end - offset).min(buffer.len() as u64);
        let part = &mut buffer[..length as usize];
        memory.read(offset, part)?;
        take(part)?;
        offset += length;
    }
    Ok(())
}
