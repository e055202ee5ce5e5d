// SPDX-License-Identifier: GPL-2.0-only

//! Makes daxfs images: the library of the program `mkdaxfs`.
//!
//! * [`input`]: directories, archives, container images and images as trees of files
//! * [`writer`]: trees of files, and images made of them
//! * [`options`]: the program's command line

pub mod input;
pub mod options;
pub mod writer;
