// SPDX-License-Identifier: GPL-2.0-only

//! Read and check any image. A panic is a bug, and so is a run that does not end.
//!
//! [`daxfs_fuzz`] makes an image of the input.

#![no_main]

use daxfs_testing::{builder, reader};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Superblock, metadata and data of the specimen without the padding after them.
static SPECIMEN: LazyLock<Vec<u8>> = LazyLock::new(|| {
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
    let image = daxfs_fuzz::overlaid(&SPECIMEN, input);
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

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 4 {
        0 => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
        _ => daxfs_fuzz::mutate(&SPECIMEN, data, size, seed),
    }
});
