// SPDX-License-Identifier: GPL-2.0

//! The SHA-256 of an image.

use crate::image::{self, layout};
use crate::memory::{stream, Storage};
use crate::Progress;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::mem::{offset_of, size_of};

/// Bytes that are read together.
const BUFFER: usize = 256 << 10;

/// The SHA-256 of the `size` bytes of an image in `memory`, taken with the digest and the checksum in its
/// superblock zero.
///
/// # Errors
///
/// [`image::Problem::Unreadable`].
pub fn digest<S: Storage>(
    memory: &S,
    size: u64,
    progress: &dyn Progress,
) -> image::Result<[u8; 32]> {
    const RECORD: usize = size_of::<layout::Superblock>();
    let mut record = [0; RECORD];
    memory.read(0, &mut record)?;
    record[offset_of!(layout::Superblock, sha256)..].fill(0);
    let mut hash = Sha256::new();
    hash.update(record);
    let mut buffer = vec![0; BUFFER];
    let start = RECORD as u64;
    stream(memory, start, size - start, &mut buffer, |_, piece| {
        hash.update(piece);
        progress.advance(piece.len() as u64);
    })?;
    Ok(hash.finalize().into())
}

/// `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
