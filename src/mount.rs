// SPDX-License-Identifier: GPL-2.0-only

//! A mounted image, and how errors in it are reported.

#![deny(unsafe_code)]

use crate::image::{self, Image, Problem};
use crate::memory::{Access, Memory, Region};
use crate::options::Options;
use crate::support::{
    self,
    sysfs::{Directory, Show},
    trace, Errno,
};
use crate::usage::{Event, Usage};
use crate::vfs::SuperBlock;
use kernel::{fmt, prelude::*, sync::Mutex};

/// The filesystem.
pub(crate) struct DaxFs;

/// Data that all mounts share.
pub(crate) struct Shared {
    /// Directory in sysfs, which has one for each superblock.
    pub(crate) directory: Directory,
    /// Resources that regions need.
    pub(crate) memory: Memory,
}

/// The private data of a superblock.
pub(crate) struct Mounted {
    // Dropped first: it shows figures of the superblock.
    usage: Show<Usage>,
    region: Region,
    superblock: image::Superblock,
    /// Address and length of the range that `phys=` names.
    phys: Option<(u64, u64)>,
    /// Results of the checks of all mounts. The checks run without the mutex, which /proc/mounts
    /// takes. `s_umount` excludes mounts and remounts from each other.
    verified: Pin<KBox<Mutex<Verified>>>,
}

/// What the checks of an image have shown.
#[derive(Clone, Copy, Default)]
pub(crate) struct Verified {
    /// The metadata match their checksum.
    pub(crate) metadata: bool,
    /// The image has this SHA-256.
    pub(crate) digest: Option<[u8; 32]>,
}

impl Mounted {
    /// Make the data of a superblock.
    pub(crate) fn new(
        usage: Show<Usage>,
        region: Region,
        superblock: image::Superblock,
        phys: Option<(u64, u64)>,
        verified: Pin<KBox<Mutex<Verified>>>,
    ) -> Self {
        Mounted {
            usage,
            region,
            superblock,
            phys,
            verified,
        }
    }

    /// Return the region that holds the image.
    #[inline]
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Return the validated superblock.
    #[inline]
    pub(crate) fn superblock(&self) -> &image::Superblock {
        &self.superblock
    }

    /// Return true if `options` name the region of this mount, or none.
    pub(crate) fn is_same_source(&self, options: &Options) -> bool {
        match options.phys_range() {
            Some(range) => self.phys == Some(range),
            None => options.source.is_none() && options.size.is_none(),
        }
    }

    /// Return what the checks of all mounts have shown.
    pub(crate) fn verified(&self) -> &Mutex<Verified> {
        &self.verified
    }

    /// Remove the directory with the figures.
    pub(crate) fn hide_usage(&self) {
        self.usage.remove();
    }

    /// Count an event; see [`Usage::count`].
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.usage.count(event);
    }

    /// Count a read of `bytes` bytes.
    #[inline]
    pub(crate) fn count_read(&self, bytes: u64) {
        self.usage.count_read(bytes);
    }

    /// Return the generation of all inodes, which file handles contain: the start of the image's
    /// SHA-256.
    pub(crate) fn generation(&self) -> u32 {
        let [a, b, c, d, ..] = self.superblock.sha256;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Return the image, while `access` keeps its memory.
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

/// Report an error in a mounted image at inode `ino`: count it, trace it, and log it unless many
/// were logged just before. Return the error code for it.
pub(crate) fn report(sb: &SuperBlock<DaxFs>, ino: impl Into<u64>, error: image::Error) -> Error {
    let ino = ino.into();
    sb.data().count(match error.problem {
        Problem::Unreadable => Event::IoError,
        _ => Event::InvalidRecord,
    });
    let text = error.problem.text();
    trace::error(sb.device(), ino, text, error.offset, error.value);
    if support::ratelimit() {
        pr_err!("{}: inode {}: {}\n", sb.id(), ino, error);
    }
    match error.problem {
        Problem::Unreadable => EIO,
        _ => Errno::Corrupted.into(),
    }
}
