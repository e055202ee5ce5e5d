// SPDX-License-Identifier: GPL-2.0-only

//! A mounted image, and how errors in it are reported.

use crate::image::{self, layout, Image, Problem};
use crate::linux::block::OpenBlockDevice;
use crate::linux::fs::{refusal, Refusal, SuperBlock};
use crate::linux::{
    self, security,
    sysfs::{Directory, Show},
    Errno, Keyring,
};
use crate::memory::{Access, Gate, Region, Resources};
use crate::options::{Checks, Named, Options};
use crate::usage::{Event, Usage};
use crate::verify::Pieces;
use core::ops::Range;
use kernel::{fmt, prelude::*, seq_file::SeqFile, sync::Arc};

/// The filesystem.
pub(crate) struct DaxFs;

/// Data that all mounts share.
pub(crate) struct Shared {
    /// Directory in sysfs, which has one for each superblock.
    pub(crate) directory: Directory,
    /// Resources that regions need.
    pub(crate) memory: Resources,
    /// Certificates of those who sign images.
    pub(crate) keyring: Arc<Keyring>,
}

/// Which memory a mount has named.
pub(crate) struct Place {
    /// The memory.
    pub(crate) named: Named,
    /// The part of it that `fsoffset=` and `fslength=` name.
    pub(crate) part: Option<Range<u64>>,
}

impl Place {
    /// Shows it as mount options. Only processes with `CAP_SYS_RAWIO` see physical addresses.
    pub(crate) fn show(&self, seq: &SeqFile) {
        match self.named {
            Named::Device => {}
            Named::Phys(start, size) if security::opener_has_raw_io(seq) => {
                kernel::seq_print!(seq, ",phys={:#x},size={:#x}", start, size);
            }
            Named::Phys(..) => return kernel::seq_print!(seq, ",phys"),
            Named::Descriptor(name) => kernel::seq_print!(seq, ",{}", name),
        }
        if let Some(Range { start, end }) = &self.part {
            kernel::seq_print!(seq, ",fsoffset={:#x},fslength={:#x}", start, end - start);
        }
    }
}

/// The private data of a superblock.
pub(crate) struct Mounted {
    /// Its counters. Dropped first: it shows figures of the superblock.
    pub(crate) usage: Show<Usage>,
    /// The region that holds the image.
    pub(crate) region: Region,
    /// The validated superblock.
    pub(crate) superblock: image::Superblock,
    /// Pieces that are verified before their first use; `None` if all of the image may be used.
    pub(crate) pieces: Option<Pieces>,
    /// The memory that it has named.
    pub(crate) place: Place,
    /// The checks that the first mount has made, before any of the image was used.
    pub(crate) checks: Checks,
    /// Certificates of those who sign images.
    pub(crate) keyring: Arc<Keyring>,
    /// The block device, if the memory is one's. It keeps its number. Dropped last.
    pub(crate) bdev: Option<OpenBlockDevice>,
}

impl Mounted {
    /// Returns true if `options` name the region of this mount, or none.
    pub(crate) fn is_same_source(&self, options: &Options) -> bool {
        let part = self
            .place
            .part
            .as_ref()
            .map(|part| (part.start, part.end - part.start));
        if (options.offset, options.length) != (None, None)
            && part != options.offset.zip(options.length)
        {
            return false;
        }
        match options.named() {
            Named::Device => options.size.is_none(),
            named => named == self.place.named,
        }
    }

    /// Makes bytes usable: verify the piece that holds the byte at `offset`. Returns how many of
    /// `length` bytes are in this piece; 0 if it is not verified yet and `wait` is not set.
    ///
    /// # Errors
    ///
    /// [`Problem::Piece`] if the piece does not match its SHA-256, [`Problem::Unreadable`]. Known
    /// errors are returned without waiting.
    #[cold]
    pub(crate) fn usable(&self, offset: u64, length: u64, wait: bool) -> image::Result<u64> {
        let Some(pieces) = &self.pieces else {
            return Ok(length);
        };
        let index = offset / layout::DIGEST_PIECE;
        let usable = length.min(layout::DIGEST_PIECE - offset % layout::DIGEST_PIECE);
        if pieces.are_verified(offset, usable) {
            return Ok(usable);
        }
        // Do not read all of a piece again for a known result.
        let piece = layout::piece(index, self.superblock.total_size);
        let size = piece.end - piece.start;
        let access = self.region.access();
        if !access.is_ok_and(|access| access.readable(piece.start, size) == size) {
            return Err(image::Error::new(Problem::Unreadable, piece.start, 0));
        }
        pieces.refused(index)?;
        if !wait {
            return Ok(0);
        }
        let image = Image::new(&self.region, &self.superblock);
        pieces.verify(&image, index, &self.usage)?;
        Ok(usable)
    }

    /// Returns the generation of all inodes, which file handles contain: the start of the image's
    /// SHA-256.
    pub(crate) fn generation(&self) -> u32 {
        let [a, b, c, d, ..] = self.superblock.sha256;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Returns the image, while `access` keeps its memory.
    #[inline]
    pub(crate) fn image<'a>(&'a self, access: &'a Access<'a>) -> Image<'a, Access<'a>> {
        Image::new(access, &self.superblock)
    }
}

/// Faults map only what may be used.
impl Gate for Mounted {
    #[cold]
    fn open(&self, offset: u64, length: u64) -> image::Result<()> {
        let mut done = 0;
        while done < length {
            done += self.usable(offset + done, length - done, true)?;
        }
        Ok(())
    }

    #[inline]
    fn is_open(&self, offset: u64, length: u64) -> bool {
        match &self.pieces {
            None => true,
            Some(pieces) => pieces.are_verified(offset, length),
        }
    }
}

impl kernel::fmt::Display for image::Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// Why a mount is refused because of an error in the image.
impl From<image::Error> for Refusal {
    fn from(error: image::Error) -> Self {
        let errno = match error.problem {
            Problem::Unreadable => EIO,
            Problem::TooSmall | Problem::Magic => EINVAL,
            Problem::Catalog(_) => {
                return refusal!(Errno::MediumType, "{error}").remedy(
                    "mount.daxfs finds the image to mount in it, or give its place with fsoffset= \
                     and fslength=",
                )
            }
            Problem::Version | Problem::Feature | Problem::BlockSize => Errno::NotSupported.into(),
            Problem::SuperblockChecksum
            | Problem::MetadataChecksum
            | Problem::Digest
            | Problem::Sums
            | Problem::Piece => Errno::BadMessage.into(),
            _ => Errno::Corrupted.into(),
        };
        refusal!(errno, "{error}")
    }
}

/// Reports an error in a mounted image at inode `ino`: count it, and log it unless many were
/// logged just before. Returns the error code for it.
pub(crate) fn report(sb: &SuperBlock<DaxFs>, ino: impl Into<u64>, error: image::Error) -> Error {
    let ino = ino.into();
    let (event, errno) = match error.problem {
        Problem::Unreadable | Problem::Piece => (Event::IoError, EIO),
        _ => (Event::InvalidRecord, Errno::Corrupted.into()),
    };
    sb.data().usage.count(event);
    // A bad piece was logged when it was found.
    if error.problem != Problem::Piece && linux::ratelimit() {
        pr_err!("{}: inode {}: {}\n", sb.id(), ino, error);
    }
    errno
}
