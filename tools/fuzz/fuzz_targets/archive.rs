// SPDX-License-Identifier: GPL-2.0-only

//! Archives and container images, read and made into images as by mkdaxfs. A panic is a bug, and so
//! are a run that does not end, an invalid image, a message of two lines, and a leftover file.
//!
//! The input controls how an archive is put together, so no seeds are needed.

#![no_main]

use daxfs_testing::{feed, fuzz_directory};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The directory for all output.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(fuzz_directory);

fuzz_target!(|input: &[u8]| feed::feed(input, &DIRECTORY));
