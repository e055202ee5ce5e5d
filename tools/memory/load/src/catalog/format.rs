// SPDX-License-Identifier: GPL-2.0-only

//! The format of a catalogue.
//!
//! It has two copies. An update writes the one that does not count, with a larger generation. So
//! there is a whole copy at any moment, and power loss leaves the state before the update or the
//! one after it.

pub use daxfs_reader::layout::CATALOG_MAGIC;
use daxfs_reader::layout::HUGE_SIZE;
use daxfs_reader::Problem;
use std::mem::offset_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// No copy of the catalogue is whole.
pub const CHECKSUM: Problem = Problem::Catalog("no copy of the catalogue is whole");
/// Checksum mismatch of one copy of the catalogue.
pub const COPY: Problem = Problem::Catalog("checksum mismatch of the copy");
/// A catalogue that is larger than its memory, or of an invalid size.
pub const SIZE: Problem = Problem::Catalog("catalogue of another size than its memory");
/// An entry of the catalogue out of place: outside the memory, unaligned, over another one.
pub const ENTRY: Problem = Problem::Catalog("image of the catalogue out of place");
/// An entry of the catalogue with an invalid name, or with another entry's.
pub const NAME: Problem = Problem::Catalog("invalid name in the catalogue");
/// An entry of the catalogue with unknown or contradictory flags, or a second active one.
pub const FLAGS: Problem = Problem::Catalog("invalid flags in the catalogue");

/// Version of the catalogue's format.
pub const CATALOG_VERSION: u32 = 1;

/// Number of bytes for the catalogue, at the start of the memory. The first image may start after
/// them.
pub const CATALOG_SIZE: u64 = 2 << 20;

/// Offsets of the copies of the catalogue in bytes. They are far apart, so that memory that fails
/// does not have both.
pub const CATALOG_COPIES: [u64; 2] = [0, 1 << 20];

/// Number of images that a catalogue holds at most: its copies do not overlap.
pub const CATALOG_MAX: usize =
    ((CATALOG_COPIES[1] as usize) - size_of::<CatalogHead>()) / size_of::<CatalogEntry>();

/// Alignment of the images of a catalogue, and of their lengths, in bytes.
pub const CATALOG_ALIGN: u64 = 4096;

/// Flag of a [`CatalogEntry`]: the image that is mounted without a name. At most one entry has it.
pub const CATALOG_ACTIVE: u32 = 1 << 0;

/// Flag of a [`CatalogEntry`]: the image is not mounted from now on. Existing mounts may use it.
pub const CATALOG_REMOVED: u32 = 1 << 1;

/// Head of a copy of the catalogue. Its [`CatalogEntry`]s follow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct CatalogHead {
    /// [`CATALOG_MAGIC`].
    pub magic: [u8; 8],
    /// [`CATALOG_VERSION`].
    pub version: U32,
    /// Number of entries, at most [`CATALOG_MAX`].
    pub entries: U32,
    /// Number of the update that wrote this copy. Of two valid copies, that with the larger number
    /// counts.
    pub generation: U64,
    /// Bytes of the memory that the catalogue divides, itself included: a multiple of
    /// [`HUGE_SIZE`].
    pub size: U64,
    /// Zero.
    pub reserved: [u8; 92],
    /// CRC-32C of the bytes of the record before this field, and of the entries.
    pub crc: U32,
}

/// An entry of the catalogue. The entries are in the order of their offsets.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct CatalogEntry {
    /// Name, padded with NUL: 1 to 63 bytes, letters, digits and `.`, `_`, `-`, `+`, `:`, `@`.
    pub name: [u8; 64],
    /// [`Superblock::uuid`] of the image.
    pub uuid: [u8; 16],
    /// First byte of the image in the memory, a multiple of [`CATALOG_ALIGN`].
    pub offset: U64,
    /// Bytes for the image with its sums and signature, a multiple of [`CATALOG_ALIGN`], not 0.
    pub length: U64,
    /// [`CATALOG_ACTIVE`], [`CATALOG_REMOVED`] or 0.
    pub flags: U32,
    /// Zero.
    pub reserved: [u8; 28],
}

const _: () = {
    assert!(size_of::<CatalogHead>() == 128);
    assert!(offset_of!(CatalogHead, crc) == 124);
    assert!(size_of::<CatalogEntry>() == 128);
    assert!(offset_of!(CatalogEntry, offset) == 80);
};

/// Return the alignment and the length, in bytes, of an image of `size` bytes with blocks of `block` bytes. A small image
/// shares 2 MiB with others, because none of its files is mapped by a PMD entry. A range of `phys=` needs the alignment
/// of a larger one to have struct pages.
pub fn room(size: u64, block: u64) -> (u64, u64) {
    let align = match size < HUGE_SIZE {
        true => block.max(CATALOG_ALIGN),
        false => HUGE_SIZE,
    };
    (align, size.next_multiple_of(align))
}

/// Return `text` if it may be the name of an image. No mount option ends at a byte of it.
pub fn valid_name(text: &[u8]) -> Option<&str> {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+:@".contains(byte);
    let fits = (1..size_of::<[u8; 64]>()).contains(&text.len());
    std::str::from_utf8(text)
        .ok()
        .filter(|_| fits && text.iter().all(valid))
}
