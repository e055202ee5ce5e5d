// SPDX-License-Identifier: GPL-2.0-only

//! A mounted image, and how errors in it are reported.

use crate::event::Event;
use crate::image::{
    self,
    Image,
    Problem, //
};
use crate::linux::block::BlockDevice;
use crate::linux::fs::{
    refusal,
    Refusal,
    SourceKind,
    SuperBlock,
    SuperRef, //
};
use crate::linux::{
    self,
    Errno, //
};
use crate::memory::{
    phys,
    Access,
    Region,
    Resources, //
};
use crate::options::{
    Checks,
    Named,
    Options, //
};
use crate::part;
use crate::signature::Keyring;
use crate::usage::{
    Directory,
    Usage, //
};
use crate::verify::Pieces;
use core::ops::Range;
use kernel::{
    fmt,
    prelude::*,
    seq_file::SeqFile,
    sync::Arc, //
};

/// The filesystem.
pub(crate) struct DaxFs;

/// Data that all mounts share.
pub(crate) struct Shared {
    /// Directory for statistics, which has one for each superblock.
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
    /// The device that is the source, unless an option names the memory.
    pub(crate) device: Option<SourceKind>,
    /// The part of it that `fsoffset=` and `fslength=` name.
    pub(crate) part: Option<Range<u64>>,
}

impl Place {
    /// Returns true if it is a sealed memfd, which does not change.
    pub(crate) fn is_sealed(&self) -> bool {
        self.named == Named::Descriptor("memfd")
    }

    /// Returns true if `other` is on the same device, or in the same range of physical addresses:
    /// who can write one of them can write the other.
    pub(crate) fn is_beside(&self, other: &Place) -> bool {
        let is_shared = !matches!(self.named, Named::Descriptor(_));
        is_shared && self.named == other.named && self.device == other.device
    }

    /// Shows it as mount options.
    pub(crate) fn show(&self, seq: &SeqFile) {
        match self.named {
            Named::Device => {}
            // The part would say more.
            Named::Phys(start, size) if !phys::show(seq, start, size) => return,
            Named::Phys(..) => {}
            Named::Descriptor(name) => kernel::seq_print!(seq, ",{}", name),
        }
        if let Some(range) = &self.part {
            part::show(seq, range);
        }
    }
}

/// The private data of a superblock.
pub(crate) struct Mounted {
    /// Its counters. Dropped first: it shows figures of the superblock.
    pub(crate) usage: Usage,
    /// The region that holds the image.
    pub(crate) region: Region,
    /// The validated superblock.
    pub(crate) superblock: image::Superblock,
    /// Pieces that are verified before their first use; `None` if all of the image may be used.
    pub(crate) pieces: Option<Pieces>,
    /// The superblocks of the image's packs, in the order of its table. They stay while this one
    /// exists, and have no packs themselves.
    pub(crate) packs: KVec<SuperRef<DaxFs>>,
    /// True if a read is just a copy from the region: without pieces and packs.
    pub(crate) is_direct: bool,
    /// The memory that it has named.
    pub(crate) place: Place,
    /// The checks that the first mount has made, before any of the image was used.
    pub(crate) checks: Checks,
    /// Certificates of those who sign images.
    pub(crate) keyring: Arc<Keyring>,
    /// The block device, if the memory is one's. It keeps its number. Dropped last.
    pub(crate) bdev: Option<BlockDevice>,
}

impl Mounted {
    /// Returns true if `options` name the region of this mount, or none.
    pub(crate) fn is_same_source(&self, options: &Options) -> bool {
        if !options.part.may_be(self.place.part.as_ref()) {
            return false;
        }
        match options.named() {
            Named::Device => options.size.is_none(),
            named => named == self.place.named,
        }
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

/// Reports an error in a mounted image at inode `ino`: count it, tell watchers, and log it unless
/// many were logged just before. Returns the error code for it.
pub(crate) fn report(sb: &SuperBlock<DaxFs>, ino: impl Into<u64>, error: image::Error) -> Error {
    let ino = ino.into();
    let (event, errno) = match error.problem {
        Problem::Unreadable | Problem::Piece => (Event::IoError, EIO),
        _ => (Event::InvalidRecord, Errno::Corrupted.into()),
    };
    sb.data().usage.count(event);
    sb.report_error(errno);
    // A bad piece was logged when it was found.
    if error.problem != Problem::Piece && linux::ratelimit() {
        pr_err!("{}: inode {}: {}\n", sb.id(), ino, error);
    }
    errno
}
