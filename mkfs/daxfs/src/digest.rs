// SPDX-License-Identifier: GPL-2.0

//! The SHA-256 of an image, and on the same way the fingerprints of what it holds.

use crate::content::Fingerprint;
use crate::image::{self, layout};
use crate::memory::{Storage, ZEROS};
use crate::plan::DataExtent;
use crate::Progress;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender};
use std::thread;
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are read together.
const BUFFER: usize = 256 << 10;

/// Buffers between the thread that reads and the one that takes the SHA-256.
const BUFFERS: usize = 4;

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
    pass(memory, size, &[], progress).map(|(digest, _)| digest)
}

/// The same, and the fingerprint of each of the `extents`, which ascend and do not overlap.
///
/// # Errors
///
/// As [`digest`].
pub fn pass<S: Storage>(
    memory: &S,
    size: u64,
    extents: &[DataExtent],
    progress: &dyn Progress,
) -> image::Result<([u8; 32], Vec<Fingerprint>)> {
    const RECORD: usize = size_of::<layout::Superblock>();
    let mut record = vec![0; RECORD];
    memory.read(0, &mut record)?;
    record[offset_of!(layout::Superblock, sha256)..].fill(0);
    let mut fingerprints = Fingerprints {
        extents,
        found: Vec::with_capacity(extents.len()),
        hash: Xxh3::new(),
    };
    // SHA-256 takes longer than all else together, so it has a thread for itself.
    let (pieces, to_hash) = sync_channel(BUFFERS);
    let (used, unused) = channel();
    let digest = thread::scope(|scope| {
        let hasher = scope.spawn(move || sha256(&to_hash, &used));
        // That thread ends when there is no more to come, and not before.
        let _ = pieces.send(Piece::Data(record));
        let mut at = RECORD as u64;
        let (mut hole, mut until, mut buffers) = (false, at, 1);
        while at < size {
            if at == until {
                (hole, until) = memory.hole(at)?;
                until = until.min(size);
            }
            let (piece, length) = if hole {
                let length = (until - at).min(ZEROS.len() as u64);
                fingerprints.feed(at, &ZEROS[..length as usize]);
                (Piece::Zeros(length as usize), length)
            } else {
                let length = (until - at).min(BUFFER as u64);
                let mut buffer = if buffers < BUFFERS {
                    buffers += 1;
                    Vec::new()
                } else {
                    unused.recv().unwrap_or_default()
                };
                buffer.resize(length as usize, 0);
                memory.read(at, &mut buffer)?;
                fingerprints.feed(at, &buffer);
                (Piece::Data(buffer), length)
            };
            let _ = pieces.send(piece);
            at += length;
            progress.advance(length);
        }
        drop(pieces);
        match hasher.join() {
            Ok(digest) => Ok(digest),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok((digest, fingerprints.found))
}

/// What there is to hash.
enum Piece {
    Data(Vec<u8>),
    /// So many zeros, no more than [`ZEROS`] has.
    Zeros(usize),
}

/// The SHA-256 of all `pieces`, whose buffers go back to where they are `used` again.
fn sha256(pieces: &Receiver<Piece>, used: &Sender<Vec<u8>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for piece in pieces {
        match piece {
            Piece::Data(bytes) => {
                hash.update(&bytes);
                // Nobody may want it any more.
                let _ = used.send(bytes);
            }
            Piece::Zeros(length) => hash.update(&ZEROS[..length]),
        }
    }
    hash.finalize().into()
}

/// Takes the fingerprints of extents while the bytes of the image go by.
struct Fingerprints<'a> {
    extents: &'a [DataExtent],
    /// Those of the extents that have gone by.
    found: Vec<Fingerprint>,
    /// What there was of the next one.
    hash: Xxh3,
}

impl Fingerprints<'_> {
    fn feed(&mut self, offset: u64, piece: &[u8]) {
        let end = offset + piece.len() as u64;
        while let Some(extent) = self.extents.get(self.found.len()) {
            if extent.offset >= end {
                return;
            }
            let from = extent.offset.max(offset) - offset;
            let to = (extent.offset + extent.size).min(end) - offset;
            self.hash.update(&piece[from as usize..to as usize]);
            if extent.offset + extent.size > end {
                return;
            }
            self.found.push(self.hash.digest128());
            self.hash.reset();
        }
    }
}

/// `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
