// SPDX-License-Identifier: GPL-2.0-only

//! Provokes every problem of composed images and their packs.

use crate::damage::{breaks_rule, findings_with, has_problem};
use daxfs_check::Finding;
use daxfs_reader::layout::{self, Inode, Superblock, PACKS_OFFSET, PACK_SIZE};
use daxfs_reader::Problem;
use daxfs_testing::builder::{self, ino, pack_of, seal, set_digest, superblock, tables, Builder};
use daxfs_testing::reader::{read_everything, read_from_pack};
use std::mem::offset_of;
use std::sync::LazyLock;
use zerocopy::IntoBytes;

/// The images' pack.
static PACK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pack = builder::pack();
    set_digest(&mut pack);
    pack
});

/// Inode number of the file whose data is in the pack.
const COMPOSED: u32 = ino::OTHER + 1;

/// Returns the tables of a composed image. `change` modifies the inode whose data is in the pack.
fn composed(change: impl FnOnce(&mut Inode)) -> Builder {
    let mut builder = tables();
    builder.packs = vec![pack_of(&PACK)];
    assert_eq!(builder.in_pack(5000, 1, builder::in_pack::FILE), COMPOSED);
    let entries = vec![(b"composed".to_vec(), COMPOSED)];
    builder.directory(ino::OTHER, ino::ROOT, entries);
    change(&mut builder.inodes[COMPOSED as usize - 1]);
    builder
}

/// Returns the offset of the table of packs.
fn table(image: &[u8]) -> u64 {
    u64::from_le_bytes(image[PACKS_OFFSET as usize..][..8].try_into().unwrap())
}

/// Returns the offset of a field of inode `ino`.
fn field(image: &[u8], ino: u32, field: usize) -> u64 {
    let record = u64::from(ino - 1) * layout::INODE_SIZE;
    superblock(image).inodes.offset.get() + record + field as u64
}

/// Returns the checker's findings in `image` with the images' pack.
fn findings(image: &[u8]) -> Vec<Finding> {
    findings_with(image, Some(&PACK))
}

/// Checks that the reader and the checker find `problem` at `offset` of `image`.
#[track_caller]
fn refused(image: &[u8], problem: Problem, offset: u64) {
    has_problem(image, Some(&PACK), problem, offset);
}

/// Checks that `image` with `bytes` at `at` has `problem` at `offset`.
#[track_caller]
fn wrong(image: &[u8], at: u64, bytes: &[u8], problem: Problem, offset: u64) {
    let mut image = image.to_vec();
    image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    seal(&mut image);
    refused(&image, problem, offset);
}

/// Checks that the reader accepts `image`, but the checker finds a violation of `what` at `offset`.
#[track_caller]
fn violated(image: &[u8], pack: &[u8], what: &str, offset: u64) {
    assert_eq!(read_everything(&image), []);
    breaks_rule(image, Some(pack), what, offset);
}

#[test]
fn composed_is_valid() {
    let image = composed(|_| ()).image();
    assert_eq!(read_everything(&image.as_slice()), []);
    assert_eq!(findings(&image), []);
    assert_eq!(read_from_pack(&image.as_slice(), &PACK.as_slice()), []);
    assert_eq!(findings(&PACK), []);
}

#[test]
fn places_of_the_table() {
    let image = composed(|_| ()).image();
    let place = |change: &dyn Fn(&mut layout::Extent)| {
        let mut extent = layout::Extent {
            offset: table(&image).into(),
            length: PACK_SIZE.into(),
        };
        change(&mut extent);
        let (at, bytes) = (PACKS_OFFSET, extent.as_bytes());
        wrong(&image, at, bytes, Problem::Packs, at);
    };
    // Empty, partial records, above the limit, beyond the end.
    for length in [0, 1, PACK_SIZE - 1, PACK_SIZE + 1, u64::MAX, 1 << 40] {
        place(&|extent| extent.length = length.into());
    }
    let most = u64::from(layout::PACKS_MAX) * PACK_SIZE;
    place(&|extent| extent.length = (most + PACK_SIZE).into());
    // In the superblock, in the tables before, unaligned, outside, at the edge of overflow.
    for offset in [0, 64, 4096, 1 << 40, u64::MAX - 63, u64::MAX] {
        place(&|extent| extent.offset = offset.into());
    }
    place(&|extent| extent.offset = (extent.offset.get() + 8).into());
    // In the data.
    let data = superblock(&image).data.offset.get();
    let at = offset_of!(Superblock, data) as u64;
    let bytes = data.to_le_bytes();
    wrong(&image, PACKS_OFFSET, &bytes, Problem::Table, at);
}

#[test]
fn records_of_packs() {
    let mut builder = composed(|_| ());
    builder.packs[0].reserved[23] = 1;
    let image = builder.image();
    let table = table(&image);
    refused(&image, Problem::Packs, table);
    for size in [0, 1, layout::SUPERBLOCK_SIZE - 1] {
        let mut builder = composed(|_| ());
        builder.packs[0].total_size = size.into();
        refused(&builder.image(), Problem::Packs, table);
    }

    // The same pack twice, whatever its size; a pack that no file uses.
    let mut builder = composed(|_| ());
    builder.packs.push(pack_of(&PACK));
    builder.packs[1].total_size = 4096.into();
    let second = table + PACK_SIZE;
    violated(
        &builder.image(),
        &PACK,
        "pack is in the table twice",
        second,
    );
    builder.packs[1].sha256[0] ^= 1;
    violated(
        &builder.image(),
        &PACK,
        "no file has data in the pack",
        second,
    );

    // A pack that is itself composed, and one that is the image.
    let image = composed(|_| ()).image();
    violated(&image, &image, "pack has packs itself", table);
}

/// A file in a pack has a valid pack index, an inode number there, a size and nothing else, and the
/// image has the feature.
#[test]
fn files() {
    let original = offset_of!(Inode, original);
    let pack = offset_of!(Inode, pack);
    let check = |change: &dyn Fn(&mut Inode), problem, at: usize| {
        let image = composed(change).image();
        refused(&image, problem, field(&image, COMPOSED, at));
    };
    check(&|inode| inode.pack = 2.into(), Problem::Pack, pack);
    check(&|inode| inode.pack = u32::MAX.into(), Problem::Pack, pack);
    check(
        &|inode| inode.original = 0.into(),
        Problem::Original,
        original,
    );
    let size = offset_of!(Inode, size);
    check(&|inode| inode.size = 0.into(), Problem::Size, size);
    check(&|inode| inode.size = (1 << 63).into(), Problem::Size, size);
    let data = offset_of!(Inode, data);
    check(&|inode| inode.data = 4096.into(), Problem::Data, data);
    let flags = offset_of!(Inode, flags);
    let packed = |inode: &mut Inode| inode.flags = layout::INODE_PACKED.into();
    check(&packed, Problem::Flags, flags);
    let mut builder = composed(packed);
    builder.incompat = layout::INCOMPAT_PACKED;
    let image = builder.image();
    refused(&image, Problem::Flags, field(&image, COMPOSED, flags));

    // Files of other types.
    for other in [ino::DIR, ino::LINK, ino::DEVICE, ino::FIFO] {
        let mut builder = composed(|_| ());
        builder.inodes[other as usize - 1].pack = 1.into();
        let image = builder.image();
        refused(&image, Problem::Pack, field(&image, other, pack));
    }

    // Without the feature, the table's place is unused space.
    let image = composed(|_| ()).image();
    let incompat = offset_of!(Superblock, incompat) as u64;
    let at = field(&image, COMPOSED, pack);
    wrong(&image, incompat, &[0], Problem::Pack, at);
    let mut plain = tables().image();
    plain[PACKS_OFFSET as usize] = 1;
    seal(&mut plain);
    violated(&plain, &PACK, "unused byte is not zero", PACKS_OFFSET);

    // Other unused bytes: after the table's extent, and after the table.
    let table = table(&image);
    for at in [PACKS_OFFSET + 16, table + PACK_SIZE] {
        let mut image = image.clone();
        image[at as usize] = 1;
        seal(&mut image);
        violated(&image, &PACK, "unused byte is not zero", at);
    }
}

/// The original is a regular file of the pack with this size and its own data.
#[test]
fn originals() {
    let cases: [(u32, u64); 9] = [
        (builder::in_pack::LAST + 1, 5000),
        (u32::MAX, 5000),
        (1, 5000),
        (builder::in_pack::PACKED, 5000),
        (builder::in_pack::FILE, 4999),
        (builder::in_pack::FILE, i64::MAX as u64),
        (builder::in_pack::COPY, 5000),
        (builder::in_pack::EMPTY, 5000),
        (builder::in_pack::FIFO, 5000),
    ];
    for (original, size) in cases {
        let image = composed(|inode| {
            (inode.original, inode.size) = (original.into(), size.into());
        });
        let image = image.image();
        // The image itself is valid, but its pack has another file.
        assert_eq!(read_everything(&image.as_slice()), []);
        let at = field(&image, COMPOSED, offset_of!(Inode, original));
        let errors = read_from_pack(&image.as_slice(), &PACK.as_slice());
        let error = daxfs_reader::Error::new(Problem::Original, at, original.into());
        assert_eq!(errors, [error], "{original} {size}");
        assert_eq!(findings(&image), [Finding::Reader(error)]);
    }
    // An invalid inode of the pack, and one that is in another pack.
    for change in [
        (offset_of!(Inode, mode), 0o644),
        (offset_of!(Inode, pack), 1),
    ] {
        let mut pack = PACK.clone();
        let at = field(&pack, builder::in_pack::FILE, change.0) as usize;
        pack[at..at + 2].copy_from_slice(&u16::to_le_bytes(change.1));
        seal(&mut pack);
        let image = composed(|_| ()).image();
        let errors = read_from_pack(&image.as_slice(), &pack.as_slice());
        assert!(errors
            .iter()
            .all(|error| error.problem == Problem::Original));
        assert_eq!(errors.len(), 1);
    }
    // Packed files have data of their own.
    let image = composed(|inode| {
        (inode.original, inode.size) = (builder::in_pack::PACKED.into(), 100.into());
    });
    assert_eq!(findings(&image.image()), []);
}
