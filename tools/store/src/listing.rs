// SPDX-License-Identifier: GPL-2.0-only

//! Lists of images.

use crate::pack::PackRef;
use daxfs_load::catalog::Overview;
use daxfs_reader::catalog::Listed as Entry;
use std::collections::HashMap;

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its SHA-256; `None` for an image removed from a device.
    pub sha256: Option<String>,
    /// Bytes of the image and of its packs.
    pub size: u64,
    /// Bytes of the image and of the packs that no other image needs.
    pub own: u64,
    /// Its packs.
    pub packs: Vec<PackRef>,
    /// Whether it is mounted if no name is given.
    pub active: bool,
    /// Its entry in a device's table.
    pub entry: Option<Entry>,
}

/// The images of a store.
pub struct Listing {
    /// The images.
    pub images: Vec<Listed>,
    /// The store's device, if it is on one.
    pub device: Option<Overview>,
}

/// Adds the sizes of packs, which `length` returns, to those of `images`, so far without packs.
pub(crate) fn add_packs(images: &mut [Listed], length: impl Fn(&str) -> u64) {
    let mut users = HashMap::<String, usize>::new();
    for pack in images.iter().flat_map(|image| &image.packs) {
        *users.entry(pack.sha256.clone()).or_default() += 1;
    }
    for image in images {
        for pack in &image.packs {
            let bytes = length(&pack.sha256);
            image.size += bytes;
            if users[&pack.sha256] == 1 {
                image.own += bytes;
            }
        }
    }
}
