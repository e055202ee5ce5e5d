// SPDX-License-Identifier: GPL-2.0-only

//! Input files, and parts of them.

use super::decoder::BUFFER;
use crate::writer::origin::Container;
use daxfs_files::spool::{nameless, spool};
use daxfs_files::{Error, Progress, Result};
use rustix::fs::{fstat, open, seek, FileType, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes at the start of a file that identify its type.
pub const MAGIC: usize = 8;

/// A file, or a part of it, that can be read at any offset.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The file.
    pub file: File,
    /// Its name in messages.
    pub path: PathBuf,
    /// Start of the part.
    pub start: u64,
    /// End of the part.
    pub end: u64,
    /// Whether other processes may write to it.
    pub public: bool,
}

/// The source of an input.
pub(crate) enum Raw {
    /// A file that can be read at any offset.
    Blob(Blob),
    /// A pipe, with the bytes already read from it.
    Pipe(File, PathBuf, Vec<u8>),
}

impl Raw {
    /// Opens `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, path) = if path.as_os_str() == "-" {
            let path = PathBuf::from("standard input");
            let owned = io::stdin().as_fd().try_clone_to_owned();
            let owned = owned.map_err(|error| Error::io(&path, "read it", error))?;
            (File::from(owned), path)
        } else {
            let file = File::open(path).map_err(|error| Error::io(path, "open the file", error))?;
            (file, path.to_path_buf())
        };
        let examine = |error| Error::io(&path, "examine", error);
        let stat = fstat(&file).map_err(examine)?;
        let (start, end) = match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::RegularFile | FileType::BlockDevice) => {
                // Standard input may already be partly read, and truncated since.
                let start = seek(&file, SeekFrom::Current(0)).map_err(examine)?;
                let end = match kind {
                    FileType::BlockDevice => seek(&file, SeekFrom::End(0)).map_err(examine)?,
                    _ => stat.st_size as u64,
                };
                (start, end.max(start))
            }
            FileType::Directory => {
                let why = "expected an archive, found a directory";
                return Err(Error::refused(&path, why));
            }
            _ => {
                let mut start = Vec::new();
                let read = (&file).take(MAGIC as u64).read_to_end(&mut start);
                read.map_err(|error| Error::io(&path, "read it", error))?;
                return Ok(Raw::Pipe(file, path, start));
            }
        };
        Ok(Raw::Blob(Blob {
            file,
            path,
            start,
            end,
            public: true,
        }))
    }

    /// Returns the name for messages.
    pub fn path(&self) -> &Path {
        match self {
            Raw::Blob(blob) => &blob.path,
            Raw::Pipe(_, path, _) => path,
        }
    }

    /// Returns the number of bytes to read, or 0 if unknown.
    pub fn size(&self) -> u64 {
        match self {
            Raw::Blob(blob) => blob.size(),
            Raw::Pipe(..) => 0,
        }
    }

    /// Returns true if the first bytes are `magic`, which has at most [`MAGIC`].
    pub fn begins_with(&self, magic: &[u8]) -> Result<bool> {
        match self {
            Raw::Blob(blob) => {
                let mut start = [0; MAGIC];
                let length = blob.read_at(&mut start, 0)?;
                Ok(start[..length].starts_with(magic))
            }
            Raw::Pipe(_, _, start) => Ok(start.starts_with(magic)),
        }
    }

    /// Converts into a blob. A pipe is copied to a temporary file in `scratch`.
    pub fn into_blob(self, scratch: &Path) -> Result<Blob> {
        match self {
            Raw::Blob(blob) => Ok(blob),
            Raw::Pipe(file, path, start) => {
                let (file, end) = spool(start.chain(file), &path, scratch)?;
                Ok(Blob {
                    file,
                    path,
                    start: 0,
                    end,
                    public: false,
                })
            }
        }
    }
}

impl Blob {
    /// Opens the regular file `path`, which the user has not named.
    pub fn open(path: &Path) -> Result<Self> {
        // Do not wait for a writer of a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::empty());
        let file = File::from(file.map_err(|error| Error::io(path, "open the file", error))?);
        let stat = fstat(&file).map_err(|error| Error::io(path, "examine", error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::refused(path, "is not a regular file"));
        }
        Ok(Blob {
            file,
            path: path.into(),
            start: 0,
            end: stat.st_size as u64,
            public: true,
        })
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Reads `into.len()` bytes at `offset`, or fewer at the end of the blob.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let left = self.size().saturating_sub(offset);
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < length {
            let at = self.start + offset + filled as u64;
            match self.file.read_at(&mut into[filled..length], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(Error::io(&self.path, "read the file", error)),
            }
        }
        Ok(filled)
    }

    /// Returns the `size` bytes at `offset` as a blob called `path`.
    pub fn part(&self, offset: u64, size: u64, path: PathBuf) -> Result<Self> {
        let clone = self.file.try_clone();
        let start = self.start + offset;
        Ok(Blob {
            file: clone.map_err(|error| Error::io(&self.path, "open the file", error))?,
            path,
            start,
            end: start + size,
            public: self.public,
        })
    }

    /// Returns the file as a container of content.
    pub fn container(&self) -> Result<Container> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| Error::io(&self.path, "open the file", error))?;
        if self.public {
            Container::public(file, &self.path)
        } else {
            Ok(Container::private(file))
        }
    }
}

/// A temporary file for the content of compressed archives and pipes.
pub(crate) struct Spool<'a> {
    pub file: File,
    pub directory: &'a Path,
    pub end: u64,
    pub buffer: Vec<u8>,
}

impl<'a> Spool<'a> {
    pub fn new(directory: &'a Path) -> Result<Self> {
        Ok(Spool {
            file: nameless(directory)?,
            directory,
            end: 0,
            buffer: vec![0; BUFFER],
        })
    }
}

/// Reads a blob from start to end, and reports the progress.
pub(crate) struct BlobReader<'a> {
    blob: &'a Blob,
    at: u64,
    progress: &'a dyn Progress,
}

impl<'a> BlobReader<'a> {
    pub fn new(blob: &'a Blob, progress: &'a dyn Progress) -> Self {
        BlobReader {
            blob,
            at: blob.start,
            progress,
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blob.end - self.at).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let length = self.blob.file.read_at(&mut into[..length], self.at)?;
        self.at += length as u64;
        self.progress.advance(length as u64);
        Ok(length)
    }
}

impl Seek for BlobReader<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let io::SeekFrom::Current(bytes @ 0..) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let bytes = bytes as u64;
        self.at = self.blob.end.min(self.at.saturating_add(bytes));
        self.progress.advance(bytes);
        Ok(self.at)
    }
}
