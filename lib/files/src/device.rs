// SPDX-License-Identifier: GPL-2.0-only

//! Writes images to devices: to block devices, and through a mapping to DAX character devices.

use crate::error::{Error, Result};
use crate::mapping::Mapping;
use crate::memory::data_or_hole;
use crate::overwrite::Overwrite;
use crate::region::{examine, Region};
use crate::Progress;
use daxfs_reader::layout::HUGE_SIZE;
use rustix::fs::{open, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PIECE: usize = 1 << 20;

/// Size of the superblock, which is written last.
const HEAD: u64 = daxfs_reader::layout::SUPERBLOCK_SIZE;

/// An open device, or a part of it.
pub struct Device {
    path: PathBuf,
    file: File,
    start: u64,
    size: u64,
    kind: Kind,
}

/// How a device is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Dax,
    /// Physical memory, through /dev/mem.
    Memory,
}

impl Device {
    /// Opens the block or DAX device `path`, which must not be in use.
    ///
    /// Returns [`Error::Refused`] if it is no such device or in use, otherwise [`Error::Output`].
    pub fn open(path: &Path) -> Result<Self> {
        let why = "is neither a block nor a DAX device; write the image to a file";
        // EXCL fails while a block device is mounted.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::BUSY => Error::refused(path, "is in use; unmount it if it is mounted"),
            Errno::ISDIR => Error::refused(path, why),
            error => Error::output(path, "open it for writing", error),
        })?;
        let found = examine(&fd).map_err(|error| Error::output(path, "examine", error))?;
        let (size, kind) = match found {
            Some((FileType::BlockDevice, size)) => (size, Kind::Block),
            Some((FileType::CharacterDevice, size)) => (size, Kind::Dax),
            _ => return Err(Error::refused(path, why)),
        };
        Ok(Device {
            path: path.into(),
            file: fd.into(),
            start: 0,
            size,
            kind,
        })
    }

    /// Opens `size` bytes of physical memory at address `start`, both multiples of the page size.
    ///
    /// Returns [`Error::Output`] if this process may not use physical memory.
    pub fn memory(start: u64, size: u64) -> Result<Self> {
        let path = Path::new("/dev/mem");
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Device {
            path: path.into(),
            file: file.map_err(|error| Error::output(path, "open it for writing", error))?,
            start,
            size,
            kind: Kind::Memory,
        })
    }

    /// Opens the part of the block or DAX device `path` that starts at byte `start`.
    ///
    /// Returns the same errors as [`Device::open`].
    pub fn open_part(path: &Path, start: u64) -> Result<Self> {
        let mut device = Self::open(path)?;
        device.start = start;
        device.size = device.size.saturating_sub(start);
        Ok(device)
    }

    /// Fails if `overwrite` protects the device.
    ///
    /// Returns [`Error::Refused`] then, and if the device is of a kind that cannot be written;
    /// [`Error::Output`] if the device cannot be examined.
    pub fn check_free(&self, overwrite: &Overwrite) -> Result<()> {
        overwrite.check_input(&self.path, &self.file)?;
        let region = self.region(self.size)?;
        overwrite.check_device(&self.path, self.size, |at, into| region.read(at, into))
    }

    /// Fails if an image of `size` bytes does not fit into this part, or `overwrite` protects it.
    pub fn check_part(&self, overwrite: &Overwrite, size: u64) -> Result<()> {
        overwrite.check_input(&self.path, &self.file)?;
        self.check_size(size)?;
        overwrite.check_part(&self.path, self.start, size, &self.region(self.size)?)
    }

    fn region(&self, size: u64) -> Result<Region> {
        let (unit, remedy) = match self.kind {
            Kind::Block => {
                let file = self.file.try_clone();
                let file = file.map_err(|error| Error::output(&self.path, "examine", error))?;
                return Ok(Region::file(file, self.start, size));
            }
            // These devices are mapped with huge pages.
            Kind::Dax => (
                HUGE_SIZE,
                "a DAX device must be in devdax mode to be written",
            ),
            Kind::Memory => (
                1,
                "the kernel forbids programs to map this memory, or a mount or driver uses it; see /proc/iomem",
            ),
        };
        let first = self.start - self.start % unit;
        let end = (self.start + size).next_multiple_of(unit);
        let mapping = Mapping::part(&self.file, first, end - first).map_err(|error| {
            let why = format!(
                "cannot be mapped ({}); {remedy}",
                crate::error::cause(&error)
            );
            Error::refused(&self.path, why)
        })?;
        Ok(Region::mapped(mapping, self.start - first, size))
    }

    /// Fails if an image of `size` bytes does not fit.
    pub fn check_size(&self, size: u64) -> Result<()> {
        if size > self.size {
            let from = match self.start {
                0 => String::new(),
                start => format!(" from byte {start} on"),
            };
            let has = format!("{size} bytes, the device {}{from}", self.size);
            let why = format!("the image has {has}; use a larger one");
            return Err(Error::refused(&self.path, why));
        }
        Ok(())
    }

    /// Copies the image, the first `size` bytes of `image`, to the device and verifies the copy.
    /// The superblock is written last, so that the device holds a complete image or none.
    ///
    /// Returns [`Error::Refused`] if the device is too small or of a kind that cannot be written,
    /// [`Error::Image`] if the device did not store the image, and otherwise [`Error::Output`].
    pub fn write(&self, image: &File, size: u64, progress: &dyn Progress) -> Result<()> {
        let failed = |error| Error::output(&self.path, "write the image", error);
        self.check_size(size)?;
        progress.step("copying", size);
        let mut region = self.region(size)?;
        copy(image, size, &mut region, progress).map_err(failed)?;
        progress.step("verifying", size);
        let at = compare(image, size, &mut region, progress).map_err(failed)?;
        if let Some(at) = at {
            let _ = region.zero(0, HEAD).and_then(|()| region.sync());
            let what = format!("reads back differently at byte {at}; the device is faulty");
            return Err(Error::image(&self.path, what));
        }
        Ok(())
    }
}

fn copy(image: &File, size: u64, region: &mut Region, progress: &dyn Progress) -> io::Result<()> {
    region.zero(0, HEAD)?;
    region.sync()?;
    let mut buffer = vec![0; PIECE];
    let mut at = HEAD;
    let (mut hole, mut until) = (false, at);
    while at < size {
        if at == until {
            (hole, until) = data_or_hole(image, at, size)?;
        }
        if hole {
            region.zero(at, until - at)?;
            progress.advance(until - at);
            at = until;
            continue;
        }
        let piece = &mut buffer[..(until - at).min(PIECE as u64) as usize];
        image.read_exact_at(piece, at)?;
        region.write(at, piece)?;
        progress.advance(piece.len() as u64);
        at += piece.len() as u64;
    }
    region.sync()?;
    let head = &mut buffer[..HEAD as usize];
    image.read_exact_at(head, 0)?;
    region.write(0, head)?;
    region.sync()?;
    // So that the comparison reads the device, not the page cache.
    region.forget()
}

/// Returns the first offset at which the device differs from the image, if any.
fn compare(
    image: &File,
    size: u64,
    region: &mut Region,
    progress: &dyn Progress,
) -> io::Result<Option<u64>> {
    let (mut wanted, mut found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < size {
        let length = (size - at).min(PIECE as u64) as usize;
        let (wanted, found) = (&mut wanted[..length], &mut found[..length]);
        image.read_exact_at(wanted, at)?;
        region.read(at, found)?;
        if let Some(first) = wanted.iter().zip(&*found).position(|(a, b)| a != b) {
            return Ok(Some(at + first as u64));
        }
        progress.advance(length as u64);
        at += length as u64;
    }
    Ok(None)
}
