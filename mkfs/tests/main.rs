// SPDX-License-Identifier: GPL-2.0-only

//! All integration tests of this crate in one program.

mod archives;
mod artifacts;
mod cli;
mod containers;
mod control;
mod damaged_archives;
mod equivalent_inputs;
mod fakeroot;
mod fidelity;
mod foreign;
mod interrupt;
mod library;
mod links;
mod lists;
mod memory_use;
mod mistakes;
mod outputs;
mod private;
mod producers;
mod support;

/// A file missing from the list above would silently not be compiled.
#[test]
fn every_file_is_named() {
    daxfs_testing::every_file_is_named(env!("CARGO_MANIFEST_DIR"), include_str!("main.rs"));
}
