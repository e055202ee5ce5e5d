// SPDX-License-Identifier: GPL-2.0-only

//! All integration tests of this crate in one program.

mod cli;
mod corpus;
mod damaged_images;
mod device;
mod diff;
mod extract;
mod fsck;
mod json;
mod layouts;
mod mistakes;
mod output;
mod packs;
mod places;
mod reports;
mod share;
mod sign;
mod store;
mod support;

/// A file missing from the list above would silently not be compiled.
#[test]
fn every_file_is_named() {
    daxfs_testing::every_file_is_named(env!("CARGO_MANIFEST_DIR"), include_str!("main.rs"));
}
