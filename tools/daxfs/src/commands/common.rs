// SPDX-License-Identifier: GPL-2.0-only

//! Code shared by the commands.

use clap::error::ErrorKind;
use daxfs_files::region::Region;
use daxfs_files::stdout::{written, Out};
use daxfs_files::usage;
use daxfs_image::error::Result;
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::Reader;
use daxfs_image::source::{At, Opened};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status for wrong usage.
pub const USAGE: u8 = 2;

/// An image, for commands that read one.
#[derive(clap::Args)]
pub struct ImageAt {
    /// The image
    pub image: PathBuf,
    #[command(flatten)]
    pub at: At,
}

impl ImageAt {
    /// Opens the image.
    pub fn open(&self) -> Result<Opened> {
        Opened::open_at(&self.image, &self.at)
    }

    /// Opens the image and its packs: `packs`, and those in its store.
    pub fn open_with(&self, packs: &PackFiles) -> Result<Opened> {
        let mut opened = self.open()?;
        packs.join(&mut [(&self.image, &self.at, &mut opened)])?;
        Ok(opened)
    }
}

/// Prints `why` a command line is refused.
pub fn wrong_usage(why: &str) -> Result<ExitCode> {
    let error = clap::Error::raw(ErrorKind::ArgumentConflict, why);
    Ok(usage("daxfs", &error, USAGE))
}

/// Prints a line.
pub fn print(line: &str) -> Result<ExitCode> {
    let mut out = Out::open();
    written(writeln!(out, "{line}"))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Calls `action` with a reader of the image and standard output.
pub fn on_image(
    image: &Opened,
    action: impl FnOnce(&Reader<'_, Region>, &mut Out) -> Result<()>,
) -> Result<ExitCode> {
    let mut out = Out::open();
    let reader = image.reader();
    let done = action(&reader, &mut out).and_then(|()| reader.check_replaced());
    // Even before an error, output is useful.
    let finished = out.finish();
    done?;
    finished?;
    Ok(ExitCode::SUCCESS)
}
