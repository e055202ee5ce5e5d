// SPDX-License-Identifier: GPL-2.0-only

//! Opens images by name, for all programs, with errors that include the remedy.
//!
//! * [`source`]: files, devices and pipes with images; their SHA-256; [`reader`]: files in images
//! * [`packs`]: the packs of composed images
//! * [`sign`]: signatures of images; [`attach`]: their place in files
//! * [`catalog`]: stores on devices and in files; [`mod@locate`]: where files of mounted images are
//! * [`text`] and [`error`]: the form of names and errors; [`warning`]: the destination of warnings
//!
//! `daxfs-reader` and `daxfs-check` implement the format for other programs.
//!
//! ```
//! use daxfs_image::source::Opened;
//! use std::path::Path;
//!
//! let opened = Opened::open(Path::new("../reader/tests/small.daxfs"))?;
//! let reader = opened.reader();
//! let link = reader.find(b"/link", false)?;
//! assert_eq!(reader.target(&link, b"/link")?, b"hello");
//!
//! let error = reader.find(b"/none", true).unwrap_err().to_string();
//! assert!(error.starts_with("../reader/tests/small.daxfs: /none: no such file"));
//! # Ok::<(), daxfs_image::Error>(())
//! ```

pub mod attach;
pub mod catalog;
pub mod error;
pub mod locate;
pub mod packs;
pub mod reader;
pub mod sign;
pub mod source;
pub mod text;
pub mod warning;

pub use error::{Error, Result};

use daxfs_files::signals::Interrupt;

/// Remembers the signals that end a program, for code that cleans up.
pub fn handle_signals() -> Result<Interrupt> {
    Interrupt::new().map_err(|error| Error::system("", "cannot handle signals", "", error))
}
