// SPDX-License-Identifier: GPL-2.0-only

//! The directories in which images and packs of stores are mounted.

use crate::files::{failed, RUN};
use daxfs_image::error::Result;
use daxfs_load::mountinfo::{self, mounts, Mount};
use std::collections::HashSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Hexadecimal digits of a SHA-256 in the name of a directory, and of an image on a device.
pub const DIGITS: usize = 32;

/// Return the images and packs that are mounted, from the content of /proc/self/mountinfo.
pub fn loaded(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mounts(text).filter(|mount| mount.kind == b"daxfs" && mount.place.starts_with(RUN))
}

/// Return the SHA-256 of the images and packs that are mounted, of which the start is enough.
pub fn in_use() -> Result<HashSet<String>> {
    let text = mountinfo::read()?;
    Ok(loaded(&text).map(|mount| start_of(&mount.place)).collect())
}

/// Return the start of the SHA-256 of the image whose place is this directory below [`RUN`].
pub fn start_of(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(DIGITS).collect()
}

/// Make the directory `path` and those above it, which only root can enter.
pub fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, "make the directory", error))
}
