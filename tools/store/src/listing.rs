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
    /// Its SHA-256; `None` if it was removed from a device.
    pub sha256: Option<String>,
    /// Bytes of the image and of its packs.
    pub size: u64,
    /// Bytes of the image and of the packs that no other image needs.
    pub own: u64,
    /// Its packs.
    pub packs: Vec<PackRef>,
    /// It is mounted without a name.
    pub active: bool,
    /// Its entry in the table of a device.
    pub entry: Option<Entry>,
}

/// The images of a store.
pub struct Listing {
    /// The images.
    pub images: Vec<Listed>,
    /// Its device.
    pub device: Option<Overview>,
}

/// Adds the bytes of their packs to the sizes of `images`, which have their own bytes. `length` returns the bytes of a pack.
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
