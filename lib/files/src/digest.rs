// SPDX-License-Identifier: GPL-2.0-only

//! The SHA-256 of an image, and parallel work on the pieces of an image.

use crate::memory::Storage;
use crate::Progress;
use daxfs_reader::layout::{self, DIGEST_PIECE};
use daxfs_reader::{self as image, Image};
use rayon::iter::{ParallelBridge, ParallelIterator};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes to read at a time.
pub const BUFFER: usize = 256 << 10;

/// A hash that is not cryptographic: XXH3, 128 bits.
pub type Fingerprint = u128;

/// Hashes of a piece of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// SHA-256.
    pub digest: [u8; 32],
    /// Cheaper hash of the same bytes.
    pub fingerprint: Fingerprint,
}

impl Sum {
    /// Returns the sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Sum {
            digest: Sha256::digest(bytes).into(),
            fingerprint: xxh3_128(bytes),
        }
    }

    /// Returns the sum of a whole piece of zeros. Large sparse files have many of these.
    pub fn zeros() -> Self {
        static ZEROS: OnceLock<Sum> = OnceLock::new();
        *ZEROS.get_or_init(|| Sum::of(&vec![0; DIGEST_PIECE as usize]))
    }
}

/// Combines the SHA-256 of an image's pieces into that of the image.
pub fn combine(pieces: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    pieces.into_iter().for_each(|piece| hash.update(piece));
    hash.finalize().into()
}

/// Returns the SHA-256 of the bytes that `pass` feeds to its argument.
pub fn sha256<E>(pass: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>) -> Result<[u8; 32], E> {
    let mut hash = Sha256::new();
    pass(&mut |bytes| hash.update(bytes))?;
    Ok(hash.finalize().into())
}

/// Returns the SHA-256 of each piece of `image`.
pub fn sums<S: Storage + Sync>(
    image: &Image<'_, S>,
    progress: &dyn Progress,
) -> image::Result<Vec<[u8; 32]>> {
    let size = image.superblock().total_size;
    let buffer = || vec![0; BUFFER];
    in_order(0..image.superblock().pieces(), buffer, |buffer, index| {
        let piece = layout::piece(index, size);
        let length = piece.end - piece.start;
        let digest = if index > 0 && is_hole(image.memory(), &piece)? {
            Sum::zeros().digest
        } else {
            sha256(|add| {
                image.piece(index, buffer, |bytes| -> image::Result<()> {
                    add(bytes);
                    Ok(())
                })
            })?
        };
        progress.advance(length);
        Ok(digest)
    })
}

/// Returns the first piece of `image` whose stored sum differs from `sums`, and that stored sum.
///
/// Returns [`image::Problem::Unreadable`], even if the stored sums are outside the memory.
pub fn wrong_sum<S: Storage>(
    image: &Image<'_, S>,
    sums: &[[u8; 32]],
) -> image::Result<Option<(u64, [u8; 32])>> {
    let Some(table) = image.superblock().sums() else {
        return Ok(None);
    };
    for (index, sum) in (0..).zip(sums) {
        let mut stored = [0; 32];
        let offset = table.offset.saturating_add(index * layout::SUM_SIZE);
        image.memory().read(offset, &mut stored)?;
        if stored != *sum {
            return Ok(Some((index, stored)));
        }
    }
    Ok(None)
}

/// Returns true if `piece` is of full size and in a hole.
pub fn is_hole<S: Storage>(memory: &S, piece: &Range<u64>) -> image::Result<bool> {
    Ok(piece.end - piece.start == DIGEST_PIECE && memory.data(piece.start)? >= piece.end)
}

/// Runs `work` for every index in `range` on all processors, each with its own `state`. Starts with
/// the lowest index, so that files are read and written from start to end.
///
/// Returns the error of the lowest index that failed.
pub fn in_order<S, T: Send, E: Send>(
    range: Range<u64>,
    state: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, u64) -> Result<T, E> + Send + Sync,
) -> Result<Vec<T>, E> {
    let failed = AtomicBool::new(false);
    let work = |state: &mut S, index| {
        let result = work(state, index);
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        (index, result)
    };
    // After an error, the other threads can stop.
    let range = range.take_while(|_| !failed.load(Ordering::Relaxed));
    let mut done: Vec<_> = range.par_bridge().map_init(state, work).collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Formats `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Returns true if `text` is `bytes` bytes as [`hex`] formats them, in lower case.
pub fn is_hex(text: &str, bytes: usize) -> bool {
    let digit = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 2 * bytes && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_order_and_the_first_error_counts() {
        let all = in_order(3..1000, || (), |(), index| Ok::<_, u64>(index * 2)).unwrap();
        assert!(all.into_iter().eq((3..1000).map(|index| index * 2)));
        let work = |(): &mut (), index| if index % 7 == 6 { Err(index) } else { Ok(()) };
        assert_eq!(in_order(0..1000, || (), work), Err(6));
        assert_eq!(in_order(5..5, || (), work), Ok(vec![]));
    }
}
