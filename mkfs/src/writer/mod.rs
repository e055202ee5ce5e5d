// SPDX-License-Identifier: GPL-2.0-only

//! Writes daxfs images.
//!
//! An image is written in steps, and data flows one way:
//!
//! 1. A [`build::Builder`] collects a [`tree`]: everything but the content of regular files, which
//!    stays at its [`origin`]. [`crate::input`] builds trees from directories, archives and images.
//! 2. [`plan`] assigns every inode a number and every byte a place. [`duplicates`] finds files with
//!    the same content.
//! 3. [`write`](mod@write) writes the metadata, [`content`] the data of regular files.
//! 4. The finished image is read back, checked against every rule of the format, and compared with
//!    the written bytes.
//!
//! [`make`](fn@make) runs steps 2 to 4.
//!
//! ```
//! use daxfs_files::{Silent, Output};
//! use mkdaxfs::writer::tree::{Attributes, Kind, Node, ROOT};
//! use mkdaxfs::writer::{build::Builder, make, options::Options, origin::Origin};
//!
//! let mut builder = Builder::new();
//! builder.tree.origins.push(Origin::nothing("example".as_ref()));
//! let name = builder.tree.keep_name(b"link");
//! let link = builder.add(Node {
//!     attributes: Attributes { permissions: 0o777, uid: 0, gid: 0, mtime: (0, 0), xattrs: 0 },
//!     parent: ROOT,
//!     name,
//!     origin: 0,
//!     kind: Kind::Symlink(b"target".as_slice().into()),
//! })?;
//! builder.set(ROOT, name, link);
//! let tree = builder.finish();
//!
//! let directory = tempfile::tempdir()?;
//! let output = Output::create(&directory.path().join("image"))?;
//! let summary = make(&tree, &Options::default(), &output, &Silent)?;
//! assert_eq!(summary.inodes, 2);
//! output.commit(&Silent)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod acl;
mod arrange;
pub mod build;
pub mod content;
pub mod directory;
pub mod duplicates;
mod make;
mod open_file;
pub mod options;
pub mod origin;
pub mod overlay;
pub mod plan;
pub mod tree;
pub mod write;

pub use make::{make, measure, Summary};
