// SPDX-License-Identifier: GPL-2.0-only

//! Where images and packs are before they are mounted.

use crate::device::{number, pack_name, sha256};
use crate::pack::PackRef;
use crate::store::Store;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::Kind;
use rustix::fs::{fadvise, Advice};
use rustix::mount::{unmount, UnmountFlags};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where the images are that are mounted.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// A store, from which they are loaded.
    Store(&'a Store),
    /// A device, to which [`crate::copy`] has copied them.
    Device(&'a Path),
}

impl<'a> Origin<'a> {
    /// Return the SHA-256 of the image `name`.
    pub fn sha256(self, name: &str) -> Result<String> {
        match self {
            Origin::Store(store) => Ok(store.needs_of(name)?.0),
            Origin::Device(device) => {
                // Files are refused here.
                number(device)?;
                sha256(device, name)
            }
        }
    }

    /// Return the end of the names of directories for mounts from here. The owner of a device may change its memory, but
    /// not the memory that a store was loaded into.
    pub fn end(self) -> Result<String> {
        match self {
            Origin::Store(_) => Ok(String::new()),
            Origin::Device(device) => number(device),
        }
    }

    /// Return the image `name`.
    pub fn image(self, name: &str) -> Result<Part<'a>> {
        match self {
            Origin::Store(store) => Ok(Part::File(store.image(name)?)),
            Origin::Device(device) => Ok(Part::Named(device, name.into())),
        }
    }

    /// Return `pack`.
    pub fn pack(self, pack: &PackRef) -> Part<'a> {
        match self {
            Origin::Store(store) => Part::File(store.pack(&pack.id)),
            Origin::Device(device) => Part::Named(device, pack_name(pack)),
        }
    }
}

/// An image or a pack.
pub enum Part<'a> {
    /// A file.
    File(PathBuf),
    /// An image on a device, and its name there.
    Named(&'a Path, String),
}

impl Part<'_> {
    /// Return its name in messages.
    pub fn shown(&self) -> String {
        match self {
            Part::File(path) => shown_path(path),
            Part::Named(device, name) => format!("{}: {name}", shown_path(device)),
        }
    }

    /// Return whether the kernel compares it with its SHA-256. From a device it does so if somebody asks for it, as for
    /// all mounts of devices: otherwise all of a device would be read, and be in the host's memory.
    pub fn verified(&self, demands: &Demands) -> bool {
        matches!(self, Part::File(_)) || demands.digest.is_some() || demands.signed
    }

    /// Load it, unless it is on a device, and mount it on `place`, with one more option. If it is verified, it must have
    /// the SHA-256 `sha256`.
    pub fn load_on(
        &self,
        place: &Path,
        sha256: &str,
        option: Option<&str>,
        demands: &Demands,
    ) -> Result<()> {
        let mut words = Vec::new();
        if self.verified(demands) {
            words.push(format!("digest={sha256}"));
            words.push("verify=lazy".into());
        }
        words.extend(option.map(Into::into));
        let file = match self {
            Part::File(file) => file,
            Part::Named(device, name) => {
                words.push(format!("image={name}"));
                daxfs_load::mount(device, place, &words)?;
                if self.verified(demands) {
                    return Ok(());
                }
                // Another kernel may have replaced it.
                return match crate::device::sha256(device, name) {
                    Ok(found) if found == sha256 => Ok(()),
                    found => {
                        let _ = unmount(place, UnmountFlags::NOFOLLOW);
                        found.and_then(|_| {
                            let why = format!(
                                "was replaced, or is not the image with the SHA-256 {sha256}"
                            );
                            Err(Error::refused(self.shown(), why))
                        })
                    }
                };
            }
        };
        daxfs_load::load(file, place, Kind::Memfd, &words)?;
        // The file need not be in memory as well.
        if let Ok(file) = File::open(file) {
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
        Ok(())
    }
}

/// How an image is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// SHA-256 that the metadata image must have.
    pub digest: Option<String>,
    /// Demand a signature of the metadata image that the kernel trusts.
    pub signed: bool,
    /// Options of the mount: `nosuid`, `nodev`, `noexec` and the like.
    pub options: Vec<String>,
}
