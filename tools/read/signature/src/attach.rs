// SPDX-License-Identifier: GPL-2.0-only

//! The signature that follows an image in a file.

use crate::cms::Message;
use crate::signed::Signed;
use daxfs_reader::layout::{self, HUGE_SIZE};
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::{self as image, Image, Memory, Problem, Superblock};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use zerocopy::IntoBytes;

/// Load the signature of `image`, if any.
///
/// Return [`Problem::Signature`] if it is malformed, [`Problem::Unreadable`].
pub fn load<M: Memory>(image: &Image<'_, M>) -> image::Result<Option<Signed>> {
    let Some(section) = Section::find(image.memory(), image.superblock())? else {
        return Ok(None);
    };
    let mut cms = vec![0; section.table.length as usize];
    section.load(image.memory(), &mut cms)?;
    let expires = section.line().expires;
    match Message::parse(&cms) {
        Some(_) => Ok(Some(Signed { expires, cms })),
        None => Err(section.error(Problem::Signature, section.table.length)),
    }
}

/// Return the number of bytes of `image` with its table of sums and its signature, a multiple of
/// the block size.
pub fn stored_size<M: Memory>(image: &Image<'_, M>) -> u64 {
    let superblock = image.superblock();
    let block = u64::from(superblock.block_size);
    match Section::find(image.memory(), superblock) {
        Ok(Some(section)) => {
            let end = section.table.end().next_multiple_of(block);
            superblock.stored_size().max(end)
        }
        _ => superblock.stored_size(),
    }
}

/// Return the padding for [`write`] of a file of `size` bytes that holds the image with this
/// `superblock`, for a file whose padding is not known: 2 MiB if the size is a multiple of that, or
/// else the block size.
pub fn usual_padding(superblock: &Superblock, size: u64) -> u64 {
    match size % HUGE_SIZE {
        0 => HUGE_SIZE,
        _ => superblock.block_size.into(),
    }
}

/// Write the signature `signed` after the image with this `superblock` in `file`, in place of another
/// one. If it does not fit, the file grows to a multiple of `padding` bytes.
///
/// Return the system's errors. The image itself does not change.
pub fn write<M: Memory>(
    file: &File,
    superblock: &Superblock,
    signed: &Signed,
    padding: u64,
) -> io::Result<()> {
    let line = Line {
        digest: superblock.sha256,
        expires: signed.expires,
    };
    let header = Section::header::<M>(&line, &signed.cms);
    let offset = superblock.signature_offset();
    let start = offset + header.as_bytes().len() as u64;
    let size = file.metadata()?.len();
    let end = (start + signed.cms.len() as u64).next_multiple_of(padding);
    if end > size {
        file.set_len(end)?;
    }
    // Clear the header first, so that an interrupted write leaves no partial signature.
    file.write_all_at(&[0; size_of::<layout::Signature>()], offset)?;
    file.sync_data()?;
    file.write_all_at(&signed.cms, start)?;
    file.sync_data()?;
    file.write_all_at(header.as_bytes(), offset)?;
    file.sync_all()
}
