// SPDX-License-Identifier: GPL-2.0-only

//! Stores, wherever they are.

use crate::device::Device;
use crate::listing::Listing;
use crate::store::{Freed, Store};
use crate::verify::Verified;
use daxfs_files::Progress;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::catalog::init;
use std::path::{Path, PathBuf};

/// Where a store is.
pub enum Place {
    /// In a directory, which may not exist yet.
    Directory(PathBuf),
    /// On a device, or in a file that backs a VM's memory.
    Device(Device),
}

impl Place {
    /// Returns the store `path`: on a device or in a file, if `path` is one.
    pub fn new(path: &Path) -> Self {
        match path.metadata() {
            Ok(found) if !found.is_dir() => Place::Device(Device(path.into())),
            _ => Place::Directory(path.into()),
        }
    }

    /// Creates an empty store: on the device or in the file `path`, in a new file of `size` bytes,
    /// or in a directory. `force` overwrites the content of a device.
    pub fn init(path: &Path, size: Option<u64>, force: bool) -> Result<()> {
        match Self::new(path) {
            Place::Directory(path) if size.is_none() => {
                if force {
                    let why = "is for devices and files; name an empty directory without it";
                    return Err(Error::refused("--force", why));
                }
                if Store::open(&path).is_ok() {
                    return Err(Error::refused(shown_path(&path), "is a store already"));
                }
                Store::create(&path).map(drop)
            }
            _ => init(path, size, force),
        }
    }

    /// Makes `name` the image to mount if no name is given.
    pub fn activate(&self, name: &str) -> Result<()> {
        match self {
            Place::Directory(path) => Store::change(path)?.activate(name),
            Place::Device(device) => device.activate(name),
        }
    }

    /// Returns all images. Calls `report` for each damaged image, which is left out, and for each
    /// one with a missing pack.
    pub fn list(&self, report: &mut dyn FnMut(Error)) -> Result<Listing> {
        match self {
            Place::Directory(path) => Ok(Listing {
                images: Store::open(path)?.list(report)?,
                device: None,
            }),
            Place::Device(device) => device.list(report),
        }
    }

    /// Removes the image `name`. Its packs remain until [`Place::gc`], and mounts still work.
    pub fn remove(&self, name: &str) -> Result<()> {
        match self {
            Place::Directory(path) => Store::change(path)?.remove(name),
            Place::Device(device) => device.remove(name),
        }
    }

    /// Removes what no image needs, see [`Store::gc`].
    pub fn gc(&self, report: &mut dyn FnMut(Error)) -> Result<Freed> {
        match self {
            Place::Directory(path) => Store::change(path)?.gc(report),
            Place::Device(device) => device.gc(report),
        }
    }

    /// Checks every image and pack against the rules of the format and its SHA-256, every object
    /// against its name, and that images find their objects. Calls `report` for each problem.
    pub fn verify(
        &self,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<Verified> {
        match self {
            Place::Directory(path) => Store::keep(path)?.verify(progress, report),
            Place::Device(device) => device.verify(progress, report),
        }
    }
}
