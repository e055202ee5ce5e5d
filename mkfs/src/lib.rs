// SPDX-License-Identifier: GPL-2.0-only

//! Makes daxfs images: the library of the program `mkdaxfs`.
//!
//! * [`input`]: reads directories, archives, container images and daxfs images as trees of files
//! * [`writer`]: trees of files, and images made from them
//! * [`options`]: the program's command line

pub mod input;
pub mod options;
pub mod writer;
