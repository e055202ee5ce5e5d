// SPDX-License-Identifier: GPL-2.0-only

//! Images in files, and their holes.

use daxfs_reader::{self as image, Memory, Problem};
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A buffer of zeros.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Memory that may have holes: ranges that are known to be zero.
pub trait Storage: Memory {
    /// Returns the offset of the next data: `offset` itself unless it is in a hole, otherwise the
    /// end of the hole, at most [`Memory::size`].
    fn data(&self, offset: u64) -> image::Result<u64> {
        Ok(offset)
    }

    /// Returns true if it is a file that was modified after it was opened.
    fn is_modified(&self) -> bool {
        false
    }
}

/// An image in a file.
pub struct FileMemory<'a> {
    file: &'a File,
    size: u64,
}

impl<'a> FileMemory<'a> {
    /// Creates it for `file`, a regular file or block device, with its current size.
    pub fn new(file: &'a File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let size = if metadata.is_file() {
            metadata.len()
        } else {
            seek(file, SeekFrom::End(0))?
        };
        Ok(Self::with_size(file, size))
    }

    /// Creates it for the first `size` bytes of `file`.
    pub fn with_size(file: &'a File, size: u64) -> Self {
        FileMemory { file, size }
    }
}

impl Memory for FileMemory<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        self.file
            .read_exact_at(into, offset)
            .map_err(|_| unreadable(offset, into.len()))
    }

    daxfs_reader::hashes!();
}

impl Storage for FileMemory<'_> {
    fn data(&self, offset: u64) -> image::Result<u64> {
        next_data(self.file, offset, self.size).map_err(|_| unreadable(offset, 0))
    }
}

/// An image in a byte slice.
impl Storage for &[u8] {}

fn unreadable(offset: u64, length: usize) -> image::Error {
    image::Error::new(Problem::Unreadable, offset, length as u64)
}

/// Finds the extent at `offset` of the first `size` bytes of `file`. Returns whether it is a hole,
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
        // The file system does not support holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => Ok((false, size)),
        Err(error) => Err(error),
    }
}

/// Returns the offset of the next data of `file` from `offset` on, or `size`. If the file has been cut, what is missing
/// counts as data: reading it fails.
///
/// Returns the errors of lseek(2), except for files without data and filesystems without holes.
pub fn next_data(file: impl std::os::fd::AsFd, offset: u64, size: u64) -> rustix::io::Result<u64> {
    match seek(&file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data.clamp(offset, size)),
        // The rest is a hole, or behind the end.
        Err(Errno::NXIO) if seek(&file, SeekFrom::End(0))? >= size => Ok(size),
        Err(Errno::NXIO) => Ok(offset),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error),
    }
}
