// SPDX-License-Identifier: GPL-2.0-only

//! Load images into memory, write them to devices, and mount them.
//!
//! * [`mount()`] mounts a device; [`load`] chooses the memory that an image file is loaded into
//! * [`file`], [`buffer`]: image files, and memory with a copy of one
//! * [`mod@range`]: physical memory that an image is written to
//! * [`catalog`]: stores on devices and in files
//! * [`mountinfo`], [`query`]: what is mounted

pub mod buffer;
pub mod catalog;
pub mod context;
pub mod file;
mod huge;
pub mod mount;
pub mod mountinfo;
pub mod query;
pub mod range;
mod serve;

pub use buffer::Kind;
pub use mount::{load, load_on, mount};
pub use serve::serve_on;
