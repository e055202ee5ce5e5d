// SPDX-License-Identifier: GPL-2.0-only

//! Mounted images: `info` of a directory, and `locate`.

use crate::top::{line, Mounted, SYSFS};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{cannot_open, open_now};
use daxfs_image::text::{shown, shown_path};
use daxfs_load::{locate, mountinfo, query};
use rustix::fs::{fstat, major, minor};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use uuid::Uuid;

/// Return the error for a path that is not on a mounted image.
fn not_mounted(path: &Path) -> Error {
    let why = "is not on a mounted image; findmnt -t daxfs lists those";
    Error::refused(shown_path(path), why)
}

/// Open a directory or a regular file of a mounted image.
fn open(path: &Path) -> Result<File> {
    open_now(path).map_err(|error| cannot_open(&shown_path(path), error))
}

fn failed(path: &Path, error: Errno) -> Error {
    Error::system(shown_path(path), "cannot examine", "", error)
}

/// Return lines about the image that is mounted on `dir`.
pub fn info(dir: &Path) -> Result<String> {
    let file = open(dir)?;
    let failed = |error| failed(dir, error);
    let device = fstat(&file).map_err(failed)?.st_dev;
    let sysfs = Path::new(SYSFS).join(format!("{}:{}", major(device), minor(device)));
    let start = line(&sysfs, "offset").and_then(|text| text.to_str()?.parse::<u64>().ok());
    let start = start.ok_or_else(|| not_mounted(dir))?;
    let label = query::label(&file).map_err(failed)?;
    let uuid = Uuid::from_bytes(query::uuid(&file).map_err(failed)?);
    let mounts = fs::read(mountinfo::PATH).unwrap_or_default();
    let mounted = Mounted::read(&sysfs, &mounts);
    let mounted = mounted.ok_or_else(|| Error::refused(shown_path(dir), "was unmounted"))?;
    let device = line(&sysfs, "device").unwrap_or_default();
    Ok(format!(
        "Label:          {}\n\
         UUID:           {uuid}\n\
         Image size:     {} bytes\n\
         Inodes:         {}\n\
         Source:         {}\n\
         Device:         {}, from byte {:#x}\n\
         Mapped by:      {}",
        shown(&label),
        mounted.size,
        mounted.inodes,
        shown(mounted.source.as_bytes()),
        shown(device.as_bytes()),
        start,
        mounted.mapping,
    ))
}

/// Return a line about where the file `path` is in the mounted memory.
pub fn place(path: &Path) -> Result<String> {
    let name = shown_path(path);
    // Devices of the image would be opened.
    if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
        return Err(Error::refused(name, "is not a regular file"));
    }
    let (offset, length) = locate(open(path)?).map_err(|error| match error {
        Errno::NODEV => not_mounted(path),
        error => failed(path, error),
    })?;
    Ok(format!("{offset} {length} {name}"))
}
