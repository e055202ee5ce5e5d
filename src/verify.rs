// SPDX-License-Identifier: GPL-2.0-only

//! Comparing an image with a trusted SHA-256: all of it, or each piece before its first use.

use crate::image::{self, layout, Image, Memory, Problem, Table};
use crate::linux::fs::{refusal, Refusal};
use crate::linux::{load_acquire, Errno, Sha256};
use crate::memory::Region;
use crate::usage::{Event, Usage};
use core::ops::Range;
use kernel::sync::atomic::{Atomic, Relaxed, Release};
use kernel::{cpu::nr_cpu_ids, new_mutex, page::PAGE_SIZE, prelude::*, sync::Mutex};

/// Largest number of pieces that can be verified at the same time.
const LANES_MAX: usize = 64;

/// The number of bad pieces of a mount that are logged one by one.
const BAD_LOGGED: usize = 16;

/// A piece that was not looked at.
const UNKNOWN: i8 = 0;
/// A piece that matches its SHA-256.
const VERIFIED: i8 = 1;
/// A piece that does not match. It stays bad, whatever the memory holds later.
const BAD: i8 = 2;
/// A piece whose memory failed while it was read.
const UNREADABLE: i8 = 3;

/// Returns an error if a signal is pending.
pub(crate) fn check_signal() -> Result<(), Refusal> {
    if kernel::current!().signal_pending() {
        Err(EINTR.into())
    } else {
        Ok(())
    }
}

/// Returns the SHA-256 of piece `index` of `image`. Call `check` between its parts, which have the
/// size of `buffer`.
fn sum<E: From<image::Error>>(
    image: &Image<'_, Region>,
    index: u64,
    buffer: &mut [u8],
    check: impl Fn() -> Result<(), E>,
) -> Result<[u8; 32], E> {
    let mut hash = Sha256::new();
    image.piece(index, buffer, |bytes| {
        hash.update(bytes);
        check()
    })?;
    Ok(hash.finish())
}

/// Returns an error unless the SHA-256 `found` is the `expected` one.
pub(crate) fn compare(found: &[u8; 32], expected: &[u8; 32]) -> Result<(), Refusal> {
    if found == expected {
        return Ok(());
    }
    let start = found
        .first_chunk()
        .map_or(0, |start| u64::from_be_bytes(*start));
    Err(image::Error::new(Problem::Digest, 0, start).into())
}

/// Compares the SHA-256 of the whole image with the one in its superblock.
pub(crate) fn whole(image: &Image<'_, Region>, buffer: &mut [u8]) -> Result<(), Refusal> {
    let mut whole = Sha256::new();
    for index in 0..image.superblock().pieces() {
        whole.update(&sum(image, index, buffer, check_signal)?);
    }
    compare(&whole.finish(), &image.superblock().sha256)
}

/// The pieces of an image, which are verified before their first use.
pub(crate) struct Pieces {
    /// SHA-256 of all pieces. Their own SHA-256 is the superblock's. This copy is private.
    sums: VVec<u8>,
    /// The state of each piece.
    states: KVVec<Atomic<i8>>,
    /// The number of pieces that were found bad.
    bad_count: Atomic<usize>,
    /// Each has a buffer, and is locked while a piece is verified: that with its number, modulo
    /// their number, a power of two. Only the memory of the image is read under it.
    lanes: KVec<Pin<KBox<Mutex<KVec<u8>>>>>,
}

impl Pieces {
    /// Loads the table of sums of `image`, compare it with the SHA-256 in the superblock, and
    /// verify the pieces that hold metadata.
    pub(crate) fn new(image: &Image<'_, Region>) -> Result<Self, Refusal> {
        let superblock = image.superblock();
        let table = superblock.sums().ok_or_else(|| {
            refusal!(
                Errno::NotSupported,
                "verify=lazy needs an image with the sums of its pieces"
            )
            .remedy("use mkdaxfs --sums, or verify=full")
        })?;
        // Two for each possible processor: threads that use different pieces seldom wait for each
        // other.
        let count = (2 * nr_cpu_ids() as usize)
            .next_power_of_two()
            .min(LANES_MAX);
        let mut lanes = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let buffer = KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?;
            let lane = KBox::pin_init(new_mutex!(buffer, "daxfs_piece"), GFP_KERNEL);
            lanes.push(lane.map_err(|_| ENOMEM)?, GFP_KERNEL)?;
        }
        let sums = load(image, &table)?;
        let mut states = KVVec::with_capacity(superblock.pieces() as usize, GFP_KERNEL)?;
        for _ in 0..superblock.pieces() {
            states.push(Atomic::new(UNKNOWN), GFP_KERNEL)?;
        }
        let pieces = Pieces {
            sums,
            states,
            bad_count: Atomic::new(0),
            lanes,
        };
        pieces.verify_metadata(image)?;
        Ok(pieces)
    }

    /// Compares the pieces that hold metadata with their SHA-256.
    pub(crate) fn verify_metadata(&self, image: &Image<'_, Region>) -> Result<(), Refusal> {
        let metadata = layout::pieces(image.superblock().data.offset);
        for index in 0..metadata {
            let mut buffer = self.lane(index)?.lock();
            if !self.matches(index, &sum(image, index, &mut buffer, check_signal)?) {
                return Err(bad(index).into());
            }
            self.set(index, VERIFIED);
        }
        Ok(())
    }

    /// Returns what is known of piece `index`. If it is verified, earlier writes are visible.
    #[inline]
    fn state(&self, index: u64) -> i8 {
        let state = self.states.get(index as usize);
        state.map_or(UNKNOWN, load_acquire)
    }

    /// Takes note of what is known of piece `index`.
    fn set(&self, index: u64, known: i8) {
        if let Some(state) = self.states.get(index as usize) {
            state.store(known, Release);
        }
    }

    fn lane(&self, index: u64) -> image::Result<&Mutex<KVec<u8>>> {
        let lane = index as usize & self.lanes.len().wrapping_sub(1);
        let lane = self.lanes.get(lane).ok_or(bad(index))?;
        Ok(lane)
    }

    /// Returns true if the table has this SHA-256 for piece `index`.
    fn matches(&self, index: u64, sum: &[u8; 32]) -> bool {
        let mut sums = self.sums.chunks_exact(sum.len());
        sums.nth(index as usize) == Some(sum)
    }

    /// Returns an error if piece `index` was found bad or unreadable.
    pub(crate) fn refused(&self, index: u64) -> image::Result<()> {
        let offset = index.saturating_mul(layout::DIGEST_PIECE);
        match self.state(index) {
            UNREADABLE => Err(image::Error::new(Problem::Unreadable, offset, 0)),
            BAD => Err(bad(index)),
            _ => Ok(()),
        }
    }

    /// Returns true if all pieces that hold `length` bytes at `offset` are verified.
    #[inline]
    pub(crate) fn are_verified(&self, offset: u64, length: u64) -> bool {
        let first = offset / layout::DIGEST_PIECE;
        let end = offset.saturating_add(length).div_ceil(layout::DIGEST_PIECE);
        (first..end).all(|index| self.state(index) == VERIFIED)
    }

    /// Verifies piece `index`, unless it is verified or refused already. This waits for other
    /// threads that verify a piece, and for nothing else. Count the result in `usage`.
    ///
    /// Log a bad piece when it is found, which happens once. Other errors cannot suppress that
    /// line, and only the first bad pieces are logged: an ordinary user chooses the reads.
    ///
    /// # Errors
    ///
    /// [`Problem::Piece`] if it does not match its SHA-256, [`Problem::Unreadable`].
    pub(crate) fn verify(
        &self,
        image: &Image<'_, Region>,
        index: u64,
        usage: &Usage,
    ) -> image::Result<()> {
        let mut buffer = self.lane(index)?.lock();
        // Another thread may have done it.
        if self.state(index) == VERIFIED {
            return Ok(());
        }
        self.refused(index)?;
        let found = sum(image, index, &mut buffer, || image::Result::Ok(()))
            .inspect_err(|_| self.set(index, UNREADABLE))?;
        if self.matches(index, &found) {
            self.set(index, VERIFIED);
            usage.count(Event::VerifiedPiece);
            return Ok(());
        }
        self.set(index, BAD);
        usage.count(Event::BadPiece);
        let others = self.bad_count.fetch_add(1, Relaxed);
        let source = usage.source();
        if others < BAD_LOGGED {
            let Range { start, end } = layout::piece(index, image.superblock().total_size);
            pr_err!("{source}: the piece from {start} to {end} does not match its SHA-256\n");
        }
        if others + 1 == BAD_LOGGED {
            pr_err!("{source}: further pieces that do not match are only counted, in pieces_bad\n");
        }
        Err(bad(index))
    }
}

/// Returns the error for a piece that does not match its SHA-256.
fn bad(index: u64) -> image::Error {
    let offset = index.saturating_mul(layout::DIGEST_PIECE);
    image::Error::new(Problem::Piece, offset, index)
}

/// Loads the table of sums, and compares its SHA-256 with the one in the superblock. It needs a
/// fraction of the image's memory, which the region holds.
fn load(image: &Image<'_, Region>, table: &Table) -> Result<VVec<u8>, Refusal> {
    if table.end() > image.memory().size() {
        return Err(image::Error::new(Problem::Truncated, table.offset, table.end()).into());
    }
    // KVVec would round the size up to a power of two, and the kernel may clear all of that.
    let mut sums = VVec::from_elem(0, table.length as usize, GFP_KERNEL)?;
    let mut hash = Sha256::new();
    let places = (table.offset..table.end()).step_by(PAGE_SIZE);
    for (offset, part) in places.zip(sums.chunks_mut(PAGE_SIZE)) {
        image.memory().read(offset, part)?;
        hash.update(part);
        check_signal()?;
    }
    if hash.finish() == image.superblock().sha256 {
        Ok(sums)
    } else {
        Err(image::Error::new(Problem::Sums, table.offset, table.length).into())
    }
}
