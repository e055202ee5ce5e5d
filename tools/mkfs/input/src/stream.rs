// SPDX-License-Identifier: GPL-2.0-only

//! Archives as streams of bytes: part of a file or not, compressed or not.

use super::blob::{Blob, BlobReader, Raw, Spool, MAGIC};
use super::decoder::{decoder, BUFFER};
use daxfs_check::Progress;
use daxfs_writer::origin::Container;
use daxfs_writer::{Error, Result};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A stream that stores the content of files.
pub(crate) enum Stream<'a> {
    /// The content stays in the input.
    Direct {
        blob: &'a Blob,
        /// Offset in the blob of the next byte.
        at: u64,
        /// The bytes before `ahead_end`.
        ahead: Vec<u8>,
        ahead_end: u64,
        progress: &'a dyn Progress,
    },
    /// The content is copied to a file.
    Spooled {
        reader: Box<dyn Read + 'a>,
        path: &'a Path,
        at: u64,
        spool: Spool<'a>,
    },
}

impl<'a> Stream<'a> {
    /// Return the bytes of `raw`, decompressed. `scratch` is a directory for temporary files.
    pub fn new(raw: &'a Raw, scratch: &'a Path, progress: &'a dyn Progress) -> Result<Self> {
        match raw {
            Raw::Blob(blob) => Self::of_blob(blob, scratch, progress),
            Raw::Pipe(file, path, start) => {
                let rest = BufReader::with_capacity(BUFFER, file);
                let reader = io::Cursor::new(start).chain(rest);
                let reader = match decoder(start, reader, path)? {
                    Ok(decoder) => decoder,
                    Err(plain) => Box::new(plain),
                };
                Self::spooled(reader, path, scratch)
            }
        }
    }

    /// Return the bytes of `blob`, decompressed.
    pub fn of_blob(blob: &'a Blob, scratch: &'a Path, progress: &'a dyn Progress) -> Result<Self> {
        let mut start = [0; MAGIC];
        let length = blob.read_at(&mut start, 0)?;
        let reader = BufReader::with_capacity(BUFFER, BlobReader::new(blob, progress));
        match decoder(&start[..length], reader, &blob.path)? {
            Ok(decoder) => Self::spooled(decoder, &blob.path, scratch),
            Err(_) => Ok(Stream::Direct {
                blob,
                at: 0,
                ahead: Vec::new(),
                ahead_end: 0,
                progress,
            }),
        }
    }

    fn spooled(reader: Box<dyn Read + 'a>, path: &'a Path, scratch: &'a Path) -> Result<Self> {
        Ok(Stream::Spooled {
            reader,
            path,
            at: 0,
            spool: Spool::new(scratch)?,
        })
    }

    /// Return its name in messages.
    pub fn path(&self) -> &'a Path {
        match self {
            Stream::Direct { blob, .. } => &blob.path,
            Stream::Spooled { path, .. } => path,
        }
    }

    /// Return the offset of the next byte in the decompressed stream.
    pub fn position(&self) -> u64 {
        match self {
            Stream::Direct { at, .. } | Stream::Spooled { at, .. } => *at,
        }
    }

    /// Read as much as there is, up to the length of `into`.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        match self {
            Stream::Direct {
                blob,
                at,
                ahead,
                ahead_end,
                progress,
            } => {
                let begin = *ahead_end - ahead.len() as u64;
                if *at < begin || *at + into.len() as u64 > *ahead_end {
                    ahead.resize(into.len().max(BUFFER / 4), 0);
                    let length = blob.read_at(ahead, *at)?;
                    ahead.truncate(length);
                    *ahead_end = *at + length as u64;
                }
                let begin = *ahead_end - ahead.len() as u64;
                let from = &ahead[(*at - begin) as usize..];
                let length = into.len().min(from.len());
                into[..length].copy_from_slice(&from[..length]);
                *at += length as u64;
                progress.advance(length as u64);
                Ok(length)
            }
            Stream::Spooled {
                reader, path, at, ..
            } => {
                let mut filled = 0;
                while filled < into.len() {
                    match reader.read(&mut into[filled..]) {
                        Ok(0) => break,
                        Ok(length) => filled += length,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                        Err(error) => return Err(broken(path, error)),
                    }
                }
                *at += filled as u64;
                Ok(filled)
            }
        }
    }

    /// Read all of `into`.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
        if self.read(into)? < into.len() {
            return Err(self.cut_short());
        }
        Ok(())
    }

    /// Return the error for a stream that ends too early.
    pub fn cut_short(&self) -> Error {
        cut_short(self.path(), self.position())
    }

    /// Skip `size` bytes.
    pub fn skip(&mut self, size: u64) -> Result<()> {
        match self {
            Stream::Direct {
                blob, at, progress, ..
            } => {
                let left = blob.size() - *at;
                *at += size.min(left);
                progress.advance(size.min(left));
                if size > left {
                    return Err(cut_short(&blob.path, *at));
                }
            }
            Stream::Spooled {
                reader, path, at, ..
            } => {
                let skipped = io::copy(&mut reader.take(size), &mut io::sink());
                let skipped = skipped.map_err(|error| broken(path, error))?;
                *at += skipped;
                if skipped < size {
                    return Err(cut_short(path, *at));
                }
            }
        }
        Ok(())
    }

    /// Keep the next `size` bytes, and return their offset in the container.
    pub fn keep(&mut self, size: u64) -> Result<u64> {
        let Stream::Spooled {
            reader,
            path,
            at,
            spool,
        } = self
        else {
            let at = self.position();
            self.skip(size)?;
            return Ok(match self {
                Stream::Direct { blob, .. } => blob.start + at,
                Stream::Spooled { .. } => at,
            });
        };
        let start = spool.end;
        let mut left = size;
        while left > 0 {
            let length = spool
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let length = match reader.read(&mut spool.buffer[..length]) {
                Ok(0) => return Err(cut_short(path, *at)),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(path, error)),
            };
            let written = spool.file.write_all_at(&spool.buffer[..length], spool.end);
            written
                .map_err(|error| Error::output(spool.directory, "write a temporary file", error))?;
            spool.end += length as u64;
            *at += length as u64;
            left -= length as u64;
        }
        Ok(start)
    }

    /// Read the rest, so that its writer is not blocked and checksums at its end are verified.
    /// Return the container of the stored content.
    pub fn finish(self) -> Result<Container> {
        match self {
            Stream::Direct { blob, .. } => blob.container(),
            Stream::Spooled {
                mut reader,
                path,
                spool,
                ..
            } => {
                io::copy(&mut reader, &mut io::sink()).map_err(|error| broken(path, error))?;
                Ok(Container::private(spool.file))
            }
        }
    }
}

/// Return the error for a stream that ends at byte `at`, too early.
fn cut_short(path: &Path, at: u64) -> Error {
    let why = format!("ends in the middle of a file, at byte {at}; it is cut short, get it again");
    Error::refused(path, why)
}

/// Return an error of reading or decompressing.
fn broken(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            let why = format!("is damaged ({error}); get it again");
            Error::refused(path, why)
        }
        io::ErrorKind::UnexpectedEof => {
            Error::refused(path, "its compressed data end too early; get it again")
        }
        _ => Error::io(path, "read it", error),
    }
}
