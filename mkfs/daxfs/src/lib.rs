// SPDX-License-Identifier: GPL-2.0

//! Makes, reads and checks daxfs images. `mkdaxfs` is a command line around this library.
//!
//! An image is made in steps, each a room of its own, and data flows one way:
//!
//! 1. [`input`] reads directories, archives and images into a [`tree`]: everything but the content of files.
//! 2. [`plan`] gives every inode its number and every byte its place.
//! 3. [`write`](mod@write) writes the plan to a file, [`content`] the data of the tree's files, piece by piece of the
//!    image; [`digest`](mod@digest) is made from the pieces.
//!
//! [`make`] runs them all, and reads the image back. [`Output`] sees to it that nothing unfinished appears under the final name.

pub mod acl;
pub mod adjust;
mod arrange;
pub mod bar;
mod build;
pub mod cached;
pub mod check;
pub mod compare;
pub mod content;
pub mod contexts;
pub mod device;
pub mod digest;
mod directory;
pub mod duplicates;
mod error;
pub mod exclude;
pub mod fakeroot;
#[path = "../../../src/image/mod.rs"]
pub mod image;
pub mod input;
mod listing;
mod make;
pub mod memory;
pub mod mode;
mod origin;
mod output;
mod overwrite;
pub mod plan;
mod progress;
pub mod scan;
pub mod signals;
mod source;
pub mod stdout;
pub mod tree;
pub mod values;
pub mod write;
mod xattr;

pub use error::{cause, Error, Result};
pub use make::{make, measure, Summary};
pub use output::{scratch, Output};
pub use overwrite::Overwrite;
pub use progress::{Progress, Silent};
