// SPDX-License-Identifier: GPL-2.0-only

//! Sizes of images, and memory use of mkdaxfs: identical files are stored once, small files are
//! packed, and memory use does not depend on the size of files.

use crate::support::{place, Place};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

const MIB: u64 = 1 << 20;

#[test]
fn dedupe_and_pack() {
    let place = place("mkdir tree");
    for number in 0..1200 {
        let content = vec![(number / 2) as u8; 1500 + number / 2];
        place.write(format!("tree/{number}"), content);
    }
    // One block each; one block per pair; all bytes; the bytes of one file per pair.
    for (options, size) in [
        ("--no-dedupe --tails=none", 6),
        ("--tails=none", 4),
        ("--no-dedupe", 4),
        ("", 2),
        ("--tails=all", 2),
    ] {
        place.ok(format!("mkdaxfs -q {options} tree image"));
        let found = place.path("image").metadata().unwrap().len();
        assert_eq!(found, size * MIB, "{options}");
    }
}

/// Builds an image with at most `limit` bytes of writable memory, plus some for each processor.
/// `words` are options and the input.
pub fn make_within(limit: u64, place: &Place, words: &str) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let limit = (limit + threads * 4 * MIB) / 1024;
    place.ok(format!("ulimit -d {limit} && mkdaxfs -q {words} image"));
}

/// A million files need less than 500 MB.
#[test]
fn many_files_in_little_memory() {
    let place = place("mkdir tree");
    for number in 0..50_000 {
        let directory = place.path(format!("tree/{}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir(&directory).unwrap();
        }
        let name = format!("a file with the number {number}");
        fs::write(directory.join(name), number.to_string()).unwrap();
    }
    for options in ["", "--tails=none", "--tails=all"] {
        make_within(40 * MIB, &place, &format!("{options} tree"));
    }
}

/// Large files need no more memory than small ones.
#[test]
fn large_files_in_little_memory() {
    let place = place("mkdir tree");
    for name in ["tree/one", "tree/like it"] {
        let file = File::create(place.path(name)).unwrap();
        file.set_len(2048 * MIB).unwrap();
        for at in 0..64 {
            let content = vec![at as u8 + 1; MIB as usize];
            file.write_all_at(&content, at * 31 * MIB).unwrap();
        }
    }
    make_within(20 * MIB, &place, "tree");
    let blocks = place.path("image").metadata().unwrap().blocks();
    assert!(blocks * 512 < 66 * MIB, "{blocks} blocks");
    make_within(20 * MIB, &place, "--no-dedupe tree");
}
