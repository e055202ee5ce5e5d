// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The bytes of an image: a file, or the caller's memory.

use crate::error::{Failure, Result};
use daxfs_reader::catalog::Table;
use daxfs_reader::{Error, Memory, Problem};
use rustix::fs::{fstat, seek, FileType, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The source of an image. Files are read with pread(2), so truncation causes an error, where a
/// mapping would raise SIGBUS.
pub struct Source {
    bytes: Bytes,
    start: u64,
    size: u64,
}

enum Bytes {
    File(File),
    Memory(*const u8),
}

// SAFETY: The memory is only read, and the library's caller keeps it readable for all threads.
unsafe impl Send for Source {}
// SAFETY: As for `Send`.
unsafe impl Sync for Source {}

impl Source {
    /// Reads from `file`, a regular file or block device, with its current size.
    pub fn file(file: File) -> Result<Self> {
        let status = fstat(&file)?;
        let size = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => status.st_size as u64,
            FileType::BlockDevice => seek(&file, SeekFrom::End(0))?,
            FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => {
                let why = "neither a file nor a block device";
                return Err(Failure::new(Errno::INVAL, why));
            }
        };
        let bytes = Bytes::File(file);
        let start = 0;
        Ok(Source { bytes, start, size })
    }

    /// Returns the part that starts at `offset`, or the image `name` of the store there.
    pub fn part(mut self, offset: u64, name: Option<&[u8]>) -> Result<Self> {
        let Some(left) = self.size.checked_sub(offset) else {
            return Err(Failure::new(
                Errno::INVAL,
                "the file ends before the offset",
            ));
        };
        (self.start, self.size) = (offset, left);
        if let Some(name) = name {
            let table = Table::load(&self)?;
            let table = table.ok_or_else(|| Failure::new(Errno::INVAL, "not a store"))?;
            let name = std::str::from_utf8(name).unwrap_or_default();
            let image = table
                .find(name)
                .ok_or_else(|| Failure::new(Errno::NOENT, "the store has no image of this name"))?;
            (self.start, self.size) = (
                offset + image.range.start,
                image.range.end - image.range.start,
            );
        }
        Ok(self)
    }

    /// Returns the offset of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Reads from `size` bytes at `start`.
    ///
    /// # Safety
    ///
    /// The memory must be readable and unchanged for as long as the result lives.
    pub unsafe fn memory(start: *const u8, size: usize) -> Self {
        let bytes = Bytes::Memory(start);
        let size = if start.is_null() { 0 } else { size as u64 };
        let start = 0;
        Source { bytes, start, size }
    }
}

impl Memory for Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> daxfs_reader::Result<()> {
        let length = into.len() as u64;
        let unreadable = Error::new(Problem::Unreadable, offset, length);
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(unreadable);
        }
        match &self.bytes {
            Bytes::File(file) => {
                let read = file.read_exact_at(into, self.start + offset);
                read.map_err(|_| unreadable)
            }
            Bytes::Memory(start) => {
                // SAFETY: The range was checked against the size, which fits into usize.
                let start = unsafe { start.add(offset as usize) };
                // SAFETY: The caller of `memory` lends these bytes, and `into` is not part of them.
                unsafe { start.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
                Ok(())
            }
        }
    }

    daxfs_reader::hashes!();
}
