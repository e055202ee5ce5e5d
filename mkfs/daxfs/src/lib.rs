// SPDX-License-Identifier: GPL-2.0

//! The programs `daxfs`, `mount.daxfs` and `fsck.daxfs`.
//!
//! * [`options`]: the command lines
//! * [`source`]: where an image comes from; [`reader`]: files in it
//! * [`show`], [`extract`], [`diff`], [`fsck`], [`fuse`]: what is done with it
//! * `buffer`, `image`, `mount`: memory for images, and mounting it

mod buffer;
mod commands;
pub mod diff;
mod error;
pub mod extract;
pub mod fsck;
pub mod fuse;
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
