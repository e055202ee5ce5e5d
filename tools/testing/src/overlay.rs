// SPDX-License-Identifier: GPL-2.0-only

//! Common parts of the image fuzz targets and the test that replays the corpus: they turn an input
//! into an image, and mutate inputs with knowledge of the format.
//!
//! An input is overlaid on the specimen, a small valid image, by exclusive or; the empty input is
//! the specimen. The first byte selects whether the checksums are corrected afterwards. The
//! superblock's record follows, the tables except the data, and what follows the image: its table
//! of sums and its signature; finally the extent of the table of packs, and the table. Further
//! bytes are unused.

use crate::random::Random;
use crate::{builder, catalog, reader, specimen};
use daxfs_reader::layout::{
    self, Dirent, Extent, Inode, Pack, Signature, Superblock, XattrEntry, XattrSet, PACKS_OFFSET,
    SIGNATURE_ALIGN, SIGNATURE_MAX, SUM_SIZE, XATTR_ALIGN,
};
use daxfs_reader::signature::Section;
use daxfs_reader::Image;
use std::mem::{offset_of, size_of};
use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;
use zerocopy::FromBytes;

/// Bytes of the superblock that an input covers.
const HEAD: usize = 256;

/// Bytes after the image that an input covers: the table of sums and the signature.
const TAIL: usize = 1024;

/// Offset of the superblock's extent of the table of packs.
const PACKS: usize = PACKS_OFFSET as usize;

const TABLES: usize = 4096;

/// The specimens' pack, and a specimen.
static PACK: LazyLock<Vec<u8>> = LazyLock::new(specimen::pack);
static COMPOSED: LazyLock<Vec<u8>> = LazyLock::new(specimen::unpadded);

/// One in this many inputs keeps wrong checksums.
const UNSEALED: u8 = 8;

/// Reads the signature of the image with this `superblock`, if it has one.
fn signature(image: &&[u8], superblock: &daxfs_reader::Superblock) {
    if let Ok(Some(section)) = Section::find(image, superblock) {
        assert!((1..=SIGNATURE_MAX.into()).contains(&section.table.length));
        assert!(section.table.end() <= image.len() as u64);
        let mut cms = vec![0; section.table.length as usize];
        let _ = section.load(image, &mut cms);
    }
}

/// Reads and checks `image`, which may contain anything, and its signature. Then reads it as a
/// store's table, as a composed image with the specimens' pack, and as the specimen's pack.
///
/// # Panics
///
/// If the reader or the checker has a bug.
pub fn read_and_check(image: &[u8]) {
    reader::read_and_compare(&image);
    catalog::read(image);
    reader::read_from_pack(&image, &&PACK[..]);
    reader::read_from_pack(&&COMPOSED[..], &image);
    if let Ok(superblock) = daxfs_reader::Superblock::load(&image) {
        signature(&image, &superblock);
    }
    let pack = &&PACK[..];
    let superblock = daxfs_reader::Superblock::load(pack).ok();
    let pack = superblock
        .as_ref()
        .map(|superblock| Image::new(pack, superblock));
    let mut findings = 0;
    daxfs_check::check_with_packs(&image, &[pack], &mut |_| {
        findings += 1;
        if findings < 1000 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
}

/// Returns the parts of a specimen that an input covers, in the order of the input.
fn parts(specimen: &[u8]) -> [Range<usize>; 5] {
    let superblock = builder::superblock(specimen);
    let tables_end = range(&superblock.xattrs).end.next_multiple_of(64);
    let image_end = superblock.total_size.get() as usize;
    [
        0..HEAD,
        TABLES..tables_end,
        image_end..image_end + TAIL,
        PACKS..PACKS + size_of::<Extent>(),
        packs(specimen),
    ]
}

/// Returns the place of the table of packs in the specimen, empty if there is none.
fn packs(specimen: &[u8]) -> Range<usize> {
    range(&Extent::read_from_prefix(&specimen[PACKS..]).unwrap().0)
}

/// Returns `specimen` with `input` overlaid.
pub fn overlaid(specimen: &[u8], input: &[u8]) -> Vec<u8> {
    let mut image = specimen.to_vec();
    let (seal, overlay) = match input.split_first() {
        Some((first, rest)) => (first % UNSEALED != 0, rest),
        None => (true, input),
    };
    let mut rest = overlay;
    for part in parts(specimen) {
        let (bytes, after) = rest.split_at(rest.len().min(part.len()));
        for (place, byte) in image[part].iter_mut().zip(bytes) {
            *place ^= byte;
        }
        rest = after;
    }
    if seal {
        builder::seal(&mut image);
    }
    image
}

/// Returns `specimen` with one change for each of the `seeds`, see [`mutate`].
pub fn damaged(specimen: &[u8], seeds: &[u32]) -> Vec<u8> {
    let mut data = [0; 8192];
    let mutate = |size, &seed: &u32| mutate(specimen, &mut data, size, seed);
    let size = seeds.iter().fold(0, mutate);
    overlaid(specimen, &data[..size])
}

/// Returns the index in an input of the byte for `place` in the specimen, which must be covered.
fn index(specimen: &[u8], place: usize) -> usize {
    let mut before = 1;
    for part in parts(specimen) {
        if part.contains(&place) {
            return before + place - part.start;
        }
        before += part.len();
    }
    unreachable!("no input reaches byte {place}")
}

/// Returns the offset and length of each of these fields of a record.
macro_rules! fields {
    ($record:ty: $($field:ident: $length:expr),*) => {
        &[$((offset_of!($record, $field), $length)),*]
    };
}

type Fields = &'static [(usize, usize)];

const SUPERBLOCK: Fields = fields!(Superblock: version: 4, block_size: 4, compat: 8, incompat: 8,
    total_size: 8, build_nsec: 4, root: 4);
const INODE: Fields = fields!(Inode: mode: 2, flags: 2, nlink: 4, size: 8, mtime_nsec: 4, xattrs: 4,
    data: 8, parent: 4, position: 4, original: 4, pack: 4);
const DIRENT: Fields = fields!(Dirent: hash: 4, ino: 4, name_low: 4, name_high: 2, name_len: 1,
    file_type: 1);
const XATTR_SET: Fields = fields!(XattrSet: length: 4, count: 4);
const XATTR_ENTRY: Fields = fields!(XattrEntry: value_len: 4, name_len: 1, prefix: 1, reserved: 2);
const EXTENT: Fields = fields!(Extent: offset: 8, length: 8);
const PACK_FIELDS: Fields = fields!(Pack: sha256: 8, total_size: 8, reserved: 8);
const SIGNATURE: Fields = fields!(Signature: magic: 8, expires: 8, length: 4);

fn range(extent: &Extent) -> Range<usize> {
    let start = extent.offset.get() as usize;
    start..start + extent.length.get() as usize
}

/// Returns the records in the xattr table of the specimen.
fn xattrs(specimen: &[u8]) -> Vec<(usize, Fields)> {
    let table = range(&builder::superblock(specimen).xattrs);
    let mut records = Vec::new();
    let mut at = table.start;
    while at < table.end {
        records.push((at, XATTR_SET));
        let count = load(specimen, (at + offset_of!(XattrSet, count), 4));
        at += size_of::<XattrSet>();
        for _ in 0..count {
            at = at.next_multiple_of(4);
            records.push((at, XATTR_ENTRY));
            let value = load(specimen, (at + offset_of!(XattrEntry, value_len), 4));
            let name = load(specimen, (at + offset_of!(XattrEntry, name_len), 1));
            at += size_of::<XattrEntry>() + (name + value) as usize;
        }
        at = at.next_multiple_of(XATTR_ALIGN as usize);
    }
    records
}

/// Chooses a field of the image; returns its offset and length in bytes.
fn field(specimen: &[u8], random: &mut Random) -> (usize, usize) {
    let superblock = builder::superblock(specimen);
    let (start, fields) = match random.below(10) {
        0 => (0, SUPERBLOCK),
        1 => {
            let extents = [
                offset_of!(Superblock, inodes),
                offset_of!(Superblock, dirents),
                offset_of!(Superblock, names),
                offset_of!(Superblock, xattrs),
                offset_of!(Superblock, data),
                PACKS,
            ];
            (random.one_of(&extents), EXTENT)
        }
        2..=4 => {
            let table = range(&superblock.inodes);
            let number = random.below(table.len() / size_of::<Inode>());
            (table.start + number * size_of::<Inode>(), INODE)
        }
        5 | 6 => {
            let table = range(&superblock.dirents);
            let number = random.below(table.len() / size_of::<Dirent>());
            (table.start + number * size_of::<Dirent>(), DIRENT)
        }
        7 => random.one_of(&xattrs(specimen)),
        8 if !packs(specimen).is_empty() => {
            let table = packs(specimen);
            let number = random.below(table.len() / size_of::<Pack>());
            (table.start + number * size_of::<Pack>(), PACK_FIELDS)
        }
        _ => {
            let size = superblock.total_size.get() as usize;
            let sums = layout::pieces(size as u64) * SUM_SIZE;
            let header = (size + sums as usize).next_multiple_of(SIGNATURE_ALIGN as usize);
            match random.below(2) {
                0 => (header, SIGNATURE),
                _ => {
                    let message = header + size_of::<Signature>();
                    let length = load(specimen, (message - 8, 4));
                    return (message + random.below(length as usize), 1);
                }
            }
        }
    };
    let (offset, length) = random.one_of(fields);
    (start + offset, length)
}

fn load(image: &[u8], (at, length): (usize, usize)) -> u64 {
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(&image[at..at + length]);
    u64::from_le_bytes(bytes)
}

/// Changes one field of the image that the first `size` bytes of `data` make of `specimen`, and
/// returns the new size. The value is one that readers may get wrong: a limit, another field's
/// value, the end of a table, or the old value with a small difference.
pub fn mutate(specimen: &[u8], data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut random = Random(seed.into());
    let image = overlaid(specimen, &data[..size]);
    let (at, length) = field(specimen, &mut random);
    let old = load(&image, (at, length));
    let other = field(specimen, &mut random);
    let total = specimen.len() as u64;
    let value = match random.below(8) {
        0 => random.one_of(&[0, 1, 2, u64::MAX, u64::MAX >> 1, 1 << 31, 1 << 63]),
        1 => old.wrapping_add(random.one_of(&[1, 8, 64, 4096])),
        2 => old.wrapping_sub(random.one_of(&[1, 8, 64, 4096])),
        3 => load(&image, other),
        4 => old ^ (1 << random.below(8 * length)),
        5 => total.wrapping_add(random.one_of(&[0, 1, 4096, u64::MAX, 0_u64.wrapping_sub(4096)])),
        6 => random.below(32) as u64,
        _ => random.next(),
    };
    let start = index(specimen, at);
    let end = start + length;
    if end > data.len() {
        return size;
    }
    let new_size = size.max(end);
    data[size..new_size].fill(0);
    if size == 0 {
        data[0] = 1;
    }
    for (number, byte) in value.to_le_bytes()[..length].iter().enumerate() {
        data[start + number] = specimen[at + number] ^ byte;
    }
    new_size
}
