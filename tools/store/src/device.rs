// SPDX-License-Identifier: GPL-2.0-only

//! Images and packs on devices with a catalog.
//!
//! [`copy`] copies an image under its own name, with its packs, for all kernels that have the device.

use crate::files::{failed, length};
use crate::origin::{proof, Demands};
use crate::pack::PackRef;
use crate::store::{keeps_all, Freed, Loaded, Store};
use daxfs_files::digest::{hex, is_hex};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{At, Opened};
use daxfs_image::text::shown_path;
use daxfs_load::catalog::{self, Reuse};
use daxfs_load::mount::{place, Mounting};
use rustix::fs::{stat, FileType};
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

/// The names of packs that [`copy`] has copied are this and digits.
const PACK: &str = "pack-";

/// Hexadecimal digits of a SHA-256 in these names, which have at most 63 characters.
const DIGITS: usize = 32;

/// Fails if `device` is a file, which is a device in virtual machines only.
fn check(device: &Path) -> Result<()> {
    let status = stat(device).map_err(|error| failed(device, "examine", error.into()))?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if kind != FileType::BlockDevice && kind != FileType::CharacterDevice {
        let why = "is neither a store nor a device; daxfs share makes it a device of a virtual machine, which can mount its images";
        return Err(Error::refused(shown_path(device), why));
    }
    Ok(())
}

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

/// Mounts the image `name` of `device` on the directory `dir`. The kernel finds the superblocks of packs that are
/// mounted by their places on the device, and the image keeps them.
pub fn mount(device: &Path, name: &str, dir: &Path, demands: &Demands) -> Result<Loaded> {
    check(device)?;
    // This drops what is cached: other kernels may have changed the device.
    catalog::images(device)?;
    let opened = open(device, name)?;
    let sha256 = hex(&opened.superblock.sha256);
    demands.check(&opened.name, &sha256)?;
    let packs = crate::pack::packs(&opened)?;
    // Otherwise all of a device would be read, and be in the host's memory.
    let is_verified = demands.digest.is_some() || demands.signed;
    let words = |name: &str, sha256: &str| {
        let image = [format!("image={name}")].into_iter();
        let proof = proof(sha256).into_iter().filter(|_| is_verified);
        image.chain(proof).collect::<Vec<String>>()
    };
    let mounting = Mounting::new()?;
    let mut mounted = Loaded {
        images: 1,
        bytes: opened.superblock.total_size,
        shared: 0,
    };
    for pack in &packs {
        let words = words(&pack_name(pack), &pack.sha256);
        let part = daxfs_load::mount(device, &words, Mounting::new()?)?;
        mounting.pack(part.as_fd())?;
        mounted.images += 1;
        mounted.bytes += pack.size;
    }
    let mut words = words(name, &sha256);
    words.extend(demands.signed.then(|| "signature=required".into()));
    words.extend_from_slice(&demands.options);
    place(daxfs_load::mount(device, &words, mounting)?.as_fd(), dir)?;
    Ok(mounted)
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
