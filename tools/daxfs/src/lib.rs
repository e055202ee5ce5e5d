// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `daxfs`, `mount.daxfs` and `fsck.daxfs`.
//!
//! [`main`] runs them. The rest is public for tests, fuzz targets and the manual pages.
//!
//! * [`options`]: the command lines
//! * [`show`], [`record`], [`diff`], [`fsck`]: what is in an image
//! * [`fuse`]: serve an image through FUSE; [`share`]: share it with virtual machines
//! * `top`, `mounted`: counters of mounted images, and where their files are
//!
//! The commands that do more are in crates of their own: `daxfs-load`, `daxfs-extract`.

mod commands;
pub mod diff;
pub mod fsck;
pub mod fuse;
mod mounted;
pub mod options;
pub mod record;
pub mod share;
pub mod show;
mod top;

pub use commands::main;
