// SPDX-License-Identifier: GPL-2.0-only

//! Sources of images: a file, a block device, a DAX device, or standard input.

use crate::catalog::{load, unknown};
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::text::shown_path;
use daxfs_check::digest::{combine, hex, sums, wrong_sum};
use daxfs_check::memory::{data_or_hole, next_data, FileMemory, Storage};
use daxfs_check::Progress;
use daxfs_command::signals::Interrupt;
use daxfs_reader::layout::MAGIC;
use daxfs_reader::{self as image, Image, Memory, Problem, Superblock};
use daxfs_writer::device::dax_size;
use daxfs_writer::{occupant, Mapping, ReadOnly, HEAD};
use rustix::fs::{fstat, FileType, OFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Why a FIFO is refused.
pub const NO_ORDER: &str = "cannot be read in any order; name an image file or device";

/// Bytes that are read together.
const PIECE: usize = 1 << 20;

/// Place of an image in a file or device that holds more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct At {
    /// The image, or with --image the catalogue, starts at this byte of the file or device
    #[cfg_attr(feature = "clap", arg(long, value_name = "BYTES", value_parser = daxfs_command::values::size))]
    pub offset: Option<u64>,
    /// The image has this name in the catalogue of the file or device
    #[cfg_attr(feature = "clap", arg(long = "image", value_name = "NAME"))]
    pub name: Option<String>,
}

impl At {
    /// Return the name in messages of the image at this place in `path`.
    pub fn name_in(&self, path: &Path) -> String {
        let name = name_of(path);
        match &self.name {
            Some(image) => format!("{name}: {image}"),
            None => name,
        }
    }
}

/// Bytes that an image is read from.
pub struct Source {
    bytes: Bytes,
    /// Offset of the first byte in the file or device.
    start: u64,
    size: u64,
}

enum Bytes {
    File(File),
    Mapped(ReadOnly),
}

impl Source {
    /// Open `path`, see [`open_input`].
    pub fn open(path: &Path) -> Result<Self> {
        let name = name_of(path);
        let file = open_input(path)?;
        let status =
            fstat(&file).map_err(|error| Error::system(&name, "cannot examine", "", error))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile | FileType::BlockDevice => Self::of_file(file, &name),
            FileType::CharacterDevice if dax_size(status.st_rdev).is_some() => {
                let size = dax_size(status.st_rdev).unwrap_or(0);
                let mapping = Mapping::read_only(&file, 0, size).map_err(|error| {
                    let remedy = "; a DAX device must be in devdax mode to be read here";
                    Error::system(&name, "cannot map", remedy, error)
                })?;
                Ok(Source {
                    bytes: Bytes::Mapped(mapping),
                    start: 0,
                    size,
                })
            }
            FileType::Directory => Err(Error::refused(
                name,
                "is a directory; name an image or a device",
            )),
            _ => Err(Error::refused(
                name,
                format!("{NO_ORDER}, or pipe it to '-'"),
            )),
        }
    }

    /// Open the part of `path` that `at` names.
    pub fn open_at(path: &Path, at: &At) -> Result<Self> {
        let mut source = Self::open(path)?;
        let start = at.offset.unwrap_or(0);
        if start > source.size {
            let why = format!(
                "has {} bytes, so nothing starts at byte {start}",
                source.size
            );
            return Err(Error::refused(name_of(path), why));
        }
        (source.start, source.size) = (start, source.size - start);
        if let Some(wanted) = &at.name {
            let name = name_of(path);
            let table = load(&source, &name)?;
            let found = table.find(wanted);
            let range = &found.ok_or_else(|| unknown(&name, &table, wanted))?.range;
            (source.start, source.size) = (start + range.start, range.end - range.start);
        }
        Ok(source)
    }

    /// Return the error for `length` bytes at `offset`.
    fn unreadable(offset: u64, length: usize) -> image::Error {
        image::Error::new(Problem::Unreadable, offset, length as u64)
    }

    fn of_file(file: File, name: &str) -> Result<Self> {
        let size = FileMemory::new(&file)
            .map_err(|error| Error::system(name, "cannot get its size", "", error))?
            .size();
        Ok(Source {
            bytes: Bytes::File(file),
            start: 0,
            size,
        })
    }
}

/// Copy a pipe to a temporary file without a name, with holes for zeros.
fn spool(mut pipe: File, name: &str) -> Result<File> {
    let remedy = "; set TMPDIR to a directory with room";
    let write = "cannot write a temporary file";
    let file = tempfile::tempfile().map_err(|error| {
        let dir = std::env::temp_dir();
        let dir = shown_path(&dir);
        let operation = format!("cannot make a temporary file in {dir}");
        Error::system(name, operation, remedy, error)
    })?;
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        let length = match pipe.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::system(name, "cannot read", "", error)),
        };
        let piece = &piece[..length];
        if piece.iter().any(|&byte| byte != 0) {
            file.write_all_at(piece, size)
                .map_err(|error| Error::system(name, write, remedy, error))?;
        }
        size += length as u64;
    }
    file.set_len(size)
        .map_err(|error| Error::system(name, write, "", error))?;
    Ok(file)
}

impl Memory for Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let unreadable = Self::unreadable(offset, into.len());
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(unreadable);
        }
        let at = self.start + offset;
        let read = match &self.bytes {
            Bytes::File(file) => file.read_exact_at(into, at),
            Bytes::Mapped(mapping) => mapping.read(at, into),
        };
        read.map_err(|_| unreadable)
    }

    daxfs_reader::hashes!();
}

impl Storage for Source {
    fn hole(&self, offset: u64) -> image::Result<(bool, u64)> {
        let Bytes::File(file) = &self.bytes else {
            return Ok((false, self.size));
        };
        let found = data_or_hole(file, self.start + offset, self.start + self.size);
        let (hole, end) = found.map_err(|_| Self::unreadable(offset, 0))?;
        Ok((hole, end - self.start))
    }

    fn data(&self, offset: u64) -> image::Result<u64> {
        let Bytes::File(file) = &self.bytes else {
            return Ok(offset);
        };
        let found = next_data(file, self.start + offset, self.start + self.size);
        Ok(found.map_err(|_| Self::unreadable(offset, 0))? - self.start)
    }
}

/// A source that cannot be read once a signal has arrived.
pub struct Watched<'a> {
    /// The source.
    pub source: &'a Source,
    /// Knows whether a signal has arrived.
    pub interrupt: &'a Interrupt,
}

impl Memory for Watched<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        match self.interrupt.check() {
            Ok(()) => self.source.read(offset, into),
            Err(_) => Err(image::Error::new(
                Problem::Unreadable,
                offset,
                into.len() as u64,
            )),
        }
    }

    daxfs_reader::hashes!();
}

impl Storage for Watched<'_> {
    fn hole(&self, offset: u64) -> image::Result<(bool, u64)> {
        self.source.hole(offset)
    }

    fn data(&self, offset: u64) -> image::Result<u64> {
        self.source.data(offset)
    }
}

/// An image with a valid superblock.
pub struct Opened {
    /// Its bytes.
    pub source: Source,
    /// Its superblock.
    pub superblock: Superblock,
    /// Name in messages.
    pub name: String,
}

impl Opened {
    /// Open the image at `path`, see [`Source::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_source(Source::open(path)?, name_of(path))
    }

    /// Open the image at the place `at` in `path`.
    pub fn open_at(path: &Path, at: &At) -> Result<Self> {
        Self::of_source(Source::open_at(path, at)?, at.name_in(path))
    }

    /// Open the image in the regular file or block device `file`, called `name` in messages.
    pub fn of_file(file: File, name: String) -> Result<Self> {
        Self::of_source(Source::of_file(file, &name)?, name)
    }

    fn of_source(source: Source, name: String) -> Result<Self> {
        let superblock = superblock(&source, &name)?;
        Ok(Opened {
            source,
            superblock,
            name,
        })
    }

    /// Return a reader of the image.
    pub fn reader(&self) -> Reader<'_, Source> {
        Reader::new(Image::new(&self.source, &self.superblock), &self.name)
    }

    /// Compare all bytes of the image with its SHA-256, and with the sums of its pieces if it has any.
    pub fn verify(&self, progress: &dyn Progress) -> Result<()> {
        let image = Image::new(&self.source, &self.superblock);
        let fail = |error| Error::image(&self.name, b"", error);
        let pieces = sums(&image, progress).map_err(fail)?;
        let found = combine(pieces.iter().copied());
        if found != self.superblock.sha256 {
            return Err(Error::Digest {
                name: self.name.clone(),
                found: hex(&found),
                stored: hex(&self.superblock.sha256),
            });
        }
        match wrong_sum(&image, &pieces).map_err(fail)? {
            None => Ok(()),
            Some((piece, _)) => {
                let why = format!("the sum of its piece {piece} is wrong; copy the image again");
                Err(Error::refused(self.name.clone(), why))
            }
        }
    }
}

/// Load the superblock of the image `name` in `memory`. Say what a file that is not an image looks
/// like.
pub fn superblock(memory: &impl Memory, name: &str) -> Result<Superblock> {
    Superblock::load(memory).map_err(|error| {
        let mut head = vec![0; memory.size().min(HEAD as u64) as usize];
        if memory.read(0, &mut head).is_err() || head.starts_with(&MAGIC) {
            return Error::image(name, b"", error);
        }
        let looks = |kind| format!(" (it looks like {kind})");
        match error.problem {
            Problem::Magic | Problem::TooSmall => Error::Foreign {
                name: name.into(),
                looks: occupant(&head).map(looks).unwrap_or_default(),
            },
            _ => Error::image(name, b"", error),
        }
    })
}

/// Open `path` for reading; `-` is standard input. Anything but a file or a device with an image there is copied to a temporary file.
pub fn open_input(path: &Path) -> Result<File> {
    let name = name_of(path);
    let file = match path.as_os_str() == "-" {
        true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => return open_now(path).map_err(|error| cannot_open(&name, error)),
    };
    let file = file.map_err(|error| cannot_open(&name, error))?;
    let fits = |status: Metadata| {
        let kind = status.file_type();
        kind.is_file()
            || kind.is_block_device()
            || kind.is_dir()
            || dax_size(status.rdev()).is_some()
    };
    match file.metadata().is_ok_and(fits) {
        true => Ok(file),
        false => spool(file, &name),
    }
}

/// Open `path` for reading, without waiting for the other end of a FIFO.
pub fn open_now(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Return the error for an image `name` that cannot be opened.
pub fn cannot_open(name: &str, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; run as a user who may read it",
        _ => "",
    };
    Error::system(name, "cannot open", remedy, error)
}

/// Return the name of `path` in messages.
pub fn name_of(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard input".into()
    } else {
        shown_path(path)
    }
}
