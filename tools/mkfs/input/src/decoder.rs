// SPDX-License-Identifier: GPL-2.0-only

//! Decompression of archives.

use daxfs_writer::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use std::io::{BufRead, Read};
use std::path::Path;

/// Bytes that are read together.
pub const BUFFER: usize = 256 << 10;

/// Memory limit of decoding xz; the strongest preset takes 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;

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
        Box::new(MultiGzDecoder::new(reader))
    } else if is(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(failed)?)
    } else if is(b"\xfd7zXZ\0") {
        let stream =
            liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
        let stream = stream.map_err(|error| failed(error.into()))?;
        Box::new(XzDecoder::new_stream(reader, stream))
    } else if let Some((_, program)) = OTHERS.iter().find(|(magic, _)| is(magic)) {
        let why = format!(
            "is compressed in a way that only {program} knows; use {program} -dc FILE | mkdaxfs - IMAGE"
        );
        return Err(Error::refused(path, why));
    } else {
        return Ok(Err(reader));
    }))
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
