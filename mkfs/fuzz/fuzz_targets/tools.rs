// SPDX-License-Identifier: GPL-2.0-only

//! Everything that the program `daxfs` does with an image: show, list, dump, check, compare,
//! unpack. A panic is a bug, and so are a run that does not end, a message of two lines, and a file
//! that remains after a failure.
//!
//! As in `image`, the input is laid over a small valid image, and its first byte says whether the
//! checksums are put right afterwards.

#![no_main]

use daxfs_testing::{builder, everything, fuzz_directory};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Where images are unpacked to.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(fuzz_directory);

fuzz_target!(|input: &[u8]| {
    let (repair, input) = match input.split_first() {
        Some((first, rest)) => (first % 8 != 0, rest),
        None => (true, input),
    };
    let mut image = builder::specimen();
    // The superblock's record first, then the tables: the zeros in between say nothing.
    let places = (0..256).chain(4096..image.len());
    for (place, byte) in places.zip(input) {
        image[place] ^= byte;
    }
    if repair {
        builder::seal(&mut image);
    }
    everything::everything(&image, &DIRECTORY);
});
