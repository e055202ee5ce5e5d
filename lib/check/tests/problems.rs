// SPDX-License-Identifier: GPL-2.0-only

//! Provokes every problem that the reader knows, one byte range at a time, in an otherwise valid
//! image.

use crate::damage::{findings, name_offset, position, refused, with, wrong, xattrs};
use daxfs_reader::layout::{self, Dirent, Inode, Superblock, XattrEntry, XattrSet};
use daxfs_reader::{self as image, Image, Problem};
use daxfs_testing::builder::{ino, specimen, superblock};
use daxfs_testing::memory::Hooked;
use daxfs_testing::reader::read_everything;
use std::cell::Cell;
use std::mem::{offset_of, size_of};

#[test]
fn specimen_is_valid() {
    assert_eq!(read_everything(&specimen().as_slice()), []);
    assert_eq!(findings(&specimen()), []);
}

#[test]
fn superblock_problems() {
    wrong(0, Problem::Magic, [*b"x"]);
    wrong(sb!(version), Problem::Version, [[2_u8]]);
    wrong(sb!(incompat), Problem::Feature, [2_u64, 32, 1 << 63]);
    let sizes = [0_u32, 1, 512, 2048, 4097, 6144, 131_072, u32::MAX];
    wrong(sb!(block_size), Problem::BlockSize, sizes);
    let size = superblock(&specimen()).total_size.get();
    wrong(sb!(total_size), Problem::Truncated, [size | (1 << 32)]);
    wrong(sb!(total_size), Problem::Size, [0_u64, 0x1f_0001]);
    wrong(sb!(build_nsec), Problem::Time, [1_000_000_000_u32]);
    for number in [ino::FILE, 0, 100, u32::MAX, ino::DIR] {
        let image = with(&[(sb!(root), &number.to_le_bytes())]);
        let errors = read_everything(&image.as_slice());
        let expected = if (1..=9).contains(&number) {
            Problem::Root
        } else {
            Problem::InodeNumber
        };
        assert_eq!(errors[0].problem, expected, "{number}");
    }
}

#[test]
fn compatible_features_are_ignored() {
    assert_eq!(
        read_everything(&with(&[(sb!(compat), &[0xff; 8])]).as_slice()),
        []
    );
}

#[test]
fn table_problems() {
    let tables = [
        sb!(inodes),
        sb!(dirents),
        sb!(names),
        sb!(xattrs),
        sb!(data),
    ];
    for table in tables {
        // 64 bytes into the superblock, unaligned, outside, at the edge of overflow.
        let offsets = [0_u64, 64, 4096 + 1, 1 << 40, u64::MAX, u64::MAX - 63];
        wrong(table, Problem::Table, offsets);
        for length in [u64::MAX, u64::MAX - 4095, 1 << 40] {
            refused(&[(table + 8, &length.to_le_bytes())], Problem::Table, table);
        }
    }
    // Half a record, half a block.
    for (table, length) in [(sb!(inodes), 65u64), (sb!(dirents), 17), (sb!(data), 4097)] {
        refused(&[(table + 8, &length.to_le_bytes())], Problem::Table, table);
    }
}

#[test]
fn checksums() {
    let mut image = specimen();
    image[sb!(uuid) as usize] ^= 1;
    assert_eq!(
        read_everything(&image.as_slice())[0].problem,
        Problem::SuperblockChecksum
    );
    let first = size_of::<Superblock>();
    let data = superblock(&specimen()).data.offset.get() as usize;
    for offset in [first, 4096, data - 1] {
        let mut image = specimen();
        image[offset] ^= 0x10;
        let memory = image.as_slice();
        let superblock = daxfs_reader::Superblock::load(&memory).unwrap();
        for length in [1, 7, 4096, 1 << 20] {
            let image = Image::new(&memory, &superblock);
            let result = image.verify_metadata(&mut vec![0; length], || Ok(()));
            let error: daxfs_reader::Error = result.unwrap_err();
            assert_eq!(error.problem, Problem::MetadataChecksum);
        }
    }
    let image = specimen();
    let memory = image.as_slice();
    let superblock = daxfs_reader::Superblock::load(&memory).unwrap();
    let image = Image::new(&memory, &superblock);
    let result: daxfs_reader::Result<()> = image.verify_metadata(&mut [0; 1000], || Ok(()));
    assert_eq!(result, Ok(()));
}

#[test]
fn too_small_and_truncated() {
    let image = specimen();
    for length in [0, 1, 255, 256, 4095] {
        let errors = read_everything(&&image[..length]);
        assert_eq!(errors[0].problem, Problem::TooSmall);
    }
    for length in [4096, 8192, image.len() - 1] {
        let errors = read_everything(&&image[..length]);
        assert_eq!(errors[0].problem, Problem::Truncated);
    }
}

#[test]
fn inode_problems() {
    wrong(
        inode!(ino::FILE, mode),
        Problem::Mode,
        [0_u16, 0o644, 0o030_644, 0o170_644],
    );
    wrong(inode!(ino::FILE, nlink), Problem::LinkCount, [0_u32]);
    wrong(
        inode!(ino::FILE, mtime_nsec),
        Problem::Time,
        [1_000_000_000_u32],
    );
    wrong(inode!(ino::FILE, xattrs), Problem::Xattr, [100, u32::MAX]);
    let at = inode!(ino::FILE, data);
    wrong(
        at,
        Problem::Data,
        [0, 4096, 1, 1 << 21, u64::MAX, u64::MAX - 4095],
    );
    let size = inode!(ino::FILE, size);
    for bytes in [12289u64, u64::MAX, i64::MAX as u64] {
        refused(&[(size, &bytes.to_le_bytes())], Problem::Data, at);
    }
    let entries = [9, u64::MAX, u64::MAX / 16, u64::MAX / 16 + 1];
    wrong(inode!(ino::DIR, data), Problem::Dirents, entries);
    wrong(inode!(ino::DIR, size), Problem::Size, [1_u64, 33, 1 << 40]);
    wrong(inode!(ino::FIFO, size), Problem::Size, [1_u64]);
    wrong(inode!(ino::DEVICE, size), Problem::Size, [1_u64]);
    wrong(inode!(ino::LINK, size), Problem::Size, [0, 4096, u64::MAX]);
    wrong(inode!(ino::LINK, data), Problem::Symlink, [1000, u64::MAX]);
    let numbers = [1 << 20, 1 << 44, u64::MAX];
    wrong(inode!(ino::DEVICE, data), Problem::Device, numbers);
}

/// Flags of files, and files that share the data of others.
#[test]
fn shared_problems() {
    let sb = superblock(&specimen());
    let (packed, shared) = ((sb!(incompat), &[1][..]), (sb!(incompat), &[4][..]));
    let at = inode!(ino::FILE, flags);
    // Without the feature; unknown; of another type.
    refused(&[(at, &[1])], Problem::Flags, at);
    refused(&[packed, (at, &[2])], Problem::Flags, at);
    refused(&[packed, (at + 1, &[1])], Problem::Flags, at);
    for ino in [ino::DIR, ino::LINK, ino::DEVICE, ino::FIFO] {
        let at = inode!(ino, flags);
        refused(&[packed, (at, &[1])], Problem::Flags, at);
    }
    // Packed data may be anywhere within the table.
    let data = inode!(ino::INNER, data);
    let anywhere = (sb.data.offset.get() + 8192 + 17).to_le_bytes();
    refused(&[(data, &anywhere)], Problem::Data, data);
    let flag = (inode!(ino::INNER, flags), &[1][..]);
    let image = with(&[packed, flag, (data, &anywhere)]);
    assert_eq!(read_everything(&image.as_slice()), []);
    let outside = (sb.data.offset.get() + sb.data.length.get() - 99).to_le_bytes();
    refused(&[packed, flag, (data, &outside)], Problem::Data, data);

    let at = inode!(ino::INNER, original);
    let file = sb.data.offset.get().to_le_bytes();
    let same = [
        (data, &file[..]),
        (inode!(ino::INNER, size), &5000u64.to_le_bytes()[..]),
        (sb.data.offset.get() + 8192, &[0; 100][..]),
    ];
    let original = |ino: u32| ino.to_le_bytes();
    let (three, bad) = (original(ino::FILE), original(u32::MAX));
    let good = [&same[..], &[shared, (at, &three[..])]].concat();
    assert_eq!(findings(&with(&good)), []);
    // Without the feature; the file itself; a later one; none at all.
    refused(&[(at, &three)], Problem::Original, at);
    for ino in [ino::INNER, ino::OTHER] {
        refused(&[shared, (at, &original(ino))], Problem::Original, at);
    }
    refused(&[shared, (at, &bad)], Problem::Original, at);
    // Not a regular file, an empty one, other data, another size, another flag.
    for ino in [ino::DIR, ino::LINK, ino::DEVICE, ino::EMPTY] {
        let ino = original(ino);
        let changes = [&same[..], &[shared, (at, &ino[..])]].concat();
        refused(&changes, Problem::Original, at);
    }
    refused(&[shared, (at, &three)], Problem::Original, at);
    let both = (sb!(incompat), &[5][..]);
    for change in [
        (inode!(ino::INNER, size), &[1][..]),
        (inode!(ino::INNER, flags), &[1][..]),
    ] {
        let mut changes = good.clone();
        changes.extend([both, change]);
        refused(&changes, Problem::Original, at);
    }
    // An original that shares itself.
    let mut changes = good.clone();
    let four = original(ino::EMPTY);
    let chain = [
        (inode!(ino::EMPTY, size), &5000u64.to_le_bytes()[..]),
        (inode!(ino::EMPTY, data), &file[..]),
        (inode!(ino::EMPTY, original), &three[..]),
        (at, &four[..]),
    ];
    changes.extend(chain);
    refused(&changes, Problem::Original, at);
}

#[test]
fn entry_problems() {
    wrong(
        dirent!("file", ino),
        Problem::InodeNumber,
        [0, 10, u32::MAX],
    );
    wrong(
        dirent!("file", file_type),
        Problem::FileType,
        [0_u8, 3, 16, 255, 4],
    );
    let at = dirent!("file", name_low);
    refused(&[(at, &[0xff; 4])], Problem::Name, at);
    refused(
        &[(dirent!("file", name_high), &[0xff; 2])],
        Problem::Name,
        at,
    );
    refused(&[(dirent!("file", name_len), &[0])], Problem::Name, at);
    wrong(name_offset("file"), Problem::Name, [*b"fi/e", *b"fi\0e"]);
    for (length, bad) in [(1, &b"."[..]), (2, b"..")] {
        let changes = [
            (name_offset("file"), bad),
            (dirent!("file", name_len), &[length][..]),
        ];
        refused(&changes, Problem::Name, name_offset("file"));
    }
    let target = superblock(&specimen()).names.offset.get();
    wrong(target, Problem::Symlink, [0_u8]);
}

/// A directory entered through a foreign entry, of its parent or of another directory.
#[test]
fn parent_problems() {
    wrong(
        dirent!("other", ino),
        Problem::Parent,
        [ino::DIR, ino::ROOT],
    );
    let dir = dirent!("dir", ino);
    refused(&[(inode!(ino::DIR, parent), &[9])], Problem::Parent, dir);
    refused(&[(inode!(ino::DIR, position), &[99])], Problem::Parent, dir);
}

#[test]
fn xattr_problems() {
    let set = xattrs();
    let entry = set + size_of::<XattrSet>() as u64;
    let prefix = entry + offset_of!(XattrEntry, prefix) as u64;
    wrong(set, Problem::Xattr, [0, 7, 1000, u32::MAX]);
    refused(&[(prefix, &[5])], Problem::Xattr, entry);
    wrong(entry, Problem::Xattr, [8, u32::MAX]);
    let end = set + 8 + 8 + 12;
    refused(&[(set + 4, &[2])], Problem::Xattr, end);
    let counts = [layout::XATTR_COUNT_MAX + 1, u32::MAX];
    wrong(set + 4, Problem::Xattr, counts);
}

#[test]
fn unreadable_memory() {
    let fail = |offset, _: &mut [u8]| match offset {
        4096.. => Err(image::Error::new(Problem::Unreadable, offset, 0)),
        _ => Ok(()),
    };
    let image = specimen();
    for error in read_everything(&Hooked(&image, fail)) {
        assert_eq!(error.problem, Problem::Unreadable);
    }
}

/// The digest covers the loaded superblock, not later content of the memory.
#[test]
fn superblock_that_changes() {
    let bytes = specimen();
    let reads = Cell::new(0);
    let memory = Hooked(&bytes, |offset, into: &mut [u8]| {
        if offset == 0 && reads.replace(reads.get() + 1) > 0 {
            into[sb!(label) as usize] ^= 1;
        }
        Ok(())
    });
    let superblock = image::Superblock::load(&memory).unwrap();
    let mut hashed = Vec::new();
    Image::new(&memory, &superblock)
        .piece(0, &mut [0; 4096], |part| {
            hashed.extend_from_slice(part);
            image::Result::Ok(())
        })
        .unwrap();
    let label = sb!(label) as usize;
    assert_eq!(hashed[label..label + 64], superblock.label);
    assert_eq!(reads.get(), 1);
}
