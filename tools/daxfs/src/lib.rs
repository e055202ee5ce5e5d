// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `daxfs`, `mount.daxfs` and `fsck.daxfs`.
//!
//! [`main`] runs them. The rest is public for tests, fuzz targets and the manual pages. Each
//! command is a file of [`commands`].
//!
//! Larger commands have crates of their own: `daxfs-load`, `daxfs-extract`, `daxfs-store`.

pub mod commands;
mod record;

pub use commands::main;
