// SPDX-License-Identifier: GPL-2.0-only

//! Reads and checks any image. A panic is a bug, and so is a run that does not end.
//!
//! [`overlay`] makes an image from the input.

#![no_main]

use daxfs_testing::{overlay, specimen};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::sync::LazyLock;

/// The image on which inputs are overlaid.
static SPECIMEN: LazyLock<Vec<u8>> = LazyLock::new(specimen::unpadded);

fuzz_target!(|input: &[u8]| overlay::read_and_check(&overlay::overlaid(&SPECIMEN, input)));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 4 {
        0 => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
        _ => overlay::mutate(&SPECIMEN, data, size, seed),
    }
});
