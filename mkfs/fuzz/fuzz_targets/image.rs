// SPDX-License-Identifier: GPL-2.0-only

//! Read and check any image. A panic is a bug, and so is a run that does not end.
//!
//! The input is laid over a small valid image by exclusive or, so the empty input is that image and
//! no seeds are needed. The first byte says whether the checksums are put right afterwards.

#![no_main]

use daxfs_testing::{builder, reader};
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Superblock, metadata and data of the specimen without the padding after them.
static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut image = builder::specimen();
    let data = builder::superblock(&image).data;
    let size = data.offset.get() + data.length.get();
    image.truncate(size as usize);
    image[32..40].copy_from_slice(&size.to_le_bytes());
    builder::seal(&mut image);
    let memory = image.as_slice();
    assert_eq!(reader::read_everything(&memory), []);
    image
});

fuzz_target!(|input: &[u8]| {
    let (repair, input) = match input.split_first() {
        Some((first, rest)) => (first % 8 != 0, rest),
        None => (true, input),
    };
    let mut image = SMALL.clone();
    // The superblock's record first, then the tables: the zeros in between say nothing.
    let places = (0..256).chain(4096..image.len());
    for (place, byte) in places.zip(input) {
        image[place] ^= byte;
    }
    if repair {
        builder::seal(&mut image);
    }
    let memory = image.as_slice();
    reader::read_everything(&memory);
    let mut findings = 0;
    daxfs_check::check(&memory, &mut |_| {
        findings += 1;
        if findings < 1000 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
});
