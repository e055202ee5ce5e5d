// SPDX-License-Identifier: GPL-2.0-only

//! Reports the result.

use crate::options::Args;
use daxfs_command::stdout::{self, say};
use daxfs_writer::{shown, Summary};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// An image to report.
pub struct Made<'a> {
    /// Its name.
    pub image: &'a Path,
    /// Its size in bytes.
    pub size: u64,
    /// Its number of inodes.
    pub inodes: u64,
    /// The rest, unless nothing was written.
    pub written: Option<&'a Summary>,
    /// How long it took.
    pub took: Duration,
}

/// Print it; on standard error if standard output has the image.
///
/// If standard output cannot be written, the image is complete nevertheless.
pub fn tell(args: &Args, made: &Made<'_>, on_stdout: bool) -> Result<(), stdout::Error> {
    if args.quiet {
        return Ok(());
    }
    let text = line(made);
    if on_stdout {
        // Errors have no other place.
        let _ = writeln!(std::io::stderr(), "{text}");
        return Ok(());
    }
    say(&text)
}

fn line(made: &Made<'_>) -> String {
    let (image, size, inodes) = (shown(made.image), made.size, made.inodes);
    match made.written {
        None => format!("{image}: would have {size} bytes, {inodes} inodes"),
        Some(written) => format!(
            "{image}: {size} bytes, {inodes} inodes, {:.2} s, uuid {}, sha256 {}",
            made.took.as_secs_f64(),
            written.uuid,
            daxfs_check::digest::hex(&written.digest),
        ),
    }
}
