// SPDX-License-Identifier: GPL-2.0-only

//! Where images and packs are before they are mounted.

use crate::store::Store;
use daxfs_image::error::{Error, Result};
use std::path::Path;

/// Where the images are that are mounted.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// A store, from which they are loaded.
    Store(&'a Store),
    /// A device, to which [`crate::copy`] has copied them.
    Device(&'a Path),
}

/// How an image is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// SHA-256 that the image must have.
    pub digest: Option<String>,
    /// Demand a signature of the image that the kernel trusts.
    pub signed: bool,
    /// Options of the mount: `nosuid`, `nodev`, `noexec` and the like.
    pub options: Vec<String>,
}

impl Demands {
    /// Fails unless `sha256`, of the image `name`, is the one that is demanded.
    pub fn check(&self, name: &str, sha256: &str) -> Result<()> {
        match &self.digest {
            Some(wanted) if wanted != sha256 => {
                let why = format!("has the SHA-256 {sha256}, not the one that was asked for");
                Err(Error::refused(name, why))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the mount options with which the kernel compares an image with its SHA-256, piece by piece.
pub fn proof(sha256: &str) -> [String; 2] {
    [format!("digest={sha256}"), "verify=lazy".into()]
}
