// SPDX-License-Identifier: GPL-2.0

//! All tests of this crate from outside in one program.

mod cli;
mod extract;
mod hostile;
mod output;
mod support;

/// A file that is not named above would not be compiled, and nobody would notice.
#[test]
fn every_file_is_named() {
    daxfs_testing::every_file_is_named(env!("CARGO_MANIFEST_DIR"), include_str!("main.rs"));
}
