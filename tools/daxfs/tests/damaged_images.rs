// SPDX-License-Identifier: GPL-2.0-only

//! Whatever bytes an image contains, every command terminates without a panic, and unpacking writes
//! nothing outside its directory.

use crate::support::place;
use daxfs_testing::builder::{ino, seal, specimen, superblock, Builder, DIRECTORY};
use daxfs_testing::everything::{everything, everything_with};
use daxfs_testing::{overlay, scratch};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

static SPECIMEN: LazyLock<Vec<u8>> = LazyLock::new(daxfs_testing::specimen::specimen);
static PACK: LazyLock<Vec<u8>> = LazyLock::new(daxfs_testing::specimen::pack);

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_images(seeds in vec(any::<u32>(), 1..12)) {
        let scratch = scratch();
        everything(&overlay::damaged(&SPECIMEN, &seeds), scratch.path());
    }

    #[test]
    fn damaged_packs(seeds in vec(any::<u32>(), 1..12)) {
        let scratch = scratch();
        everything_with(&SPECIMEN, &overlay::damaged(&PACK, &seeds), scratch.path());
    }

    #[test]
    fn truncated_images(length in 0..20_000usize) {
        let scratch = scratch();
        everything(&specimen()[..length], scratch.path());
    }
}

#[test]
fn specimen_is_fine() {
    let scratch = scratch();
    let said = everything(&specimen(), scratch.path());
    assert!(
        said.iter()
            .all(|line| line.contains("no such file") || line.contains("not a directory")),
        "{said:?}"
    );
}

/// Writes `bytes` as an image next to a directory that must stay untouched, and tries to unpack it.
#[track_caller]
fn refused(mut bytes: Vec<u8>, why: &str) {
    seal(&mut bytes);
    let place = place("mkdir victim");
    place.write("image", &bytes);
    for options in ["", "--tar"] {
        place.fails(format!("daxfs extract {options} image target"), why);
        assert_eq!(place.names("victim"), [""; 0]);
        assert_eq!(place.names("."), ["image", "victim"]);
    }
    assert_ne!(place.run("daxfs fsck image").status, 0);
}

/// Returns an image whose root has these entries.
fn root_with(fill: impl FnOnce(&mut Builder, u32) -> Vec<(Vec<u8>, u32)>) -> Vec<u8> {
    let mut builder = Builder::default();
    let root = builder.inode(DIRECTORY, 0, 0);
    let entries = fill(&mut builder, root);
    builder.directory(root, root, entries);
    builder.image()
}

#[test]
fn names_that_lead_out() {
    for name in [&b".."[..], b".", b"../victim/x", b"/etc/x", b"a\0b", b"a/b"] {
        let image = root_with(|builder, _| vec![(name.to_vec(), builder.file(b"x"))]);
        refused(image, "invalid name");
    }
}

#[test]
fn a_symlink_and_a_directory_of_one_name() {
    // Files of the directory must not follow the symlink.
    let image = root_with(|builder, root| {
        let link = builder.symlink(b"../victim");
        let directory = builder.inode(DIRECTORY, 0, 0);
        let file = builder.file(b"x");
        builder.directory(directory, root, vec![(b"x".to_vec(), file)]);
        vec![(b"d".to_vec(), link), (b"d".to_vec(), directory)]
    });
    refused(image, "the name appears twice");
}

#[test]
fn one_file_by_many_names() {
    // A link count of one would make each name a copy.
    let image = root_with(|builder, _| {
        let file = builder.file(&[1; 5000]);
        (0..50u8).map(|n| (vec![b'a', n + 65], file)).collect()
    });
    refused(image, "has more names than links");
}

#[test]
fn directories_in_circles() {
    // The directory contains itself, and the root.
    for target in [ino::DIR, ino::ROOT] {
        let mut bytes = specimen();
        let record = superblock(&bytes);
        let dirents = record.dirents.offset.get() as usize;
        let count = record.dirents.length.get() as usize / 16;
        for n in 0..count {
            let at = dirents + n * 16;
            let number = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
            if number == ino::INNER {
                bytes[at + 4..at + 8].copy_from_slice(&target.to_le_bytes());
                bytes[at + 15] = 4;
            }
        }
        refused(bytes, "directory has another parent entry");
    }
}
