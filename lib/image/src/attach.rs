// SPDX-License-Identifier: GPL-2.0-only

//! The signature that follows an image in a file.

use daxfs_reader::layout::{self, HUGE_SIZE};
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::{self as image, Image, Memory, Superblock};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes before the message.
const HEADER: usize = size_of::<layout::Signature>();

/// Loads the signature of `image`, if any: the signed line and the CMS message.
///
/// # Errors
///
/// [`image::Problem::Signature`] if it is malformed, or [`image::Problem::Unreadable`].
pub fn load<M: Memory>(image: &Image<'_, M>) -> image::Result<Option<(Line, Vec<u8>)>> {
    let Some(section) = Section::find(image.memory(), image.superblock())? else {
        return Ok(None);
    };
    let mut cms = vec![0; section.table.length as usize];
    section.load(image.memory(), &mut cms)?;
    Ok(Some((section.line(), cms)))
}

/// Writes the signature `cms` of `line` after the image with this `superblock` in `file`, over
/// zeros or an older signature. If it does not fit, the file grows to a multiple of 2 MiB if its
/// size already is one, otherwise to a multiple of the block size.
///
/// # Errors
///
/// The system's, or that other data is in its place. The image itself does not change.
pub fn write<M: Memory>(
    file: &File,
    superblock: &Superblock,
    line: &Line,
    mut cms: Vec<u8>,
) -> io::Result<()> {
    let header = Section::header::<M>(line, &cms);
    let offset = superblock.signature_offset();
    let start = offset + HEADER as u64;
    let size = file.metadata()?.len();
    let room = HEADER as u64 + u64::from(layout::SIGNATURE_MAX);
    let mut present = vec![0; size.saturating_sub(offset).min(room) as usize];
    file.read_exact_at(&mut present, offset)?;
    let old = match layout::Signature::read_from_prefix(&present) {
        Ok((old, _)) if old.magic == layout::SIGNATURE_MAGIC => HEADER + old.length.get() as usize,
        _ => 0,
    };
    let new = present.iter().take(HEADER + cms.len());
    if let Some((at, byte)) = new.enumerate().skip(old).find(|(_, &byte)| byte != 0) {
        let at = offset + at as u64;
        return Err(io::Error::other(format!(
            "byte {at} is {byte:#x}, part of other data; sign a copy of the first {offset} bytes"
        )));
    }
    let padding = match size % HUGE_SIZE {
        0 => HUGE_SIZE,
        _ => superblock.block_size.into(),
    };
    let end = (start + cms.len() as u64).next_multiple_of(padding);
    if end > size {
        file.set_len(end)?;
    }
    // Zeros overwrite the rest of a longer old signature.
    let rest = old.min(present.len()).saturating_sub(HEADER);
    cms.resize(cms.len().max(rest), 0);
    // First a signature of no image, so that an interrupted write leaves no half of this one.
    let mut none = header;
    (none.sha256, none.length) = ([0; 32], (cms.len() as u32).into());
    file.write_all_at(none.as_bytes(), offset)?;
    file.sync_data()?;
    file.write_all_at(&cms, start)?;
    file.sync_data()?;
    file.write_all_at(header.as_bytes(), offset)?;
    file.sync_all()
}
