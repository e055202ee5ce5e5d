// SPDX-License-Identifier: GPL-2.0-only

//! Loads images into memory, writes them to devices, and mounts them.
//!
//! * [`mount`] mounts devices, and image files after loading them; [`packs`] supplies the packs of
//!   both
//! * [`mod@file`], [`buffer`]: image files, and memory that holds a copy of one
//! * [`mod@range`]: physical memory as a target for images
//! * [`catalog`]: stores on devices and in files
//! * [`mountinfo`], [`query`]: what is mounted

pub mod buffer;
pub mod catalog;
pub mod context;
pub mod file;
mod huge;
pub mod mount;
pub mod mountinfo;
mod options;
pub mod packs;
pub mod query;
pub mod range;
mod serve;

pub use buffer::Kind;
pub use mount::{load_on, Loading};
pub use packs::{Loaded, Packs, Room};
pub use serve::serve_on;
