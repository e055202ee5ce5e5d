// SPDX-License-Identifier: GPL-2.0

//! Images in files and in byte slices, as the reader wants them.

use daxfs_reader::{self as image, Memory, Problem};
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that stand for all zeros.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Memory that may know where it holds nothing but zeros.
pub trait Storage: Memory {
    /// Whether the byte at `offset` is in a hole, and where that hole, or the data, ends: behind `offset`,
    /// at [`Memory::size`] at most.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    fn hole(&self, offset: u64) -> image::Result<(bool, u64)>;

    /// Where there may be data again: `offset`, if it is in no hole, else the end of that, [`Memory::size`] at most.
    /// Cheaper than [`Storage::hole`], since nobody has to find out where data end.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    fn data(&self, offset: u64) -> image::Result<u64> {
        Ok(offset)
    }
}

/// An image in a file.
pub struct FileMemory<'a> {
    file: &'a File,
    size: u64,
}

impl<'a> FileMemory<'a> {
    /// The image in `file`, a regular file or block device, as far as it reaches now.
    ///
    /// # Errors
    ///
    /// When the size of the file cannot be told.
    pub fn new(file: &'a File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let size = if metadata.is_file() {
            metadata.len()
        } else {
            seek(file, SeekFrom::End(0))?
        };
        Ok(Self::with_size(file, size))
    }

    /// The first `size` bytes of `file`.
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

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc, bytes)
    }
}

impl Storage for FileMemory<'_> {
    fn hole(&self, offset: u64) -> image::Result<(bool, u64)> {
        match data_or_hole(self.file, offset, self.size) {
            Ok(found) => Ok(found),
            Err(_) => Err(unreadable(offset, 0)),
        }
    }

    fn data(&self, offset: u64) -> image::Result<u64> {
        next_data(self.file, offset, self.size).map_err(|_| unreadable(offset, 0))
    }
}

/// An image in a byte slice.
impl Storage for &[u8] {
    fn hole(&self, _offset: u64) -> image::Result<(bool, u64)> {
        Ok((false, self.size()))
    }
}

fn unreadable(offset: u64, length: usize) -> image::Error {
    image::Error::new(Problem::Unreadable, offset, length as u64)
}

/// Whether the byte at `offset` of `file` is in a hole, and where that hole, or the data, ends within `size`.
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
        // A file that was cut short meanwhile ends in front of `offset`: reading it tells.
        Ok(hole) => Ok((false, if hole > offset { hole.min(size) } else { size })),
        // A file system that does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => Ok((false, size)),
        Err(error) => Err(error),
    }
}

/// Where `file` has data from `offset` on, or `size`.
fn next_data(file: impl std::os::fd::AsFd, offset: u64, size: u64) -> rustix::io::Result<u64> {
    match seek(&file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data.clamp(offset, size)),
        // No data from here on.
        Err(Errno::NXIO) => Ok(size),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error),
    }
}

/// Passes `length` bytes of `memory` from `offset` on to `sink`; holes in more than a buffer full as
/// zeros that were not read.
///
/// # Errors
///
/// As [`Memory::read`].
pub fn stream<S: Storage>(
    memory: &S,
    offset: u64,
    length: u64,
    buffer: &mut [u8],
    mut sink: impl FnMut(u64, &[u8]),
) -> image::Result<()> {
    let end = offset + length;
    if length <= buffer.len() as u64 {
        let piece = &mut buffer[..length as usize];
        memory.read(offset, piece)?;
        sink(offset, piece);
        return Ok(());
    }
    let mut at = offset;
    // Where the present stretch of data or zeros ends.
    let (mut hole, mut until) = (false, offset);
    while at < end {
        if at == until {
            (hole, until) = memory.hole(at)?;
            until = until.min(end);
        }
        let left = until - at;
        let piece = if hole {
            &ZEROS[..left.min(ZEROS.len() as u64) as usize]
        } else {
            let length = left.min(buffer.len() as u64) as usize;
            let piece = &mut buffer[..length];
            memory.read(at, piece)?;
            piece
        };
        sink(at, piece);
        at += piece.len() as u64;
    }
    Ok(())
}
