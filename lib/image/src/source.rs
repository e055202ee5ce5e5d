// SPDX-License-Identifier: GPL-2.0-only

//! Sources of images: a file, a block device, a DAX device, or standard input.

use crate::catalog::{load, unknown};
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::text::shown_path;
use daxfs_files::bar::Bar;
use daxfs_files::digest::{combine, hex, sums, wrong_sum};
use daxfs_files::region::examine;
use daxfs_files::region::Region;
use daxfs_files::spool::spool;
use daxfs_files::{decompress_first, decompressor, occupant, scratch, Mapping, Progress, HEAD};
use daxfs_reader::layout::MAGIC;
use daxfs_reader::{Image, Memory, Problem, Superblock};
use rustix::fs::{FileType, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The remedy for a file that is not an image.
const MAKES: &str = "mkdaxfs makes images";

/// Why a FIFO is refused.
pub const NO_ORDER: &str = "cannot be read in any order; name an image file or device";

/// The place of an image in a larger file or device.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct At {
    /// Start of the image, or with --image of the store, in the file or device
    #[arg(long, value_name = "BYTES", value_parser = daxfs_files::values::size)]
    pub offset: Option<u64>,
    /// Use the image of this name in the store on the device or in the file
    #[arg(long = "image", value_name = "NAME")]
    pub name: Option<String>,
}

impl At {
    /// Returns the name for messages of the image at this place in `path`.
    pub fn name_in(&self, path: &Path) -> String {
        let name = name_of(path);
        match &self.name {
            Some(image) => format!("{name}: {image}"),
            None => name,
        }
    }
}

/// Opens `path`, like [`open_input`].
pub fn open(path: &Path) -> Result<Region> {
    let name = name_of(path);
    let file = open_input(path)?;
    let found =
        examine(&file).map_err(|error| Error::system(&name, "cannot examine", "", error))?;
    match found {
        Some((FileType::CharacterDevice, size)) => {
            let mapping = Mapping::read_only(&file, 0, size).map_err(|error| {
                let remedy = "; a DAX device must be in devdax mode to be read here";
                Error::system(&name, "cannot map", remedy, error)
            })?;
            Ok(Region::mapped(mapping, 0, size))
        }
        Some((_, size)) => Ok(Region::file(file, 0, size)),
        None if path.is_dir() => {
            let why = "is a directory; name an image or a device";
            Err(Error::refused(name, why))
        }
        None => {
            let why = format!("{NO_ORDER}, or pipe it to '-'");
            Err(Error::refused(name, why))
        }
    }
}

/// Opens the part of `path` at `at`.
pub fn open_at(path: &Path, at: &At) -> Result<Region> {
    let mut source = open(path)?;
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

/// An image's packs, in the order of its table: `None` if missing, an error if unusable.
pub type Packs = Vec<Result<Option<Arc<Opened>>>>;

/// An image with a valid superblock.
pub struct Opened {
    /// Its bytes.
    pub source: Region,
    /// Its superblock.
    pub superblock: Superblock,
    /// Name for messages.
    pub name: String,
    /// Its packs, empty before [`Opened::find_packs`].
    pub packs: Packs,
}

impl Opened {
    /// Opens the image at `path`, like [`open`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_source(open(path)?, name_of(path))
    }

    /// Opens the image at the place `at` in `path`.
    pub fn open_at(path: &Path, at: &At) -> Result<Self> {
        Self::of_source(open_at(path, at)?, at.name_in(path))
    }

    /// Opens the image `name` in `source`, and validates the table of its packs.
    pub fn of_source(source: Region, name: String) -> Result<Self> {
        let superblock = superblock(&source, &name)?;
        let opened = Opened {
            source,
            superblock,
            name,
            packs: Packs::default(),
        };
        opened.reader().packs()?;
        Ok(opened)
    }

    /// Returns the image.
    pub fn image(&self) -> Image<'_, Region> {
        Image::new(&self.source, &self.superblock)
    }

    /// Returns a reader of the image.
    pub fn reader(&self) -> Reader<'_, Region> {
        let packs = self.packs.iter().map(|pack| {
            let pack = pack.as_ref()?;
            Ok(pack.as_ref().map(|pack| pack.reader()))
        });
        Reader::new(self.image(), &self.name).with_packs(packs.collect())
    }

    /// Compares all bytes of the image with its SHA-256, and returns the SHA-256.
    pub fn digest(&self) -> Result<[u8; 32]> {
        self.sums(&Bar::of("reading", self.superblock.total_size))?;
        Ok(self.superblock.sha256)
    }

    /// Compares all bytes of the image with its SHA-256, and with the sums of its pieces, if any.
    pub fn verify(&self, progress: &dyn Progress) -> Result<()> {
        let pieces = self.sums(progress)?;
        let wrong = wrong_sum(&self.image(), &pieces);
        match wrong.map_err(|error| Error::image(&self.name, b"", error))? {
            None => Ok(()),
            Some((piece, _)) => {
                let why = format!("the sum of its piece {piece} is wrong; copy the image again");
                Err(Error::refused(self.name.clone(), why))
            }
        }
    }

    /// Returns the SHA-256 of all pieces. Fails unless they combine to the SHA-256 of the image.
    fn sums(&self, progress: &dyn Progress) -> Result<Vec<[u8; 32]>> {
        let pieces =
            sums(&self.image(), progress).map_err(|error| Error::image(&self.name, b"", error))?;
        let found = combine(pieces.iter().copied());
        if found != self.superblock.sha256 {
            return Err(Error::Digest {
                name: self.name.clone(),
                found: hex(&found),
                stored: hex(&self.superblock.sha256),
            });
        }
        Ok(pieces)
    }
}

/// Loads the superblock of the image `name` in `memory`. If it is not an image, the error says what
/// it looks like.
pub fn superblock(memory: &impl Memory, name: &str) -> Result<Superblock> {
    Superblock::load(memory).map_err(|error| {
        let mut head = vec![0; memory.size().min(HEAD as u64) as usize];
        if memory.read(0, &mut head).is_err() || head.starts_with(&MAGIC) {
            return Error::image(name, b"", error);
        }
        let looks = |kind: &str| {
            let remedy = match decompressor(&head) {
                Some(program) => decompress_first(program, name, ">IMAGE"),
                None => MAKES.into(),
            };
            format!(" (it looks like {kind}); {remedy}")
        };
        match error.problem {
            Problem::Magic | Problem::TooSmall => Error::Foreign {
                name: name.into(),
                looks: match occupant(&head) {
                    Some(kind) => looks(kind),
                    None if head.is_empty() => format!(" (it is empty); {MAKES}"),
                    None if head.iter().all(|&byte| byte == 0) => {
                        format!(" (it starts with zeros); {MAKES}")
                    }
                    None => format!("; {MAKES}"),
                },
            },
            _ => Error::image(name, b"", error),
        }
    })
}

/// Opens `path` for reading; `-` is standard input. Copies standard input and other descriptors of
/// this process to a temporary file, unless they are files or devices.
pub fn open_input(path: &Path) -> Result<File> {
    let name = name_of(path);
    let descriptors = ["/dev/stdin", "/dev/fd", "/proc/self/fd"];
    let file = if path.as_os_str() == "-" {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else if descriptors.iter().any(|start| path.starts_with(start)) {
        File::open(path)
    } else {
        return open_now(path).map_err(|error| cannot_open(&name, error));
    };
    let file = file.map_err(|error| cannot_open(&name, error))?;
    let is_directory = file.metadata().is_ok_and(|found| found.is_dir());
    if is_directory || matches!(examine(&file), Ok(Some(_))) {
        Ok(file)
    } else {
        Ok(spool(file, Path::new(&name), &scratch(Path::new("/tmp")))?.0)
    }
}

/// Opens `path` for reading, without waiting for the other end of a FIFO.
pub fn open_now(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Returns the error for an image `name` that cannot be opened.
pub fn cannot_open(name: &str, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; run as a user who may read it",
        _ => "",
    };
    Error::system(name, "cannot open", remedy, error)
}

/// Returns the name of `path` for messages.
pub fn name_of(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard input".into()
    } else {
        shown_path(path)
    }
}
