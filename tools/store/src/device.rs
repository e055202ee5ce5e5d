// SPDX-License-Identifier: GPL-2.0-only

//! Stores on devices, and in files that back a VM's memory. Every attached kernel can mount images.
//!
//! In the table, an image has its own name, and a pack the one from [`pack_name`].

use crate::listing::{add_packs, Listed, Listing};
use crate::pack::{packs, whole_metadata, PackRef};
use crate::store::{check_name, keeps_all, Freed, Needs};
use crate::verify::{verify, Verified};
use daxfs_files::digest::hex;
use daxfs_files::Progress;
use daxfs_image::catalog::unknown;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::{missing_pack, packs_beside};
use daxfs_image::text::shown_path;
use daxfs_load::catalog::{self, Overview, Reuse};
use daxfs_load::file::ImageFile;
use daxfs_reader::catalog::{is_pack, pack_name, Listed as Entry, Table};
use daxfs_reader::layout;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A store on a device.
pub struct Device(pub PathBuf);

/// The result of [`Device::add`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Its SHA-256.
    pub sha256: String,
    /// Number of its packs that were copied.
    pub new: usize,
    /// Bytes of the image and of the copied packs.
    pub bytes: u64,
    /// Number of its packs that were already on the device.
    pub known: usize,
}

/// Returns the images of `table` that are not removed, or with `packs` its packs.
fn live(table: &Table, packs: bool) -> impl Iterator<Item = &Entry> {
    let images = table.images.iter();
    images.filter(move |image| !image.removed && is_pack(&image.name) == packs)
}

impl Device {
    /// Returns true if `table` and the device have the pack with this record.
    ///
    /// Fails if something else on the device has the pack's name.
    fn has(&self, table: &Table, record: &layout::Pack) -> Result<bool> {
        let name = pack_name(&hex(&record.sha256));
        let Some(found) = table.find(&name) else {
            return Ok(false);
        };
        let opened = catalog::open(&self.0, found).and_then(|opened| {
            whole_metadata(&opened.reader(), &opened.name)?;
            Ok(opened)
        });
        let why = match opened {
            Ok(opened) if opened.superblock.is_pack(record) => return Ok(true),
            Ok(_) => "another image than its name says".to_owned(),
            Err(error) => error.to_string(),
        };
        // gc may have removed the pack, and another process may have reused its space.
        match Overview::load(&self.0)?.table.find(&name) {
            Some(now) if now == found => {
                let why = format!(
                    "is damaged ({why}); daxfs store remove removes it, and add copies it again"
                );
                Err(Error::refused(
                    format!("{}: {name}", shown_path(&self.0)),
                    why,
                ))
            }
            _ => Ok(false),
        }
    }

    /// Adds those of `packs` that the device lacks, from the directory `beside`.
    fn put_packs(
        &self,
        image: &Path,
        packs: &[layout::Pack],
        beside: Option<&Path>,
        reuse: Reuse,
        copied: &mut Copied,
    ) -> Result<()> {
        let table = Overview::load(&self.0)?.table;
        for record in packs {
            if self.has(&table, record)? {
                continue;
            }
            let sha256 = hex(&record.sha256);
            let Some(beside) = beside else {
                let why = format!(
                    "needs pack {sha256}, which the device does not have; give STORE/images/NAME.daxfs"
                );
                return Err(Error::refused(shown_path(image), why));
            };
            let pack = beside.join(format!("{sha256}.daxfs"));
            if !pack.exists() {
                return Err(missing_pack(&shown_path(image), &sha256));
            }
            let pack = ImageFile::open(&pack)?;
            if !pack.superblock.is_pack(record) {
                let why =
                    "has another SHA-256 than its name says; daxfs store verify names the remedy";
                return Err(Error::refused(shown_path(&pack.path), why));
            }
            if catalog::add(&self.0, &pack_name(&sha256), &pack, &[], reuse)? {
                copied.new += 1;
                copied.bytes += pack.size;
            }
        }
        Ok(())
    }

    /// Adds the image file `input` as `name`, unchanged, after those of its packs that the device
    /// lacks. The packs lie beside the file as in a store's directory. `reuse` selects the removed
    /// images whose space may be reused.
    ///
    /// Each change survives power loss. Fails if the store has an image of this name. Packs that
    /// were copied before an error remain for the next call, or until [`Device::gc`].
    pub fn add(&self, name: &str, input: &Path, reuse: Reuse) -> Result<Copied> {
        check_name(name)?;
        if is_pack(name) {
            let why = "is a name for packs on a device; choose another name";
            return Err(Error::refused(name, why));
        }
        let why = "is not a daxfs image, which a device needs; use mkdaxfs, or add it to a store in a directory and give STORE/images/NAME.daxfs";
        let image = match ImageFile::open(input) {
            Ok(image) if !input.is_dir() => image,
            Err(error) if !input.is_dir() && !matches!(error, Error::Foreign { .. }) => {
                return Err(error)
            }
            _ => return Err(Error::refused(shown_path(input), why)),
        };
        let device = shown_path(&self.0);
        if Overview::load(&self.0)?.table.find(name).is_some() {
            return Err(catalog::taken(&device, name));
        }
        let (packs, beside) = (image.packs()?, packs_beside(input));
        let mut copied = Copied {
            sha256: hex(&image.superblock.sha256),
            bytes: image.size,
            ..Copied::default()
        };
        let names = packs.iter().map(|record| pack_name(&hex(&record.sha256)));
        let names: Vec<String> = names.collect();
        let mut put = || self.put_packs(input, &packs, beside.as_deref(), reuse, &mut copied);
        put()?;
        // gc may have removed some packs that no image needed yet.
        while !catalog::add(&self.0, name, &image, &names, reuse)? {
            put()?;
        }
        copied.known = packs.len().saturating_sub(copied.new);
        Ok(copied)
    }

    /// Makes `name` the image to mount if no name is given.
    pub fn activate(&self, name: &str) -> Result<()> {
        catalog::change(&self.0, |device, table| {
            let image = live(table, false).find(|image| image.name == name);
            let image = image.ok_or_else(|| unknown(device, table, name))?;
            let (_, packs) = self.needs(image)?;
            let missing = |pack: &&PackRef| table.find(&pack_name(&pack.sha256)).is_none();
            if let Some(pack) = packs.iter().find(missing) {
                return Err(missing_pack(name, &pack.sha256));
            }
            table.activate(name);
            Ok(())
        })
    }

    /// Removes the image `name`, or a pack. Mounts keep their space until they end.
    pub fn remove(&self, name: &str) -> Result<()> {
        catalog::change(&self.0, |device, table| match table.remove(name) {
            Some(_) => Ok(()),
            None => Err(unknown(device, table, name)),
        })
    }

    /// Returns the SHA-256 and the packs of `image`.
    fn needs(&self, image: &Entry) -> Result<Needs> {
        let opened = catalog::open(&self.0, image)?;
        Ok((hex(&opened.superblock.sha256), packs(&opened)?))
    }

    /// Returns all images, sorted by place, see [`crate::Place::list`].
    pub fn list(&self, report: &mut dyn FnMut(Error)) -> Result<Listing> {
        let overview = Overview::load(&self.0)?;
        let table = &overview.table;
        let length = |pack: &str| table.find(&pack_name(pack)).map(Entry::length);
        let mut images = Vec::new();
        for image in table.images.iter().filter(|image| !is_pack(&image.name)) {
            // A removed image's packs may be gone.
            let needs = (!image.removed).then(|| self.needs(image)).transpose();
            let (sha256, packs) = match needs {
                Ok(needs) => needs.unzip(),
                Err(error) => {
                    report(error);
                    continue;
                }
            };
            let packs: Vec<PackRef> = packs.unwrap_or_default();
            if let Some(pack) = packs.iter().find(|pack| length(&pack.sha256).is_none()) {
                report(missing_pack(&image.name, &pack.sha256));
            }
            images.push(Listed {
                name: image.name.clone(),
                sha256,
                size: image.length(),
                own: image.length(),
                packs,
                active: image.active,
                entry: Some(image.clone()),
            });
        }
        add_packs(&mut images, |pack| length(pack).unwrap_or(0));
        Ok(Listing {
            images,
            device: Some(overview),
        })
    }

    /// Removes the packs that no image needs, see [`crate::Store::gc`].
    pub fn gc(&self, report: &mut dyn FnMut(Error)) -> Result<Freed> {
        catalog::change(&self.0, |_, table| {
            let mut unneeded: HashSet<_> =
                live(table, true).map(|pack| pack.name.clone()).collect();
            let mut damaged = false;
            for image in live(table, false) {
                match self.needs(image) {
                    Ok((_, packs)) => {
                        for pack in packs {
                            let pack_name = pack_name(&pack.sha256);
                            unneeded.remove(&pack_name);
                            if table.find(&pack_name).is_none() {
                                report(missing_pack(&image.name, &pack.sha256));
                            }
                        }
                    }
                    Err(error) => {
                        report(error);
                        damaged = true;
                    }
                }
            }
            if damaged {
                report(keeps_all(&self.0));
                return Ok(Freed::default());
            }
            let removed = unneeded
                .iter()
                .filter_map(|name| table.remove(name).map(Entry::length));
            Ok(removed.fold(Freed::default(), |freed, bytes| Freed {
                packs: freed.packs + 1,
                bytes: freed.bytes + bytes,
                ..freed
            }))
        })
    }

    /// Verifies the table and all images and packs, see [`crate::Place::verify`]. Images with data
    /// of their own are compared with their SHA-256.
    pub fn verify(
        &self,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<Verified> {
        let overview = Overview::keep(&self.0)?;
        let table = &overview.table;
        if let Some(error) = table.damaged {
            let why = format!(
                "a copy of the store's table is damaged ({error}); daxfs store gc writes it"
            );
            report(Error::refused(overview.device(), why));
        }
        let open = |image| catalog::open(&self.0, image);
        let packs = live(table, true).map(|pack| (pack.name.clone(), open(pack)));
        let images = live(table, false).map(open);
        Ok(verify(packs, images, true, progress, report))
    }
}
