// SPDX-License-Identifier: GPL-2.0-only

//! Compares an image with a trusted SHA-256: all of it, or each piece before its first use.

use crate::image::{
    Memory,
    Table, //
};
use crate::linux::{
    check_signal,
    sha256::Sha256, //
};
use crate::memory::buffer;
use crate::prelude::*;
use crate::signature::{
    self,
    Keyring, //
};
use kernel::cpu::nr_cpu_ids;

/// Largest number of pieces that can be verified at the same time.
const LANES_MAX: usize = 64;

/// A piece that has not been checked.
const UNKNOWN: i8 = 0;
/// A piece that matches its SHA-256.
const VERIFIED: i8 = 1;
/// A piece that does not match. It stays bad even if the memory changes later.
const BAD: i8 = 2;
/// A piece of memory that failed while it was read.
const UNREADABLE: i8 = 3;

/// The options that must prove the content of an image: `digest=`, `signature=` and `verify=`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Proof {
    /// The SHA-256 that the whole image must have.
    digest: Option<[u8; 32]>,
    /// The image must have a signature that the kernel trusts, and the SHA-256 that it signs.
    signature: bool,
    /// When to compare the image with the digest. The default is at mount.
    verify: Option<Verify>,
}

/// When to compare an image with its digest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verify {
    /// All of it at mount.
    Full,
    /// The metadata at mount, each piece of data before its first use.
    Lazy,
}

impl Proof {
    /// Demands a `signature` or nothing.
    pub(crate) fn demanding(signature: bool) -> Self {
        Proof {
            signature,
            ..Self::default()
        }
    }

    /// Parses the option `key`. If `text` is invalid, returns the accepted values.
    pub(crate) fn parse(&mut self, key: &[u8], text: &[u8]) -> Result<(), &'static str> {
        match (key, text) {
            (b"digest", _) => {
                let what = "the 64 hexadecimal digits of a SHA-256";
                self.digest = Some(parse_digest(text).ok_or(what)?);
            }
            (b"signature", b"required") => self.signature = true,
            (b"signature", _) => return Err("'required'"),
            (_, b"full") => self.verify = Some(Verify::Full),
            (_, b"lazy") => self.verify = Some(Verify::Lazy),
            _ => return Err("'full' or 'lazy'"),
        }
        Ok(())
    }

    /// Refuses options without effect.
    ///
    /// Errors: `EINVAL` if there is nothing to verify.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        if self.verify.is_some() && !self.has_digest() {
            refuse!(EINVAL => "verify= needs digest= or signature=required");
        }
        Ok(())
    }

    /// Returns true if the image is compared with a SHA-256: `digest=`, or the one that is signed.
    pub(crate) fn has_digest(&self) -> bool {
        self.digest.is_some() || self.signature
    }

    /// Returns true if the image is compared with a SHA-256 in this way.
    fn compares(&self, verify: Verify) -> bool {
        self.has_digest() && self.verify.unwrap_or(Verify::Full) == verify
    }

    /// Verifies the signature of `image`, the image's SHA-256, and `digest=`, as far as the options
    /// demand.
    ///
    /// Errors: Those of [`signature::verify`]; `EBADMSG` if it has another SHA-256, `EIO` if it
    /// cannot be read, `EINTR`, `ENOMEM`.
    pub(crate) fn prove(
        &self,
        image: &Image<'_, impl Memory>,
        keyring: &Keyring,
    ) -> Result<(), Refusal> {
        if self.signature {
            signature::verify(image, keyring)?;
        }
        if self.compares(Verify::Full) {
            whole(image)?;
        }
        self.compare(image.superblock())
    }

    /// Returns the pieces of `image`, if each is to be verified before its first use, and verifies
    /// those that hold metadata.
    pub(crate) fn pieces(&self, image: &Image<'_, impl Memory>) -> Result<Option<Pieces>, Refusal> {
        if !self.compares(Verify::Lazy) {
            return Ok(None);
        }
        let pieces = Pieces::new(image)?;
        pieces.verify_metadata(image)?;
        Ok(Some(pieces))
    }

    /// Compares `digest=`, if given, with this copy of the superblock, which the mount uses.
    fn compare(&self, superblock: &image::Superblock) -> Result<(), Refusal> {
        match &self.digest {
            Some(expected) => compare(&superblock.sha256, expected),
            None => Ok(()),
        }
    }

    /// Checks that the `first` mount, with these `pieces`, has proved what can be proved only then.
    ///
    /// Errors: `EBUSY` if not.
    fn needs(&self, first: &Proof, pieces: Option<&Pieces>) -> Result<(), Refusal> {
        // Caches already contain inodes, names and copies of pages.
        if self.has_digest() && !first.has_digest() {
            return Err(mounted_already("without digest= or signature=required"));
        }
        if self.compares(Verify::Lazy) && pieces.is_none() {
            return Err(mounted_already("without verify=lazy")
                .remedy("unmount it everywhere first, or use verify=full"));
        }
        Ok(())
    }

    /// Checks that the `first` mount, with these `pieces`, has proved everything a remount demands.
    ///
    /// Errors: `EBUSY` if not, `EBADMSG` if the image has another SHA-256.
    pub(crate) fn remounted(
        &self,
        first: &Proof,
        pieces: Option<&Pieces>,
        superblock: &image::Superblock,
    ) -> Result<(), Refusal> {
        self.needs(first, pieces)?;
        if self.signature && !first.signature {
            return Err(mounted_already("without signature=required"));
        }
        if self.verify == Some(Verify::Full) && pieces.is_some() {
            return Err(mounted_already("with verify=lazy"));
        }
        self.compare(superblock)
    }

    /// Verifies what another mount of `image` uses immediately. The `first` mount has verified
    /// these `pieces`.
    ///
    /// Errors: `EBUSY` if the first mount has not proved enough, `EBADMSG`, `EIO`, `EINTR`.
    pub(crate) fn again(
        &self,
        first: &Proof,
        pieces: Option<&Pieces>,
        image: &Image<'_, impl Memory>,
    ) -> Result<(), Refusal> {
        self.needs(first, pieces)?;
        match pieces {
            Some(pieces) if self.compares(Verify::Lazy) => pieces.verify_metadata(image),
            _ => Ok(()),
        }
    }

    /// Shows this as mount options.
    pub(crate) fn show(&self, seq: &SeqFile, superblock: &image::Superblock, is_lazy: bool) {
        if self.has_digest() {
            kernel::seq_print!(seq, ",digest={}", Hex(&superblock.sha256));
        }
        if is_lazy {
            kernel::seq_print!(seq, ",verify=lazy");
        }
        if self.signature {
            kernel::seq_print!(seq, ",signature=required");
        }
    }
}

/// Parses 64 hexadecimal digits.
pub(crate) fn parse_digest(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(digest)
}

/// Refuses a mount or a remount that demands more than the first mount.
fn mounted_already(how: &str) -> Refusal {
    refusal!(EBUSY => "mounted already {how}";
        "unmount it, and images that use it as a pack, everywhere first")
}

/// Gives up if a signal is pending.
fn signal() -> Result<(), Refusal> {
    check_signal().map_err(Into::into)
}

/// Returns the SHA-256 of piece `index` of `image`. Calls `check` between its parts, which have the
/// size of `buffer`.
fn sum<E: From<image::Error>>(
    image: &Image<'_, impl Memory>,
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
fn compare(found: &[u8; 32], expected: &[u8; 32]) -> Result<(), Refusal> {
    if found == expected {
        return Ok(());
    }
    let start = found
        .first_chunk()
        .map_or(0, |start| u64::from_be_bytes(*start));
    Err(image::Error::new(Problem::Digest, 0, start).into())
}

/// Compares the SHA-256 of the whole image with the one in its superblock.
fn whole(image: &Image<'_, impl Memory>) -> Result<(), Refusal> {
    let mut buffer = buffer(u64::MAX)?;
    let buffer = buffer.as_flattened_mut();
    let mut whole = Sha256::new();
    for index in 0..image.superblock().pieces() {
        whole.update(&sum(image, index, buffer, signal)?);
    }
    compare(&whole.finish(), &image.superblock().sha256)
}

/// Locks, each with a buffer. A thread holds one while it verifies a piece. The piece's number
/// selects the lock, so threads seldom wait for each other. Root's mounts share two locks per
/// possible processor. Each mount of an ordinary user has its own, so nobody else waits for it.
///
/// Under such a lock, only read the memory of the image.
pub(crate) struct Lanes(KVec<Pin<KBox<Mutex<KVec<u8>>>>>);

impl Lanes {
    pub(crate) fn new() -> Result<Self> {
        Self::of_count((2 * nr_cpu_ids() as usize).next_power_of_two())
    }

    /// Creates `count` locks, a power of two, up to a limit.
    pub(crate) fn of_count(count: usize) -> Result<Self> {
        let count = count.min(LANES_MAX);
        let mut lanes = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            let buffer = KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL_ACCOUNT)?;
            let lane = KBox::pin_init(new_mutex!(buffer, "daxfs_piece"), GFP_KERNEL_ACCOUNT);
            lanes.push(lane.map_err(|_| ENOMEM)?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Lanes(lanes))
    }

    /// Returns the lock for piece `index` of `pieces`.
    fn of(&self, pieces: &Pieces, index: u64) -> image::Result<&Mutex<KVec<u8>>> {
        let number = pieces.sums.as_ptr() as usize / 64 + index as usize;
        let lane = self.0.get(number & self.0.len().wrapping_sub(1));
        lane.map(|lane| &**lane).ok_or(bad(index))
    }
}

/// The pieces of an image or a pack, which are verified before their first use.
pub(crate) struct Pieces {
    /// SHA-256 of all pieces. Their own SHA-256 is the superblock's. This copy is private.
    sums: KVVec<u8>,
    /// The state of each piece.
    states: KVVec<Atomic<i8>>,
    /// The number of pieces that were found bad.
    bad_count: Atomic<usize>,
}

impl Pieces {
    /// Loads the table of sums of `image`, and compares it with the SHA-256 in the superblock.
    ///
    /// Errors: `EOPNOTSUPP` if there is no table, `EBADMSG` if it is another one, `EIO`, `EINTR`,
    /// `ENOMEM`.
    pub(crate) fn new(image: &Image<'_, impl Memory>) -> Result<Self, Refusal> {
        let superblock = image.superblock();
        let table = superblock.sums().ok_or_else(|| {
            refusal!(Errno::NotSupported =>
                "packs, and images with verify=lazy, need the sums of their pieces";
                "use mkdaxfs --sums")
        })?;
        let sums = load(image, &table)?;
        let mut states = KVVec::with_capacity(superblock.pieces() as usize, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..superblock.pieces() {
            states.push(Atomic::new(UNKNOWN), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Pieces {
            sums,
            states,
            bad_count: Atomic::new(0),
        })
    }

    /// Returns the number of pieces that were verified, and of those that were found bad.
    pub(crate) fn count(&self) -> (usize, usize) {
        let states = self.states.iter();
        let verified = states.filter(|state| state.load(Relaxed) == VERIFIED);
        (verified.count(), self.bad_count.load(Relaxed))
    }

    /// Compares the pieces that hold metadata with their SHA-256.
    fn verify_metadata(&self, image: &Image<'_, impl Memory>) -> Result<(), Refusal> {
        let metadata = layout::pieces(image.superblock().data.offset);
        let mut buffer = buffer(u64::MAX)?;
        for index in 0..metadata {
            if !self.matches(
                index,
                &sum(image, index, buffer.as_flattened_mut(), signal)?,
            ) {
                return Err(bad(index).into());
            }
            self.set(index, VERIFIED);
        }
        Ok(())
    }

    /// Returns the state of piece `index`. If it is verified, earlier writes are visible.
    #[inline]
    fn state(&self, index: u64) -> i8 {
        let state = self.states.get(index as usize);
        state.map_or(UNKNOWN, load_acquire)
    }

    /// Records the state of piece `index`.
    fn set(&self, index: u64, known: i8) {
        if let Some(state) = self.states.get(index as usize) {
            state.store(known, Release);
        }
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

    /// Verifies piece `index` of `image`, unless it is verified or refused already. This waits for
    /// other threads that verify a piece, and for nothing else. Calls `found` if the piece was
    /// compared: with 0 if it matches, else with the number of bad ones so far.
    ///
    /// Errors: [`Problem::Piece`] if it does not match its SHA-256, [`Problem::Unreadable`].
    pub(crate) fn verify(
        &self,
        image: &Image<'_, impl Memory>,
        index: u64,
        lanes: &Lanes,
        found: impl FnOnce(usize),
    ) -> image::Result<()> {
        let mut buffer = lanes.of(self, index)?.lock();
        // Another thread may have done it.
        if self.state(index) == VERIFIED {
            return Ok(());
        }
        self.refused(index)?;
        let sum = sum(image, index, &mut buffer, || image::Result::Ok(()))
            .inspect_err(|_| self.set(index, UNREADABLE))?;
        if self.matches(index, &sum) {
            self.set(index, VERIFIED);
            found(0);
            return Ok(());
        }
        self.set(index, BAD);
        found(self.bad_count.fetch_add(1, Relaxed) + 1);
        Err(bad(index))
    }
}

/// Returns the error for a piece that does not match its SHA-256.
fn bad(index: u64) -> image::Error {
    let offset = index.saturating_mul(layout::DIGEST_PIECE);
    image::Error::new(Problem::Piece, offset, index)
}

/// Loads the table of sums, and compares its SHA-256 with the one in the superblock. The table is
/// small compared with the image in the region.
fn load(image: &Image<'_, impl Memory>, table: &Table) -> Result<KVVec<u8>, Refusal> {
    if table.end() > image.memory().size() {
        return Err(image::Error::new(Problem::Truncated, table.offset, table.end()).into());
    }
    let mut sums = KVVec::from_elem(0, table.length as usize, GFP_KERNEL_ACCOUNT)?;
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
