// SPDX-License-Identifier: GPL-2.0-only

//! Reads directories, tar archives, container images and daxfs images into file trees, for
//! [`crate::writer`].
//!
//! The tree does not depend on the kind of input: equal files give equal trees.
//!
//! * [`Input`]: what to read; [`read`] merges several inputs, [`layer`] a container image's layer
//! * [`scan`](mod@scan): directories; [`exclude`]: patterns for files to leave out
//!
//! ```
//! use mkdaxfs::input::{read, Input, Options};
//!
//! let directory = tempfile::tempdir()?;
//! std::fs::write(directory.path().join("file"), "text")?;
//! let scratch = std::env::temp_dir();
//! let options = Options {
//!     warn: &|warning| eprintln!("{warning}"),
//!     ..Options::new(&scratch)
//! };
//! let input = Input::Directory(directory.path().into());
//! let tree = read(&[input], &options)?;
//! assert_eq!(tree.nodes.len(), 2);
//! assert_eq!(tree.content_size(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod blob;
mod budget;
mod decoder;
pub mod exclude;
pub mod fakeroot;
mod image;
mod inputs;
mod listing;
mod marks;
mod member;
mod oci;
mod options;
mod platform;
pub mod scan;
mod stream;
mod tar;
pub mod xattr;

pub use inputs::{read, Input};
pub use oci::{is_layer, layer, Blobs, OciImage, PULL};
pub use options::Options;
pub use platform::Platform;
