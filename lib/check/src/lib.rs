// SPDX-License-Identifier: GPL-2.0-only

//! Checks daxfs images in files and on block devices.
//!
//! * [`check`]: checks an image against every rule of the format, quickly if the memory is
//!   [`cached`]. [`check_with_packs`] also covers content in a composed image's packs
//! * [`acl`]: access control lists, as `setxattr(2)` validates them
//!
//! ```
//! use daxfs_check::check;
//! use daxfs_files::region::Region;
//! use std::ops::ControlFlow;
//!
//! let file = std::fs::File::open("../reader/tests/small.daxfs")?;
//! let mut findings = Vec::new();
//! check(&Region::of(&file)?, &mut |finding| {
//!     findings.push(finding);
//!     ControlFlow::Continue(())
//! });
//! assert_eq!(findings, []);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod acl;
pub mod cached;
mod rules;

pub use rules::{check, check_with_packs, first, Finding, Paths};
