// SPDX-License-Identifier: GPL-2.0-only

//! Writes images to devices: block devices, and DAX character devices through a mapping.

use crate::error::{Error, Result};
use crate::mapping::Mapping;
use crate::overwrite::Overwrite;
use daxfs_check::memory::{data_or_hole, ZEROS};
use daxfs_check::Progress;
use daxfs_reader::layout::HUGE_SIZE;
use daxfs_reader::{Memory, Problem};
use rustix::fs::{fallocate, open, seek, stat, FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are copied together.
const PIECE: usize = 1 << 20;

/// Size of the superblock, which is written last.
const HEAD: u64 = daxfs_reader::layout::SUPERBLOCK_SIZE;

/// An open device, or a part of it or of a file.
pub struct Device {
    path: PathBuf,
    file: File,
    /// Offset of the first byte.
    start: u64,
    /// Size in bytes.
    size: u64,
    kind: Kind,
}

/// How to write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Dax,
    /// A file, which grows if the image reaches beyond its end.
    File,
    /// Physical memory, by /dev/mem.
    Memory,
}

/// A way to write to a device.
trait Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Make `length` bytes zero.
    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        write_zeros(self, offset, length)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    fn sync(&mut self) -> io::Result<()>;
}

fn write_zeros<S: Sink + ?Sized>(sink: &mut S, offset: u64, length: u64) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(ZEROS.len() as u64);
        sink.write(offset + done, &ZEROS[..piece as usize])?;
        done += piece;
    }
    Ok(())
}

impl Device {
    /// Open the block or DAX device `path`, which must not be in use.
    ///
    /// Return [`Error::Refused`] if it is not such a device or is in use, [`Error::Output`].
    pub fn open(path: &Path) -> Result<Self> {
        let examine = |error: Errno| Error::output(path, "examine", error);
        let status = stat(path).map_err(examine)?;
        let dax = dax_size(status.st_rdev);
        let block = FileType::from_raw_mode(status.st_mode) == FileType::BlockDevice;
        if !block && dax.is_none() {
            let why = "is neither a block nor a DAX device; write the image to a file";
            return Err(Error::refused(path, why));
        }
        // EXCL: fails while a block device is mounted.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::BUSY => Error::refused(path, "is in use; unmount it if it is mounted"),
            error => Error::output(path, "open it for writing", error),
        })?;
        let (size, kind) = match dax {
            Some(size) if !block => (size, Kind::Dax),
            _ => (seek(&fd, SeekFrom::End(0)).map_err(examine)?, Kind::Block),
        };
        Ok(Device {
            path: path.into(),
            file: fd.into(),
            start: 0,
            size,
            kind,
        })
    }

    /// Open the `size` bytes of physical memory at address `start`, which are multiples of the page size.
    ///
    /// Return [`Error::Output`] if this process may not use physical memory.
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

    /// Open the part of the file, block or DAX device `path` from byte `start` on.
    ///
    /// Return [`Error::Refused`] if it does not exist or is in use, [`Error::Output`].
    pub fn open_part(path: &Path, start: u64) -> Result<Self> {
        let status = path.metadata().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let why = "does not exist; --offset writes to a file or device that does";
                Error::refused(path, why)
            }
            _ => Error::output(path, "examine", error),
        })?;
        let mut device = if status.is_file() {
            let file = OpenOptions::new().read(true).write(true).open(path);
            Device {
                path: path.into(),
                file: file.map_err(|error| Error::output(path, "open it for writing", error))?,
                start: 0,
                size: status.len(),
                kind: Kind::File,
            }
        } else {
            Self::open(path)?
        };
        device.start = start;
        device.size = device.size.saturating_sub(start);
        Ok(device)
    }

    /// Refuse to write to the device if `overwrite` says so.
    ///
    /// Return [`Error::Refused`] then, and if the device is of a kind that cannot be written.
    /// [`Error::Output`].
    pub fn check_free(&self, overwrite: &Overwrite) -> Result<()> {
        overwrite.check_input(&self.path, &self.file)?;
        let mut sink = self.sink(self.size)?;
        overwrite.check_device(&self.path, self.size, |at, into| sink.read(at, into))
    }

    /// Refuse to write an image of `size` bytes to this part if it does not fit, or if `overwrite` says so.
    pub fn check_part(&self, overwrite: &Overwrite, size: u64) -> Result<()> {
        overwrite.check_input(&self.path, &self.file)?;
        self.check_size(size)?;
        let memory = Part {
            sink: RefCell::new(self.sink(self.size)?),
            size: self.size,
        };
        let size = size.min(self.size);
        overwrite.check_part(&self.path, self.start, size, &memory)
    }

    /// Return what writes to the first `size` bytes.
    fn sink(&self, size: u64) -> Result<Box<dyn Sink + '_>> {
        let (unit, remedy) = match self.kind {
            Kind::Block | Kind::File => return Ok(Box::new(Block(&self.file, self.start))),
            // These devices are mapped in units of huge pages.
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
        Ok(Box::new(Mapped(mapping, self.start - first)))
    }

    /// Refuse an image of `size` bytes if it does not fit.
    pub fn check_size(&self, size: u64) -> Result<()> {
        if size > self.size && self.kind != Kind::File {
            let why = match self.start {
                0 => format!("the image has {size} bytes, the device {}; use a larger one", self.size),
                start => format!(
                    "the image has {size} bytes, the device {} from byte {start} on; use a larger one",
                    self.size
                ),
            };
            return Err(Error::refused(&self.path, why));
        }
        Ok(())
    }

    /// Copy the image, the first `size` bytes of `image`, to the device and verify it.
    /// The superblock is written last, so that the device has a whole image or none.
    ///
    /// Return [`Error::Output`], [`Error::Refused`] if the device is too small or of a kind that
    /// cannot be written, and [`Error::Image`] if it does not store the image.
    pub fn write(&self, image: &File, size: u64, progress: &dyn Progress) -> Result<()> {
        let failed = |error| Error::output(&self.path, "write the image", error);
        self.check_size(size)?;
        progress.step("copying", size);
        let mut sink = self.sink(size)?;
        copy(image, size, &mut *sink, progress).map_err(failed)?;
        progress.step("verifying", size);
        let at = compare(image, size, &mut *sink, progress).map_err(failed)?;
        if let Some(at) = at {
            let _ = sink.zero(0, HEAD).and_then(|()| sink.sync());
            let what = format!("reads back differently at byte {at}; the device is faulty");
            return Err(Error::image(&self.path, what));
        }
        Ok(())
    }
}

fn copy(image: &File, size: u64, sink: &mut dyn Sink, progress: &dyn Progress) -> io::Result<()> {
    sink.zero(0, HEAD)?;
    sink.sync()?;
    let mut buffer = vec![0; PIECE];
    let mut at = HEAD;
    let (mut hole, mut until) = (false, at);
    while at < size {
        if at == until {
            (hole, until) = data_or_hole(image, at, size)?;
        }
        if hole {
            sink.zero(at, until - at)?;
            progress.advance(until - at);
            at = until;
            continue;
        }
        let piece = &mut buffer[..(until - at).min(PIECE as u64) as usize];
        image.read_exact_at(piece, at)?;
        sink.write(at, piece)?;
        progress.advance(piece.len() as u64);
        at += piece.len() as u64;
    }
    sink.sync()?;
    let head = &mut buffer[..HEAD as usize];
    image.read_exact_at(head, 0)?;
    sink.write(0, head)?;
    sink.sync()
}

/// Return the first offset at which the device differs from the image, if any.
fn compare(
    image: &File,
    size: u64,
    sink: &mut dyn Sink,
    progress: &dyn Progress,
) -> io::Result<Option<u64>> {
    let (mut wanted, mut found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < size {
        let length = (size - at).min(PIECE as u64) as usize;
        let (wanted, found) = (&mut wanted[..length], &mut found[..length]);
        image.read_exact_at(wanted, at)?;
        sink.read(at, found)?;
        if let Some(first) = wanted.iter().zip(&*found).position(|(a, b)| a != b) {
            return Ok(Some(at + first as u64));
        }
        progress.advance(length as u64);
        at += length as u64;
    }
    Ok(None)
}

/// The bytes that an image may take, to examine them.
struct Part<'a> {
    sink: RefCell<Box<dyn Sink + 'a>>,
    size: u64,
}

impl Memory for Part<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> daxfs_reader::Result<()> {
        let length = into.len() as u64;
        let read = self.sink.borrow_mut().read(offset, into);
        read.map_err(|_| daxfs_reader::Error::new(Problem::Unreadable, offset, length))
    }

    daxfs_reader::hashes!();
}

/// A block device or file, from this byte on.
struct Block<'a>(&'a File, u64);

impl Sink for Block<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, self.1 + offset)
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let at = self.1 + offset;
        match fallocate(self.0, FallocateFlags::ZERO_RANGE, at, length) {
            Ok(()) => Ok(()),
            Err(_) => write_zeros(self, offset, length),
        }
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, self.1 + offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// A DAX device, from this byte on.
struct Mapped(Mapping, u64);

impl Sink for Mapped {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(self.1 + offset, bytes)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read(self.1 + offset, into)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The memory is the device.
        Ok(())
    }
}

/// Return the size of the DAX device with that number in bytes, or `None` if it is not a DAX
/// device.
pub fn dax_size(device: u64) -> Option<u64> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let directory = PathBuf::from(format!("/sys/dev/char/{major}:{minor}"));
    let subsystem = directory.join("subsystem").canonicalize().ok()?;
    if subsystem.file_name()? != "dax" {
        return None;
    }
    let size = std::fs::read_to_string(directory.join("size")).ok()?;
    size.trim().parse().ok()
}
