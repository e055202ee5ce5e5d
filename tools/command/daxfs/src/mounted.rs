// SPDX-License-Identifier: GPL-2.0-only

//! Mounted images: `info` of a directory, and `locate`.

use crate::top::{line, Mounted, SYSFS};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{cannot_open, open_now};
use daxfs_image::text::{shown, shown_path, Bytes};
use daxfs_load::{mountinfo, query};
use rustix::fs::{fstat, major, minor, Stat};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// An open file of a mounted image.
struct Inside {
    file: File,
    status: Stat,
    /// The mount's directory in sysfs.
    sysfs: PathBuf,
    /// Offset of the image in its memory.
    start: u64,
}

impl Inside {
    fn open(path: &Path) -> Result<Self> {
        let name = shown_path(path);
        let file = open_now(path).map_err(|error| cannot_open(&name, error))?;
        let status = fstat(&file).map_err(|error| failed(path, error))?;
        let device = format!("{}:{}", major(status.st_dev), minor(status.st_dev));
        let sysfs = Path::new(SYSFS).join(device);
        let start = line(&sysfs, "offset").and_then(|text| text.to_str()?.parse().ok());
        let start = start.ok_or_else(|| {
            let why = "is not on a mounted image; findmnt -t daxfs lists those";
            Error::refused(name, why)
        })?;
        Ok(Inside {
            file,
            status,
            sysfs,
            start,
        })
    }
}

fn failed(path: &Path, error: rustix::io::Errno) -> Error {
    Error::system(shown_path(path), "cannot examine", "", error)
}

/// Return lines about the image that is mounted on `dir`.
pub fn info(dir: &Path) -> Result<String> {
    let inside = Inside::open(dir)?;
    let failed = |error| failed(dir, error);
    let label = query::label(&inside.file).map_err(failed)?;
    let uuid = Uuid::from_bytes(query::uuid(&inside.file).map_err(failed)?);
    let mounts = fs::read(mountinfo::PATH).unwrap_or_default();
    let mounted = Mounted::read(&inside.sysfs, &mounts);
    let mounted = mounted.ok_or_else(|| Error::refused(shown_path(dir), "was unmounted"))?;
    let device = line(&inside.sysfs, "device").unwrap_or_default();
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
        inside.start,
        mounted.mapping,
    ))
}

/// Return a line about where the file `path` is in the mounted memory, in JSON or in text.
pub fn place(path: &Path, json: bool) -> Result<String> {
    let name = shown_path(path);
    // Devices of the image would be opened.
    if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
        return Err(Error::refused(name, "is not a regular file"));
    }
    let inside = Inside::open(path)?;
    let offset = query::offset(&inside.file).map_err(|error| failed(path, error))?;
    let (offset, length) = (inside.start + offset, inside.status.st_size);
    if json {
        let (schema, path) = ("daxfs-locate-1", Bytes(path.as_os_str().as_bytes()));
        let place = json!({ "schema": schema, "path": path, "offset": offset, "length": length });
        return Ok(place.to_string());
    }
    Ok(format!("{offset} {length} {name}"))
}
