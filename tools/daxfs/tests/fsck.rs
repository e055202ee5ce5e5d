// SPDX-License-Identifier: GPL-2.0-only

//! `fsck` and `fsck.daxfs`.

use crate::support::{fixture, place};
use daxfs_testing::builder::{seal, superblock};
use daxfs_testing::{image_of, image_with, options};

/// The table of sums after an image.
#[test]
fn sums() {
    let place = fixture();
    let mut options = options();
    options.sums = true;
    image_with(&place.path("source"), &place.path("image"), &options).unwrap();
    place.prints("daxfs fsck image", ": clean, ");
    let mut bytes = place.read("image");
    let size = superblock(&bytes).total_size.get() as usize;
    let line = format!("Piece sums:     32 bytes from {size:#x}\n");
    place.prints("daxfs info image", &line);

    bytes[size + 5] ^= 1;
    place.write("image", &bytes);
    let damaged = place.says("daxfs fsck image", 4, ", the table says ");
    let start = "image: SHA-256 of piece 0 is ";
    assert!(damaged.text().is_empty() && damaged.stderr.starts_with(start));
    // The table is not part of the image.
    place.ok("daxfs digest image");

    // The memory may end with the table, in the middle of a block.
    bytes[size + 5] ^= 1;
    place.write("image", &bytes[..size + 32]);
    place.ok("daxfs fsck image");
    place.ok("daxfs digest image");
    for end in [31, 0] {
        place.write("image", &bytes[..size + end]);
        let said = "image larger than the region that holds it";
        place.says("daxfs fsck image", 4, said);
    }
}

#[test]
fn fsck() {
    let place = fixture();
    let clean = place.prints("daxfs fsck image", "");
    assert!(clean.starts_with("image: clean, 10 inodes, "), "{clean}");
    assert_eq!(place.ok("daxfs fsck --quiet image").text(), "");

    // Data covered by nothing but the SHA-256.
    let mut bytes = place.read("image");
    let data = superblock(&bytes).data.offset.get() as usize;
    bytes[data] ^= 1;
    place.write("image", &bytes);
    let damaged = place.run("daxfs fsck image");
    assert_eq!((damaged.status, damaged.text()), (4, ""));
    let lines: Vec<_> = damaged.stderr.lines().collect();
    assert!(lines[0].starts_with("image: SHA-256 is "), "{lines:?}");
    let end =
        "image: 1 error, nothing was changed; restore the image from a copy, or make it again";
    assert_eq!(lines[1..], [end]);
    place.fails("daxfs digest image", ", the superblock says ");
    // Without a superblock.
    bytes[0] = 0;
    place.write("image", &bytes);
    place.says("daxfs fsck image", 4, "not a daxfs image");
    place.says("daxfs fsck image /missing", 12, "");
    place.ok("daxfs fsck --help");
}

#[test]
fn fsck_daxfs() {
    let place = fixture();
    for options in ["-a", "-p", "-n -f -V", "-y"] {
        place.ok(format!("fsck.daxfs {options} image"));
    }
    place.says("fsck.daxfs -a", 16, "");
    place.says("fsck.daxfs /missing", 8, "");
}

/// Findings name the affected file.
#[test]
fn paths() {
    let place = fixture();
    let mut bytes = place.read("image");
    let inodes = superblock(&bytes).inodes;
    let start = inodes.offset.get() as usize;
    // The link count of the one inode with 10,000 bytes.
    let mut records = (start..start + inodes.length.get() as usize).step_by(64);
    let record = records.find(|&at| bytes[at + 16..at + 24] == 10_000_u64.to_le_bytes());
    bytes[record.unwrap() + 4] = 7;
    seal(&mut bytes);
    place.write("image", &bytes);
    let expected = "image: /dir/below/deep: wrong link count (offset ";
    place.says("daxfs fsck image", 4, expected);
}

/// Each finding is reported.
#[test]
fn findings() {
    let place = place("mkdir source; touch source/{1..150}");
    image_of(&place.path("source"), &place.path("image")).unwrap();
    let mut bytes = place.read("image");
    let names = superblock(&bytes).names;
    let (start, length) = (names.offset.get() as usize, names.length.get() as usize);
    bytes[start..start + length].fill(b'/');
    seal(&mut bytes);
    place.write("image", &bytes);
    let all = place.says("daxfs fsck image", 4, "");
    assert_eq!(all.stderr.matches("invalid name").count(), 150);
}
