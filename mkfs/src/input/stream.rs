// SPDX-License-Identifier: GPL-2.0-only

//! Archives as streams of bytes, whole files or parts, compressed or not.

use super::blob::{Blob, BlobReader, Raw, Spool, MAGIC};
use super::decoder::{decoder, Format, Frames, Uncompressed, BUFFER, MEMORY};
use crate::input::options::Options;
use crate::writer::origin::Container;
use daxfs_files::spool::write;
use daxfs_files::{shown_path, Error, Result};
use rustix::fs::{fstat, FileType};
use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// A stream that stores files' content.
pub(crate) struct Stream<'a> {
    path: &'a Path,
    /// Offset of the next decompressed byte.
    at: u64,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    /// The content stays in the input.
    Direct(&'a Blob, BufReader<BlobReader<'a>>),
    /// The content is copied to a file.
    Spooled(Box<Frames<'a>>, Spool<'a>),
}

impl<'a> Stream<'a> {
    /// Returns the decompressed bytes of `raw`.
    pub fn new(raw: &'a Raw, options: &Options<'a>) -> Result<Self> {
        match raw {
            Raw::Blob(blob) => Self::of_blob(blob, options),
            Raw::Pipe(file, path, start) => {
                let rest = BufReader::with_capacity(BUFFER, file);
                let reader = io::Cursor::new(start).chain(rest);
                let frames = match decoder(start, reader, path)? {
                    Ok(frames) => frames,
                    Err(plain) => Frames::new(Format::Plain, Box::new(plain))
                        .map_err(|error| broken(path, error))?,
                };
                let bytes = Bytes::Spooled(Box::new(frames), Spool::new(options.scratch)?);
                Ok(Stream { path, at: 0, bytes })
            }
        }
    }

    /// Returns the decompressed bytes of `blob`.
    pub fn of_blob(blob: &'a Blob, options: &Options<'a>) -> Result<Self> {
        let mut start = [0; MAGIC];
        let length = blob.read_at(&mut start, 0)?;
        // A larger buffer would read in vain between the headers of large files.
        let reader = BufReader::with_capacity(BUFFER / 4, BlobReader::new(blob, options.progress));
        let path = &blob.path;
        let bytes = match decoder(&start[..length], reader, path)? {
            Ok(frames) => Bytes::Spooled(Box::new(frames), Spool::new(options.scratch)?),
            Err(plain) => Bytes::Direct(blob, plain),
        };
        Ok(Stream { path, at: 0, bytes })
    }

    /// Passes all decompressed bytes to `told` as well. Returns false for an uncompressed input.
    pub fn tell(&mut self, told: Option<&'a RefCell<Uncompressed>>) -> bool {
        match &mut self.bytes {
            Bytes::Direct(..) => false,
            Bytes::Spooled(frames, _) => {
                frames.told = told;
                true
            }
        }
    }

    /// Returns a program that decompresses the stream, if it is compressed.
    pub fn program(&self) -> Option<&'static str> {
        match &self.bytes {
            Bytes::Direct(..) => None,
            Bytes::Spooled(frames, _) => frames.program(),
        }
    }

    /// Returns the name for messages.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Returns the offset of the next byte in the decompressed stream.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Reads up to `into.len()` bytes, fewer only at the end.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let reader: &mut dyn Read = match &mut self.bytes {
            Bytes::Direct(_, reader) => reader,
            Bytes::Spooled(reader, _) => reader,
        };
        let mut filled = 0;
        while filled < into.len() {
            match reader.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(broken(self.path, error)),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    /// Like [`Stream::read`], but leaves the bytes for the next read.
    pub fn peek(&mut self, into: &mut [u8]) -> Result<usize> {
        let at = self.at;
        if let Bytes::Direct(blob, _) = &self.bytes {
            return blob.read_at(into, at);
        }
        let length = self.read(into)?;
        self.at = at;
        if let Bytes::Spooled(frames, _) = &mut self.bytes {
            frames.ahead = into[..length].to_vec();
        }
        Ok(length)
    }

    /// Fills `into`.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
        if self.read(into)? < into.len() {
            return Err(self.cut_short());
        }
        Ok(())
    }

    /// Returns true if uncompressed bytes remain.
    pub fn has_garbage(&self) -> bool {
        matches!(&self.bytes, Bytes::Spooled(frames, _) if frames.garbage.is_some())
    }

    /// Returns the error for a truncated stream.
    pub fn cut_short(&self) -> Error {
        if let Bytes::Spooled(frames, _) = &self.bytes {
            if let Some((left, error)) = &frames.garbage {
                let why = format!("its last {left} bytes are not compressed ({error})");
                return Error::refused(self.path, format!("is damaged: {why}; get it again"));
            }
        }
        let at = self.at;
        let why =
            format!("ends in the middle of a file, at byte {at}; it is cut short, get it again");
        Error::refused(self.path, why)
    }

    /// Skips `size` bytes.
    pub fn skip(&mut self, size: u64) -> Result<()> {
        let path = self.path;
        let skipped = match &mut self.bytes {
            Bytes::Direct(blob, reader) => {
                let left = size.min(blob.size() - self.at);
                reader.seek_relative(left as i64).map(|()| left)
            }
            Bytes::Spooled(reader, _) => io::copy(&mut reader.take(size), &mut io::sink()),
        };
        let skipped = skipped.map_err(|error| broken(path, error))?;
        self.at += skipped;
        if skipped < size {
            return Err(self.cut_short());
        }
        Ok(())
    }

    /// Stores the next `size` bytes, and returns their offset in the container.
    pub fn keep(&mut self, size: u64) -> Result<u64> {
        let (reader, spool) = match &mut self.bytes {
            Bytes::Direct(blob, _) => {
                let start = blob.start + self.at;
                return self.skip(size).map(|()| start);
            }
            Bytes::Spooled(reader, spool) => (reader, spool),
        };
        let start = spool.end;
        let mut left = size;
        while left > 0 {
            let length = left.min(spool.buffer.len() as u64) as usize;
            let length = match reader.read(&mut spool.buffer[..length]) {
                Ok(0) => return Err(self.cut_short()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(self.path, error)),
            };
            let piece = &spool.buffer[..length];
            write(&spool.file, piece, spool.end, spool.directory)?;
            spool.end += length as u64;
            self.at += length as u64;
            left -= length as u64;
        }
        Ok(start)
    }

    /// Reads the rest, so that its writer is not blocked and checksums at the end are verified.
    /// Adds a warning to `warnings` if the rest is more than zeros. Returns the container of the
    /// content.
    pub fn finish(mut self, warnings: &mut Vec<String>) -> Result<Container> {
        let path = shown_path(self.path);
        let left = self.left()?;
        if left > 0 {
            warnings.push(format!(
                "{path}: {left} bytes after the end of the archive are left out; --ignore-zeros reads them, if they are an archive"
            ));
        }
        match self.bytes {
            Bytes::Direct(blob, _) => blob.container(),
            Bytes::Spooled(frames, spool) => {
                if let Some((left, error)) = frames.garbage {
                    warnings.push(format!(
                        "{path}: {left} bytes after the compressed data are left out ({error})"
                    ));
                }
                Ok(Container::private(spool.file))
            }
        }
    }

    /// Reads the rest. Returns its length without leading zeros.
    fn left(&mut self) -> Result<u64> {
        if let Bytes::Direct(blob, _) = self.bytes {
            let stat = fstat(&blob.file).map_err(|error| Error::io(self.path, "examine", error))?;
            // The rest of a device is older data.
            if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
                return Ok(0);
            }
        }
        let (mut buffer, mut left) = (vec![0; BUFFER / 4], 0);
        loop {
            let length = self.read(&mut buffer)?;
            let mut rest = &buffer[..length];
            while let (0, [0, more @ ..]) = (left, rest) {
                rest = more;
            }
            left += rest.len() as u64;
            match self.bytes {
                _ if length == 0 => return Ok(left),
                Bytes::Direct(blob, _) if left > 0 => return Ok(left + blob.size() - self.at),
                _ => (),
            }
        }
    }
}

/// Returns the error for a failed read or decompression.
fn broken(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            let limit = (1 << MEMORY) >> 20;
            let much = |program| {
                format!("needs more than {limit} MiB of memory; decompress it first with {program}")
            };
            let why = match error.to_string().as_str() {
                "Frame requires too much memory for decoding" => much("zstd -dc --long=31"),
                "memory limit reached" => much("xz -dc"),
                text => format!("is damaged ({text}); get it again"),
            };
            Error::refused(path, why)
        }
        io::ErrorKind::UnexpectedEof => {
            Error::refused(path, "its compressed data end too early; get it again")
        }
        _ => Error::io(path, "read it", error),
    }
}
