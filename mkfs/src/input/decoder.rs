// SPDX-License-Identifier: GPL-2.0-only

//! Decompression of archives.

use daxfs_files::{decompressor, Error, Result};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// Bytes to read at a time.
pub const BUFFER: usize = 256 << 10;

/// Memory limit of decoding as a power of two. xz's strongest preset needs 65 MiB, zstd's 128 MiB.
pub const MEMORY: u32 = 29;

/// Returns a decoder for a stream that starts with `start`, or the stream itself if it is not
/// compressed.
pub(super) fn decoder<'a, R: BufRead + 'a>(
    start: &[u8],
    reader: R,
    path: &Path,
) -> Result<std::result::Result<Frames<'a>, R>> {
    let program = decompressor(start).or(is_skippable(start).then_some("zstd"));
    let format = match program {
        Some("gzip") => Format::Gzip,
        Some("zstd") => Format::Zstd,
        Some("xz") => Format::Xz,
        Some(program) => {
            let why = "is compressed in a way that only";
            let why = format!("{why} {program} knows; decompress it first with {program} -dc");
            return Err(Error::refused(path, why));
        }
        None => return Ok(Err(reader)),
    };
    let frames = Frames::new(format, Box::new(reader));
    frames
        .map(Ok)
        .map_err(|error| Error::io(path, "decompress it", error))
}

/// Formats of a stream.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Plain,
    Gzip,
    Zstd,
    Xz,
}

/// Decompresses consecutive frames. Ignores zeros after a frame, as gzip(1) does.
pub(super) struct Frames<'a> {
    format: Format,
    /// `None` at the end.
    frame: Option<Frame<'a>>,
    /// Offset of the frame in the compressed data.
    start: u64,
    /// Whether the frame has produced bytes.
    gave: bool,
    /// Bytes to read again.
    pub ahead: Vec<u8>,
    /// Number of bytes after the last frame, and why they are not another frame.
    pub garbage: Option<(u64, io::Error)>,
    /// SHA-256 and number of the decompressed bytes, if wanted.
    pub told: Option<&'a RefCell<Uncompressed>>,
}

/// SHA-256 and number of uncompressed or decompressed bytes.
#[derive(Default)]
pub(super) struct Uncompressed {
    pub sha256: Sha256,
    pub size: u64,
}

impl Write for Uncompressed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Frames<'a> {
    pub fn new(format: Format, reader: Box<dyn BufRead + 'a>) -> io::Result<Self> {
        Ok(Frames {
            format,
            frame: Some(Frame::new(format, Counted { reader, at: 0 })?),
            start: 0,
            gave: false,
            ahead: Vec::new(),
            garbage: None,
            told: None,
        })
    }

    /// Returns a program that decompresses the frames, if they are compressed.
    pub fn program(&self) -> Option<&'static str> {
        match self.format {
            Format::Plain => None,
            Format::Gzip => Some("gzip"),
            Format::Zstd => Some("zstd"),
            Format::Xz => Some("xz"),
        }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let length = self.ahead.as_slice().read(into)?;
            self.ahead.drain(..length);
            return Ok(length);
        }
        while let Some(mut frame) = self.frame.take() {
            match frame.reader().read(into) {
                Ok(0) if !into.is_empty() => {
                    let mut rest = frame.into_rest();
                    let next = loop {
                        match rest.fill_buf().map(|bytes| bytes.first().copied()) {
                            Ok(Some(0)) => rest.consume(1),
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                            next => break next?,
                        }
                    };
                    if next.is_some() {
                        (self.start, self.gave) = (rest.at, false);
                        self.frame = Some(Frame::new(self.format, rest)?);
                    }
                }
                // The error is the decoder's, not the system's.
                Err(error) if self.start > 0 && !self.gave && error.raw_os_error().is_none() => {
                    let mut rest = frame.into_rest();
                    io::copy(&mut rest, &mut io::sink())?;
                    self.garbage = Some((rest.at - self.start, error));
                }
                result => {
                    self.gave |= result.is_ok();
                    self.frame = Some(frame);
                    if let (Ok(length), Some(told)) = (&result, self.told) {
                        told.borrow_mut().write_all(&into[..*length])?;
                    }
                    return result;
                }
            }
        }
        Ok(0)
    }
}

/// A decoder of one frame.
enum Frame<'a> {
    Plain(Counted<'a>),
    Gzip(GzDecoder<Counted<'a>>),
    Zstd(zstd::stream::read::Decoder<'static, Counted<'a>>),
    Xz(XzDecoder<Counted<'a>>),
}

impl<'a> Frame<'a> {
    fn new(format: Format, reader: Counted<'a>) -> io::Result<Self> {
        Ok(match format {
            Format::Plain => Frame::Plain(reader),
            Format::Gzip => Frame::Gzip(GzDecoder::new(reader)),
            Format::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                let mut decoder = decoder.single_frame();
                decoder.window_log_max(MEMORY)?;
                Frame::Zstd(decoder)
            }
            Format::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(1 << MEMORY, 0)?;
                Frame::Xz(XzDecoder::new_stream(reader, stream))
            }
        })
    }

    fn reader(&mut self) -> &mut dyn Read {
        match self {
            Frame::Plain(reader) => reader,
            Frame::Gzip(decoder) => decoder,
            Frame::Zstd(decoder) => decoder,
            Frame::Xz(decoder) => decoder,
        }
    }

    /// Returns the bytes after the frame.
    fn into_rest(self) -> Counted<'a> {
        match self {
            Frame::Plain(reader) => reader,
            Frame::Gzip(decoder) => decoder.into_inner(),
            Frame::Zstd(decoder) => decoder.finish(),
            Frame::Xz(decoder) => decoder.into_inner(),
        }
    }
}

struct Counted<'a> {
    reader: Box<dyn BufRead + 'a>,
    at: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(into)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.reader.consume(length);
        self.at += length as u64;
    }
}

/// Returns true if a stream starts with a skippable frame of zstd.
fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18]
}
