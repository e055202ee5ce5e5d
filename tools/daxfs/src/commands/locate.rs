// SPDX-License-Identifier: GPL-2.0-only

//! `locate`: locates files of mounted images in memory.

use super::common::print;
use clap::Args;
use daxfs_image::error::{Error, Result};
use daxfs_image::locate::locate;
use daxfs_image::source::{cannot_open, open_now};
use daxfs_image::text::shown_path;
use rustix::io::Errno;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show where files of mounted images are in memory
///
/// Prints each file's offset in the mounted memory (a device, dma-buf, memfd, or the range of
/// phys=), its length, and its name. If a file's bytes are in a pack of the image, this fails;
/// daxfs stat shows the pack.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs locate /mnt/model.bin")]
pub struct Locate {
    /// The files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Locate {
    pub fn run(self) -> Result<ExitCode> {
        let places = self.files.iter().map(|file| place(file));
        print(&places.collect::<Result<Vec<_>>>()?.join("\n"))
    }
}

/// Returns a line with the place of the file `path` in the mounted memory.
fn place(path: &Path) -> Result<String> {
    let name = shown_path(path);
    // Otherwise a device node in the image would be opened.
    if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
        return Err(Error::refused(name, "is not a regular file"));
    }
    let file = open_now(path).map_err(|error| cannot_open(&name, error))?;
    let (offset, length) = locate(file).map_err(|error| match error {
        Errno::NODEV => {
            let why = "is not on a mounted image; findmnt -t daxfs lists those";
            Error::refused(&name, why)
        }
        Errno::OPNOTSUPP => {
            let why = "its content is in a pack of the image, which has memory of its own; \
                       'daxfs stat' of the image says which pack, and where in it";
            Error::refused(&name, why)
        }
        error => Error::system(&name, "cannot examine", "", error),
    })?;
    Ok(format!("{offset} {length} {name}"))
}
