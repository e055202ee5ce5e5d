// SPDX-License-Identifier: GPL-2.0-only

//! All integration tests of this crate in one program.

mod corruption;
#[macro_use]
mod damage;
mod lookup;
mod packs;
mod problems;
mod rules;

/// A file missing from the list above would silently not be compiled.
#[test]
fn every_file_is_named() {
    daxfs_testing::every_file_is_named(env!("CARGO_MANIFEST_DIR"), include_str!("main.rs"));
}
