// SPDX-License-Identifier: GPL-2.0-only

//! Images and packs on devices with a catalog.
//!
//! [`copy`] copies an image under its own name, with its packs, for all kernels that have the device.

use crate::files::length;
use crate::mount::proof;
use crate::pack::PackRef;
use crate::store::{keeps_all, Freed, Loaded, Store};
use daxfs_files::digest::{hex, is_hex};
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::make_room;
use daxfs_image::source::{At, Opened};
use daxfs_image::text::shown_path;
use daxfs_load::catalog::{self, Reuse};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The names of packs that [`copy`] has copied are this and digits.
const PACK: &str = "pack-";

/// Hexadecimal digits of a SHA-256 in these names, which have at most 63 characters.
const DIGITS: usize = 32;

/// Return the name that [`copy`] gives `pack`.
fn pack_name(pack: &PackRef) -> String {
    format!("{PACK}{}", &pack.sha256[..DIGITS])
}

fn is_pack(name: &str) -> bool {
    let digits = name.strip_prefix(PACK);
    digits.is_some_and(|digits| is_hex(digits, DIGITS / 2))
}

/// Open the image `name` on `device`.
fn open(device: &Path, name: &str) -> Result<Opened> {
    let at = At {
        offset: None,
        name: Some(name.into()),
    };
    Opened::open_at(device, &at)
}

/// Return whether `device` has the image `name`. Fail if it is not the one with this SHA-256.
fn has(device: &Path, name: &str, sha256: &str) -> Result<bool> {
    if !names(device)?.contains(name) {
        return Ok(false);
    }
    match open(device, name) {
        Ok(found) if hex(&found.superblock.sha256) == sha256 => Ok(true),
        Ok(_) => {
            let why =
                format!("has another image '{name}'; remove it with daxfs catalog remove first");
            Err(Error::refused(shown_path(device), why))
        }
        // gc has removed it.
        Err(_) if !names(device)?.contains(name) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copy the image `name` of `store`, and the packs that it needs, to `device`, unless it has them. `reuse` says which
/// removed images give their space.
///
/// Each change survives power loss, and the image comes after its packs. Fail if `device` has another image with this
/// name. Packs that were copied before an error remain for the next call, or until [`gc`].
pub fn copy(store: &Store, name: &str, device: &Path, reuse: Reuse) -> Result<Loaded> {
    let file = store.image(name)?;
    if is_pack(name) {
        let why = "is a name for packs on a device; add the image to the store with another name";
        return Err(Error::refused(name, why));
    }
    let (sha256, packs) = store.needs_of(name)?;
    let there = has(device, name, &sha256)?;
    let mut copied = Loaded::default();
    let mut add = |name: &str, file: &Path, sha256: &str| -> Result<()> {
        if has(device, name, sha256)? {
            return Ok(());
        }
        if hex(&Opened::open(file)?.superblock.sha256) != sha256 {
            let why =
                "has another SHA-256 than the image says; daxfs store verify names the remedy";
            return Err(Error::refused(shown_path(file), why));
        }
        if catalog::add_once(device, name, file, false, reuse)? {
            copied.images += 1;
            copied.bytes += length(file)?;
        }
        // Another process may have replaced the file.
        has(device, name, sha256).map(drop)
    };
    // Packs come first. gc may remove some before there is an image that needs them.
    for again in [there, true] {
        for pack in &packs {
            let done = add(&pack_name(pack), &store.pack(&pack.sha256), &pack.sha256);
            done.inspect_err(|_| {
                // An image without its packs is of no use.
                if again && !there {
                    let _ = catalog::remove(device, name, true);
                }
            })?;
        }
        if !again {
            add(name, &file, &sha256)?;
        }
    }
    copied.shared = (1 + packs.len()).saturating_sub(copied.images);
    Ok(copied)
}

/// Mounts the packs of the image at `offset` of `device` in no directory. The kernel finds them while
/// the image is mounted and these are open; then the image keeps them. They are compared with their SHA-256 if
/// `is_verified`: otherwise all of a device would be read, and be in the host's memory.
pub fn mount_packs(device: &Path, offset: u64, is_verified: bool) -> Result<Vec<OwnedFd>> {
    let at = At {
        offset: Some(offset),
        name: None,
    };
    // The kernel says what is wrong with an image.
    let Ok(opened) = Opened::open_at(device, &at) else {
        return Ok(Vec::new());
    };
    let packs = crate::pack::table(&opened)?;
    make_room(packs.len());
    let mounts = packs.iter().map(|pack| {
        let proof = proof(&pack.sha256).into_iter().filter(|_| is_verified);
        let mut words = vec![format!("image={}", pack_name(pack))];
        words.extend(proof);
        daxfs_load::mount(device, &words)
    });
    mounts.collect()
}

/// Return the names of the images on `device`.
fn names(device: &Path) -> Result<HashSet<String>> {
    let images = catalog::images(device)?.into_iter();
    let images = images.filter(|image| !image.removed);
    Ok(images.map(|image| image.name).collect())
}

/// Remove the packs from `device` that no image there needs, see [`Store::gc`].
pub fn gc(device: &Path, report: &mut dyn FnMut(Error)) -> Result<Freed> {
    let removed = catalog::remove_all(device, &mut |images| {
        let names = images.iter().filter(|image| !image.removed);
        let names = names.map(|image| image.name.clone());
        let (mut packs, others): (HashSet<String>, HashSet<String>) =
            names.partition(|name| is_pack(name));
        let mut damaged = false;
        for name in &others {
            match open(device, name).and_then(|opened| crate::pack::packs(&opened)) {
                Ok(needed) => {
                    let needed = needed.iter();
                    needed.for_each(|pack| _ = packs.remove(&pack_name(pack)));
                }
                Err(error) => {
                    report(error);
                    damaged = true;
                }
            }
        }
        if damaged {
            let remedy = "remove them with daxfs catalog remove, and copy them again";
            report(keeps_all(device, remedy));
            packs.clear();
        }
        packs
    })?;
    Ok(Freed {
        files: removed.len(),
        bytes: removed
            .iter()
            .map(|image| image.range.end - image.range.start)
            .sum(),
    })
}
