// SPDX-License-Identifier: GPL-2.0-only

//! `digest`: print the SHA-256 of an image.

use super::common::{print, ImageAt};
use clap::Args;
use daxfs_files::digest::hex;
use daxfs_image::error::Result;
use std::process::ExitCode;

/// Print the SHA-256 of an image, for the mount option digest=
///
/// The digest covers all bytes of the image except the superblock's own SHA-256 and checksum, so
/// sha256sum prints something else. If the superblock has a different digest, the image is damaged,
/// and this command fails.
#[derive(Args)]
#[command(after_help = "\
Examples:
  mount -t daxfs -o digest=$(daxfs digest base.img) /dev/pmem0 /mnt")]
pub struct Digest {
    #[command(flatten)]
    image: ImageAt,
}

impl Digest {
    pub fn run(self) -> Result<ExitCode> {
        print(&hex(&self.image.open()?.digest()?))
    }
}
