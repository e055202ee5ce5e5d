// SPDX-License-Identifier: GPL-2.0-only

//! Runs every function of the program `daxfs` on an image: show, list, dump, check, compare,
//! unpack. A panic is a bug, and so are a run that does not end, a message of two lines, and a file
//! left by a failure.
//!
//! [`overlay`] makes an image from the input.

#![no_main]

use daxfs_testing::{everything, fuzz_directory, overlay, specimen};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::path::PathBuf;
use std::sync::LazyLock;

/// The image on which inputs are overlaid.
static SPECIMEN: LazyLock<Vec<u8>> = LazyLock::new(specimen::specimen);

/// The directory to which images are unpacked.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(fuzz_directory);

fuzz_target!(|input: &[u8]| {
    let image = overlay::overlaid(&SPECIMEN, input);
    everything::everything(&image, &DIRECTORY);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 4 {
        0 => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
        _ => overlay::mutate(&SPECIMEN, data, size, seed),
    }
});
