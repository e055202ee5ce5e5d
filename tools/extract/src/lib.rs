// SPDX-License-Identifier: GPL-2.0-only

//! Extracts an image to a directory or a tar archive.

mod attributes;
pub mod cursor;
mod dir;
mod links;
mod pax;
mod tar;

pub use daxfs_files::Losses;
pub use dir::to_directory;
pub use tar::{to_tar, unwritten};
