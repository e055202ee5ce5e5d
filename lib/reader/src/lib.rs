// SPDX-License-Identifier: GPL-2.0-only OR MIT

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod catalog;
mod entries;
mod extra;
mod file;
pub mod hash;
// A link to the directory from which the kernel module is built; a copy of the files in a package.
// The kernel's clippy does not limit functions.
#[allow(clippy::too_many_lines)]
mod image;
mod path;
mod slice;

pub use entries::Entries;
pub use file::OwnedXattr;
pub use image::*;
pub use path::FindError;

impl std::error::Error for Error {}
