// SPDX-License-Identifier: GPL-2.0-only

//! A mounted image, and how errors in it are reported.

use crate::backing::Backing;
use crate::linux;
use crate::linux::block::BlockDevice;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
use crate::memory::phys;
use crate::memory::Resources;
use crate::options::{
    Checks,
    Named,
    Options, //
};
use crate::packs::Packs;
use crate::prelude::*;
use crate::signature::Keyring;
use crate::usage::{
    Directory,
    Event,
    Usage, //
};
use crate::verify::Lanes;

/// The filesystem.
pub(crate) struct DaxFs;

impl Operations for DaxFs {}

/// What all mounts share.
pub(crate) struct Shared {
    /// Each superblock makes a directory with its statistics in it.
    pub(crate) directory: Directory,
    /// Dropped after the last region.
    pub(crate) _memory: Resources,
    /// Certificates of trusted image signers.
    pub(crate) keyring: Keyring,
    /// Locks for the pieces of root's mounts.
    pub(crate) lanes: Lanes,
}

/// The memory that the user specified.
pub(crate) struct Place {
    pub(crate) named: Named,
    /// The part selected with `fsoffset=` and `fslength=`.
    pub(crate) part: Option<Range<u64>>,
}

impl Place {
    /// Returns true for a sealed memfd, which cannot change.
    pub(crate) fn is_sealed(&self) -> bool {
        self.named == Named::Descriptor("memfd")
    }

    /// Shows this as mount options.
    pub(crate) fn show(&self, seq: &SeqFile) {
        match self.named {
            Named::Device => {}
            // Showing the part would reveal more.
            #[cfg(CONFIG_DAXFS_FS_PHYS)]
            Named::Phys(start, size) if !phys::show(seq, start, size) => return,
            Named::Phys(..) => {}
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
    pub(crate) usage: Usage,
    pub(crate) backing: Backing,
    /// Packs cannot have packs themselves.
    pub(crate) packs: Arc<Packs>,
    pub(crate) place: Place,
    /// The locks for its pieces, if an ordinary user mounted it. Such a mount is hidden from others
    /// and from the log.
    pub(crate) of_user: Option<Lanes>,
    /// What the first mount checked before it used any of the image.
    pub(crate) checks: Checks,
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
        let [a, b, c, d, ..] = self.backing.superblock.sha256;
        u32::from_le_bytes([a, b, c, d])
    }
}

/// Where the data of a file are: in its own image or in a pack.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    /// The superblock of the file.
    pub(crate) sb: &'a SuperBlock<DaxFs>,
    pub(crate) backing: &'a Backing,
}

impl<'a> Home<'a> {
    /// In the image itself.
    #[inline]
    pub(crate) fn own(sb: &'a SuperBlock<DaxFs>) -> Self {
        let backing = &sb.data().backing;
        Home { sb, backing }
    }

    /// Reports an error at inode `ino` there: counts it, tells watchers, logs it unless many were
    /// logged just before. Ordinary users can mount images with any number of errors, so their
    /// mounts fill neither the log nor the event queue. Returns the error code for it.
    #[cold]
    pub(crate) fn report(&self, ino: impl Into<u64>, error: image::Error) -> Error {
        let (event, errno) = match error.problem {
            Problem::Unreadable | Problem::Piece => (Event::IoError, EIO),
            _ => (Event::InvalidRecord, Errno::Corrupted.into()),
        };
        self.sb.data().usage.count(event);
        if self.sb.data().of_user.is_some() {
            return errno;
        }
        self.sb.report_error(errno);
        // A bad piece was logged when it was found.
        if error.problem != Problem::Piece && linux::ratelimit() {
            pr_err!("{self}: inode {}: {}\n", ino.into(), error);
        }
        errno
    }
}

/// Shows the mount, and the pack if it is one.
impl kernel::fmt::Display for Home<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{}", self.sb.id()))?;
        if ptr::eq(self.backing, &self.sb.data().backing) {
            return Ok(());
        }
        let sum = linux::Hex(&self.backing.superblock.sha256);
        f.write_fmt(fmt!(": pack {sum}"))
    }
}

/// Reports an error in a mounted image at inode `ino`, like [`Home::report`].
pub(crate) fn report(sb: &SuperBlock<DaxFs>, ino: impl Into<u64>, error: image::Error) -> Error {
    Home::own(sb).report(ino, error)
}

impl kernel::fmt::Display for image::Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// Explains that a mount is refused because of an error in the image.
impl From<image::Error> for Refusal {
    fn from(error: image::Error) -> Self {
        let errno = match error.problem {
            Problem::Unreadable => EIO,
            Problem::TooSmall | Problem::Magic => EINVAL,
            Problem::Catalog(_) => {
                return refusal!(Errno::MediumType => "{error}";
                    "mount.daxfs finds the image to mount in it, or give its place with fsoffset= \
                     and fslength=")
            }
            Problem::Version | Problem::Feature | Problem::BlockSize => Errno::NotSupported.into(),
            Problem::SuperblockChecksum
            | Problem::MetadataChecksum
            | Problem::Digest
            | Problem::Sums
            | Problem::Piece => Errno::BadMessage.into(),
            _ => Errno::Corrupted.into(),
        };
        refusal!(errno => "{error}")
    }
}
