// SPDX-License-Identifier: GPL-2.0-only

//! Verifies all images and packs of a store.

use crate::add::wrong_objects;
use crate::pack::{object_name, packs, wrong_pack, Pack};
use crate::store::Store;
use daxfs_check::first;
use daxfs_files::digest::hex;
use daxfs_files::Progress;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Event;
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_reader::catalog::pack_name;
use daxfs_reader::Content;
use std::collections::{BTreeMap, HashMap};

/// Numbers of verified images, packs and objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of images.
    pub images: usize,
    /// Number of packs.
    pub packs: usize,
    /// Number of objects.
    pub objects: usize,
}

impl Store {
    /// Verifies all files, see [`crate::Place::verify`].
    pub fn verify(
        &self,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<Verified> {
        match self.active() {
            Ok(Some(active)) if !self.image(&active)?.exists() => {
                let why = format!("{active} is active, but missing; use daxfs store activate");
                report(Error::refused(shown_path(&self.dir), why));
            }
            Ok(_) => {}
            Err(error) => report(error),
        }
        let (packs, images) = (self.names("packs")?, self.names("images")?);
        let packs = packs.into_iter().map(|sha256| {
            let opened = Opened::open(&self.pack(&sha256));
            (sha256, opened)
        });
        let images = images.into_iter();
        let images = images.map(|name| Opened::open(&self.image(&name)?));
        Ok(verify(packs, images, false, progress, report))
    }
}

/// Verifies `packs`, given with their names, and `images`. On a device, images may contain data,
/// and packs have different names.
pub(crate) fn verify(
    packs: impl Iterator<Item = (String, Result<Opened>)>,
    images: impl Iterator<Item = Result<Opened>>,
    on_device: bool,
    progress: &dyn Progress,
    report: &mut dyn FnMut(Error),
) -> Verified {
    let mut verified = Verified::default();
    let mut found = BTreeMap::new();
    for (name, opened) in packs {
        verified.packs += 1;
        match opened.and_then(|opened| whole_pack(opened, &name, on_device, progress, report)) {
            Ok((sha256, pack)) => {
                verified.objects += pack.objects().len();
                found.insert(sha256, sizes(&pack));
            }
            Err(error) => report(error),
        }
    }
    for opened in images {
        verified.images += 1;
        let checked = opened.and_then(|opened| match opened.superblock.pack_count() {
            0 if on_device => whole(&opened, false, progress),
            _ => whole_image(&opened, &found, progress, report),
        });
        if let Err(error) = checked {
            report(error);
        }
    }
    verified
}

/// Checks a composed image completely.
pub(crate) fn whole_image(
    opened: &Opened,
    found: &BTreeMap<String, Sizes>,
    progress: &dyn Progress,
    report: &mut dyn FnMut(Error),
) -> Result<()> {
    whole(opened, true, progress)?;
    let needed: Vec<_> = packs(opened)?
        .into_iter()
        .map(|pack| {
            let sizes = found.get(&pack.sha256);
            if sizes.is_none_or(|(size, _)| *size != pack.size) {
                let why = format!(
                    "pack {} is missing or damaged; restore it from a copy, or remove all images that need it, run daxfs store gc, and add them again",
                    pack.sha256
                );
                report(Error::refused(opened.name.clone(), why));
            }
            sizes
        })
        .collect();
    let reader = opened.reader();
    reader.walk(&reader.root()?, b"/", &mut |path, _, event| {
        let Event::File(inode) = event else {
            return Ok(());
        };
        match inode.content {
            Content::InPack { pack, original } => match needed.get(pack as usize) {
                Some(Some((_, sizes))) if sizes.get(&original) != Some(&inode.size) => {
                    let error = inode.unsuitable_original(&opened.superblock);
                    Err(reader.fail(path, error))
                }
                // Its pack was reported.
                _ => Ok(()),
            },
            Content::Regular { .. } if inode.size > 0 => {
                Err(reader.refuse(path, "has data, which no composed image has; add it again"))
            }
            _ => Ok(()),
        }
    })
}

/// Size of a pack, and of its objects by inode number.
pub(crate) type Sizes = (u64, HashMap<u32, u64>);

pub(crate) fn sizes(pack: &Pack) -> Sizes {
    let objects = pack.objects();
    let objects = objects.map(|(_, object)| (object.ino, object.size));
    (pack.reference.total_size, objects.collect())
}

/// Checks an image completely, including `sums`, with which mounts verify its pieces.
pub(crate) fn whole(opened: &Opened, sums: bool, progress: &dyn Progress) -> Result<()> {
    progress.step("reading", opened.superblock.total_size);
    if let Some(finding) = first(&opened.source) {
        let why = format!("{finding}; restore it from a copy");
        return Err(Error::refused(opened.name.clone(), why));
    }
    opened.verify(progress)?;
    if sums && opened.superblock.sums().is_none() {
        let why = "the sums of its pieces are missing; restore it from a copy";
        return Err(Error::refused(opened.name.clone(), why));
    }
    Ok(())
}

/// Checks the pack `name` completely. Returns its SHA-256 and its objects. Reports damaged objects.
pub(crate) fn whole_pack(
    opened: Opened,
    name: &str,
    on_device: bool,
    progress: &dyn Progress,
    report: &mut dyn FnMut(Error),
) -> Result<(String, Pack)> {
    whole(&opened, true, progress)?;
    let pack = Pack::of(&opened)?;
    let reader = opened.reader();
    progress.step("comparing", pack.bytes);
    for sum in wrong_objects(&reader, |_| true, progress)? {
        let why = "does not have the SHA-256 of its name; restore the pack from a copy";
        report(reader.refuse(object_name(&sum).as_bytes(), why));
    }
    let sha256 = hex(&opened.superblock.sha256);
    if name == sha256 || on_device && name == pack_name(&sha256) {
        Ok((sha256, pack))
    } else {
        Err(wrong_pack(opened.name))
    }
}
