// SPDX-License-Identifier: GPL-2.0-only

//! `dump`: print the superblock and all files of an image in JSON.

use super::common::{on_image, ImageAt};
use crate::record;
use clap::Args;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::{Event, Reader};
use std::io::Write;
use std::process::ExitCode;

/// Print the superblock and all files of an image in JSON
///
/// Prints one object with the members superblock and files, sorted by path, one file per line.
/// Names and values are strings if they are UTF-8, otherwise objects with the member base64.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs dump base.img | jq -r '.files[] | select(.type == \"file\") | .path'
  daxfs dump --sums base.img >base.json")]
pub struct Dump {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// Add the SHA-256 of each file's content
    #[arg(long)]
    sums: bool,
}

impl Dump {
    pub fn run(self) -> Result<ExitCode> {
        on_image(&self.image.open_with(&self.packs)?, |reader, out| {
            dump(reader, self.sums, out)
        })
    }
}

/// Writes the superblock and every file in JSON, sorted by path, with the SHA-256 of each file's
/// content if `sums`.
pub fn dump<S: Storage>(reader: &Reader<'_, S>, sums: bool, out: &mut impl Write) -> Result<()> {
    let header = record::header(reader, None)?;
    let root = reader.root()?;
    written(write!(
        out,
        "{{\"schema\":\"daxfs-dump-1\",\"superblock\":{header},\n\"files\":["
    ))?;
    let mut separator = "\n";
    reader.walk(&root, b"/", &mut |path, _, event| {
        let (Event::Enter(inode) | Event::File(inode)) = event else {
            return Ok(());
        };
        let record = record::file(reader, path, inode, sums)?;
        written(write!(out, "{separator}{record}"))?;
        separator = ",\n";
        Ok(())
    })?;
    Ok(written(writeln!(out, "\n]}}"))?)
}
