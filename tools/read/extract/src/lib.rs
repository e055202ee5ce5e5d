// SPDX-License-Identifier: GPL-2.0-only

//! Extract an image to a directory or a tar archive.

mod attributes;
mod cursor;
mod dir;
mod links;
mod losses;
mod pax;
mod tar;

pub use dir::to_directory;
pub use losses::Losses;
pub use tar::{to_tar, unwritten};
