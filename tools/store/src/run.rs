// SPDX-License-Identifier: GPL-2.0-only

//! The directories in which images and packs of stores are mounted.

use crate::files::{failed, RUN};
use daxfs_image::error::Result;
use daxfs_load::mountinfo::{mounts, Mount};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Hexadecimal digits of a SHA-256 in the name of a directory, and of a pack on a device.
pub const DIGITS: usize = 32;

/// Return the images and packs that are mounted, from the content of /proc/self/mountinfo.
pub fn loaded(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mounts(text).filter(|mount| mount.kind == b"daxfs" && mount.mount_point.starts_with(RUN))
}

/// Make the directory `path` and those above it, which only root can enter.
pub fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, "make the directory", error))
}
