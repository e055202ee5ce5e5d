// SPDX-License-Identifier: GPL-2.0-only

//! Checks daxfs images in files and on block devices.
//!
//! * [`memory`]: images in files, as [`daxfs_reader`] reads them, with their holes; [`cached`]
//!   makes it cheap
//! * [`check`]: check an image against every rule of the format
//! * [`digest`](mod@digest): the SHA-256 of an image
//! * [`acl`]: access control lists, as `setxattr(2)` validates them
//! * [`Progress`]: reports how far an operation is
//!
//! ```
//! use daxfs_check::{check, memory::FileMemory};
//! use std::ops::ControlFlow;
//!
//! let file = std::fs::File::open("../../read/reader/tests/small.daxfs")?;
//! let mut findings = Vec::new();
//! check(&FileMemory::new(&file)?, &mut |finding| {
//!     findings.push(finding);
//!     ControlFlow::Continue(())
//! });
//! assert_eq!(findings, []);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod acl;
pub mod cached;
pub mod digest;
pub mod memory;
mod progress;
mod rules;

pub use progress::{Progress, Silent};
pub use rules::{check, first, Finding, Paths};
