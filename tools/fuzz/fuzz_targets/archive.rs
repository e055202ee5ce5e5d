// SPDX-License-Identifier: GPL-2.0-only

//! Archives and container images, as mkdaxfs reads them and makes images of them. A panic is a bug,
//! and so are a run that does not end, an image that is not valid, a message of two lines, and a
//! file that remains.
//!
//! The input says how to put an archive together, so no seeds are needed.

#![no_main]

use daxfs_testing::{feed, fuzz_directory};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Where everything is written to.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(fuzz_directory);

fuzz_target!(|input: &[u8]| feed::feed(input, &DIRECTORY));
