// SPDX-License-Identifier: GPL-2.0

//! How the reader gets at the bytes of an image.

use super::error::{Error, Result};
use core::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// Byte-addressable memory that holds an image and that others may write at any moment.
///
/// The only access is a copy: nobody gets a reference into the memory, and what was validated is the copy.
pub trait Memory {
    /// Bytes that can be read, from offset 0 on. Never changes.
    fn size(&self) -> u64;

    /// Copies `into.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`](super::Problem::Unreadable) when the range is not wholly inside
    /// [`Memory::size`] or when the memory fails. `into` then holds unspecified bytes.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()>;

    /// CRC-32C (Castagnoli) of `bytes` following bytes whose value was `crc`, 0 at first.
    fn crc32c(crc: u32, bytes: &[u8]) -> u32;
}

/// Loads one record by value.
///
/// # Errors
///
/// As [`Memory::read`].
#[inline]
pub fn load<M: Memory, T: FromBytes + IntoBytes>(memory: &M, offset: u64) -> Result<T> {
    let mut record = T::new_zeroed();
    memory.read(offset, record.as_mut_bytes())?;
    Ok(record)
}

/// Hands the bytes of `range` to `take`, in order, as many at a time as `buffer` (at least 1 byte) has room for.
///
/// # Errors
///
/// As [`Memory::read`], or what `take` fails with.
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
