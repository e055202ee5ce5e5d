// SPDX-License-Identifier: GPL-2.0-only

//! The memory of an image or of a pack.

use crate::image::Superblock;
use crate::linux::numbers;
use crate::memory::{
    Access,
    Region, //
};
use crate::prelude::*;
use crate::verify::Pieces;

/// The memory of an image or of a pack.
pub(crate) struct Backing {
    pub(crate) region: Region,
    /// The validated superblock.
    pub(crate) superblock: Superblock,
    /// Pieces that are verified before their first use; `None` if all of it may be used.
    pub(crate) pieces: Option<Pieces>,
}

impl Backing {
    /// Returns the image, while `access` keeps its memory.
    #[inline]
    pub(crate) fn image<'a>(&'a self, access: &'a Access<'a>) -> Image<'a, Access<'a>> {
        Image::new(access, &self.superblock)
    }
}

/// Loads the superblock of the image or pack in `region`.
///
/// Errors: The errors of [`Superblock::load`]; `EOPNOTSUPP` if its blocks are smaller than pages.
pub(crate) fn load_superblock(region: &Region) -> Result<Superblock, Refusal> {
    let superblock = Superblock::load(region)?;
    let size = superblock.block_size;
    if (size as usize) < PAGE_SIZE {
        refuse!(Errno::NotSupported =>
            "block size {size} is smaller than this kernel's pages; use mkdaxfs --block-size \
             {PAGE_SIZE}");
    }
    Ok(superblock)
}

/// Returns the name of `device` below /sys/dev, or `none`.
pub(crate) fn name_of(device: Option<SourceKind>) -> Result<CString> {
    let (kind, number) = match device {
        Some(SourceKind::BlockDevice(number)) => ("block", number),
        Some(SourceKind::CharDevice(number)) => ("char", number),
        _ => return CString::try_from_fmt(fmt!("none")),
    };
    let (major, minor) = numbers(number);
    CString::try_from_fmt(fmt!("{}/{}:{}", kind, major, minor))
}
