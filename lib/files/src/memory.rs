// SPDX-License-Identifier: GPL-2.0-only

//! Memory and files with holes.

use daxfs_reader::{self as image, Memory};
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;

/// A buffer of zeros.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Memory that may have holes: ranges known to be zero.
pub trait Storage: Memory {
    /// Returns the offset of the next data: `offset` itself unless it is in a hole, otherwise the
    /// end of the hole, at most [`Memory::size`].
    fn data(&self, offset: u64) -> image::Result<u64> {
        Ok(offset)
    }

    /// Returns true if this is a file and was modified since it was opened.
    fn is_modified(&self) -> bool {
        false
    }
}

/// An image in a byte slice.
impl Storage for &[u8] {}

/// Finds the extent at `offset` in the first `size` bytes of `file`. Returns whether it is a hole,
/// and its end.
pub fn data_or_hole(
    file: impl std::os::fd::AsFd,
    offset: u64,
    size: u64,
) -> rustix::io::Result<(bool, u64)> {
    let data = next_data(&file, offset, size)?;
    if data > offset {
        return Ok((true, data));
    }
    match seek(&file, SeekFrom::Hole(offset)) {
        // The file was truncated and ends before `offset`: the next read fails.
        Ok(hole) => Ok((false, if hole > offset { hole.min(size) } else { size })),
        // The filesystem does not support holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => Ok((false, size)),
        Err(error) => Err(error),
    }
}

/// Returns the offset of the next data of `file` at or after `offset`, or `size`. If the file was
/// truncated, the missing part counts as data, so that reading it fails.
///
/// Returns the errors of lseek(2), except for files without data and filesystems without holes.
pub fn next_data(file: impl std::os::fd::AsFd, offset: u64, size: u64) -> rustix::io::Result<u64> {
    match seek(&file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data.clamp(offset, size)),
        // The rest is a hole, or beyond the end.
        Err(Errno::NXIO) if seek(&file, SeekFrom::End(0))? >= size => Ok(size),
        Err(Errno::NXIO) => Ok(offset),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error),
    }
}
