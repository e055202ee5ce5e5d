// SPDX-License-Identifier: GPL-2.0-only

//! Images that use every feature of the format, from which fuzzing starts.

use crate::{builder, reader};
use daxfs_reader::layout::Superblock;
use std::mem::offset_of;

/// The message in the specimens' signature, which is for another image.
const MESSAGE: &[u8] = &[0x30; 587];

/// Returns the specimens' pack.
pub fn pack() -> Vec<u8> {
    let mut image = builder::pack();
    builder::append(&mut image, MESSAGE);
    image
}

/// Returns a small valid image that uses every feature of the format.
pub fn specimen() -> Vec<u8> {
    let mut image = builder::rich(&pack());
    builder::append(&mut image, MESSAGE);
    image
}

/// Returns the specimen without the padding after its data.
pub fn unpadded() -> Vec<u8> {
    let mut image = builder::rich(&pack());
    let data = builder::superblock(&image).data;
    let size = data.offset.get() + data.length.get();
    image.truncate(size as usize);
    let total_size = offset_of!(Superblock, total_size);
    image[total_size..total_size + 8].copy_from_slice(&size.to_le_bytes());
    builder::append(&mut image, MESSAGE);
    assert_eq!(reader::read_everything(&image.as_slice()), []);
    image
}
