// SPDX-License-Identifier: GPL-2.0-only

//! The programs `daxfs`, `mount.daxfs` and `fsck.daxfs`: show, check, extract, serve, load and
//! mount images.
//!
//! [`main`] runs them. The rest is public for tests, fuzz targets and the manual pages; use
//! `daxfs-reader` and `daxfs-check` to read images in other programs.
//!
//! * [`options`]: the command lines
//! * [`source`]: files, devices and pipes with images; [`reader`]: files in images
//! * [`show`], [`map`], [`waste`], [`extract`], [`diff`], [`fsck`], [`fuse`]: the commands
//! * `buffer`, `image`, `mount`, `unmount`: load images into memory and mount them; [`load`] does both
//! * [`share`]: memory of virtual machines
//! * `artifact`: images in OCI image layouts; [`chain`]: names of images of layers
//! * `top`: counters of mounted images
//!
//! The parts work without the program:
//!
//! ```
//! use daxfs::source::Opened;
//! use std::path::Path;
//!
//! let opened = Opened::open(Path::new("../reader/tests/small.daxfs"))?;
//! let reader = opened.reader();
//! let link = reader.find(b"/link", false)?;
//! assert_eq!(reader.target(&link, b"/link")?, b"hello");
//!
//! let error = reader.find(b"/none", true).unwrap_err().to_string();
//! assert!(error.starts_with("../reader/tests/small.daxfs: /none: no such file"));
//! # Ok::<(), daxfs::Error>(())
//! ```

mod artifact;
mod buffer;
pub mod catalog;
pub mod chain;
mod commands;
pub mod diff;
mod error;
pub mod extract;
pub mod fsck;
pub mod fuse;
mod huge;
mod image;
pub mod map;
mod mapping;
mod mount;
pub mod mountinfo;
pub mod options;
pub mod reader;
pub mod record;
pub mod share;
pub mod show;
mod sign;
pub mod source;
pub mod text;
mod top;
mod unmount;
pub mod waste;

pub use buffer::Kind;
pub use commands::{load, main, mount};
pub use error::{Error, Result};
pub use sign::{certificates, verify};
