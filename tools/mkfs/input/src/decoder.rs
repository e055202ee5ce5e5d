// SPDX-License-Identifier: GPL-2.0-only

//! Decompression of archives.

use daxfs_writer::{Error, Result};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Bytes that are read together.
pub const BUFFER: usize = 256 << 10;

/// Memory limit of decoding, as a power of two; the strongest preset of xz takes 65 MiB, zstd's 128 MiB.
pub const MEMORY: u32 = 29;

/// Return a decoder for a stream that starts with `start`, or the stream itself if it is not
/// compressed.
pub(super) fn decoder<'a, R: BufRead + 'a>(
    start: &[u8],
    reader: R,
    path: &Path,
) -> Result<std::result::Result<Box<dyn Read + 'a>, R>> {
    let is = |magic: &[u8]| start.starts_with(magic);
    let failed = |error| Error::io(path, "decompress it", error);
    Ok(Ok(if is(&[0x1f, 0x8b]) {
        Box::new(Gzip(GzDecoder::new(Box::new(reader))))
    } else if is(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(failed)?;
        decoder.window_log_max(MEMORY).map_err(failed)?;
        Box::new(decoder)
    } else if is(b"\xfd7zXZ\0") {
        let stream =
            liblzma::stream::Stream::new_stream_decoder(1 << MEMORY, liblzma::stream::CONCATENATED);
        let stream = stream.map_err(|error| failed(error.into()))?;
        Box::new(XzDecoder::new_stream(reader, stream))
    } else if let Some((_, program)) = OTHERS.iter().find(|(magic, _)| is(magic)) {
        let why = "is compressed in a way that only";
        let why = format!("{why} {program} knows; decompress it first with {program} -dc");
        return Err(Error::refused(path, why));
    } else {
        return Ok(Err(reader));
    }))
}

/// Decompresses the members of a gzip file. Zeros after a member are ignored, as gzip(1) does.
struct Gzip<'a>(GzDecoder<Box<dyn BufRead + 'a>>);

impl Read for Gzip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.0.read(into)?;
            if length > 0 || into.is_empty() {
                return Ok(length);
            }
            let rest = self.0.get_mut();
            match rest.fill_buf()? {
                [] => return Ok(0),
                [0, ..] => rest.consume(1),
                _ => {
                    let rest = std::mem::replace(rest, Box::new(io::empty()));
                    self.0.reset(rest);
                }
            }
        }
    }
}

/// Return true if a stream starts with a frame that zstd skips.
fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18]
}

/// Magic numbers of other compression formats.
const OTHERS: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (b"LZIP", "lzip"),
    (&[0x1f, 0x9d], "uncompress"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
];
