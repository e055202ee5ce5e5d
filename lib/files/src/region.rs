// SPDX-License-Identifier: GPL-2.0-only

//! Bytes of files and devices.

use crate::identity::Seen;
use crate::mapping::Mapping;
use crate::memory::{next_data, Storage, ZEROS};
use daxfs_reader::{Error, Memory, Problem, Result};
use rustix::fs::{fadvise, fallocate, fstat, seek, Advice, FallocateFlags, FileType, SeekFrom};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A file or device, or a part of it.
pub struct Region {
    bytes: Bytes,
    /// Offset of the first byte.
    pub start: u64,
    /// Size in bytes. Only [`Region::write`] and [`Region::zero`] reach beyond it.
    pub size: u64,
    /// The state of the file when it was opened.
    seen: Option<Seen>,
}

enum Bytes {
    /// A file or block device.
    File(File),
    /// A DAX device in devdax mode, or other memory.
    Mapped(Mapping),
}

impl Region {
    /// Returns a region with all of `file`, at its current size.
    pub fn of(file: &File) -> io::Result<Self> {
        let size = examine(file)?.map_or(0, |(_, size)| size);
        Ok(Self::file(file.try_clone()?, 0, size))
    }

    /// Returns a region with the `size` bytes at `start` of a file or block device.
    pub fn file(file: File, start: u64, size: u64) -> Self {
        Region {
            seen: fstat(&file).ok().map(|stat| Seen::new(&stat)),
            bytes: Bytes::File(file),
            start,
            size,
        }
    }

    /// Returns a region with the `size` bytes at `start` of a mapping.
    pub fn mapped(mapping: Mapping, start: u64, size: u64) -> Self {
        Region {
            bytes: Bytes::Mapped(mapping),
            start,
            size,
            seen: None,
        }
    }

    /// Reads `into.len()` bytes at `offset`.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.bytes {
            Bytes::File(file) => file.read_exact_at(into, self.start + offset),
            Bytes::Mapped(mapping) => mapping.read(self.start + offset, into),
        }
    }

    /// Writes `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut self.bytes {
            Bytes::File(file) => file.write_all_at(bytes, self.start + offset),
            Bytes::Mapped(mapping) => mapping.write(self.start + offset, bytes),
        }
    }

    /// Makes `length` bytes at `offset` zero.
    pub fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if let Bytes::File(file) = &self.bytes {
            let at = self.start + offset;
            if fallocate(file, FallocateFlags::ZERO_RANGE, at, length).is_ok() {
                return Ok(());
            }
        }
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(ZEROS.len() as u64);
            self.write(offset + done, &ZEROS[..piece as usize])?;
            done += piece;
        }
        Ok(())
    }

    /// Waits until all written bytes are safe from power loss.
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.bytes {
            Bytes::File(file) => file.sync_all(),
            Bytes::Mapped(mapping) => mapping.sync(),
        }
    }

    /// Drops cached bytes, after [`Region::sync`], so that the next read comes from the device.
    pub fn forget(&self) -> io::Result<()> {
        match &self.bytes {
            Bytes::File(file) => Ok(fadvise(file, 0, None, Advice::DontNeed)?),
            // A mapping is the memory itself.
            Bytes::Mapped(_) => Ok(()),
        }
    }
}

fn unreadable(offset: u64, length: usize) -> Error {
    Error::new(Problem::Unreadable, offset, length as u64)
}

impl Memory for Region {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let read = self.read(offset, into);
        read.map_err(|_| unreadable(offset, into.len()))
    }

    daxfs_reader::hashes!();
}

impl Storage for Region {
    fn data(&self, offset: u64) -> Result<u64> {
        let Bytes::File(file) = &self.bytes else {
            return Ok(offset);
        };
        let found = next_data(file, self.start + offset, self.start + self.size);
        Ok(found.map_err(|_| unreadable(offset, 0))? - self.start)
    }

    fn is_modified(&self) -> bool {
        let (Bytes::File(file), Some(seen)) = (&self.bytes, self.seen) else {
            return false;
        };
        // In a store, other images may change.
        let now = fstat(file).map(|stat| Seen::new(&stat));
        self.start == 0 && !now.is_ok_and(|now| !seen.modified(&now))
    }
}

/// Returns the type and size of a regular file, a block device, or a DAX device in devdax mode (a
/// character device). `None` for any other file.
pub fn examine(file: impl AsFd) -> rustix::io::Result<Option<(FileType, u64)>> {
    let status = fstat(&file)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let size = match kind {
        FileType::RegularFile => Some(status.st_size as u64),
        FileType::BlockDevice => Some(seek(&file, SeekFrom::End(0))?),
        FileType::CharacterDevice => dax_size(status.st_rdev),
        _ => None,
    };
    Ok(size.map(|size| (kind, size)))
}

/// Returns the size in bytes of the DAX device with this number, or `None` if the device is
/// another.
fn dax_size(device: u64) -> Option<u64> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let directory = PathBuf::from(format!("/sys/dev/char/{major}:{minor}"));
    let subsystem = directory.join("subsystem").canonicalize().ok()?;
    if subsystem.file_name()? != "dax" {
        return None;
    }
    let size = std::fs::read_to_string(directory.join("size")).ok()?;
    size.trim().parse().ok()
}
