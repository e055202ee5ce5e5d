// SPDX-License-Identifier: GPL-2.0-only

//! The programs `daxfs`, `mount.daxfs` and `fsck.daxfs`: show, check, extract, serve, load and
//! mount images.
//!
//! [`main`] runs them. The rest is public for tests, fuzz targets and the manual pages; use
//! `daxfs-reader` and `daxfs-check` to read images in other programs.
//!
//! * [`options`]: the command lines
//! * [`source`]: files, devices and pipes with images; [`reader`]: files in images
//! * [`show`], [`extract`], [`diff`], [`fsck`], [`fuse`]: the commands
//! * `buffer`, `image`, `mount`: load images into memory and mount them

mod buffer;
mod commands;
pub mod diff;
mod error;
pub mod extract;
pub mod fsck;
pub mod fuse;
mod huge;
mod image;
mod mapping;
mod mount;
pub mod options;
pub mod reader;
pub mod record;
pub mod show;
pub mod source;
pub mod text;

pub use commands::main;
pub use error::{Error, Result};
