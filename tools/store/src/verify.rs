// SPDX-License-Identifier: GPL-2.0-only

//! Verifies all files of a store.

use crate::add::wrong_objects;
use crate::metadata::{object_of, packs};
use crate::pack::Pack;
use crate::store::Store;
use daxfs_check::first;
use daxfs_files::digest::hex;
use daxfs_files::Progress;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Event;
use daxfs_image::source::Opened;
use daxfs_reader::Content;
use std::collections::BTreeMap;
use std::path::Path;

/// Numbers of the files and objects that [`Store::verify`] has verified.
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
    /// Check every image and pack against the rules of the format and its SHA-256, every object
    /// against its name, and that images find their objects. Call `report` for each problem.
    pub fn verify(
        &self,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut found = BTreeMap::new();
        for id in self.names("packs")? {
            verified.packs += 1;
            match whole_pack(&self.pack(&id), &id, progress, report) {
                Ok(pack) => {
                    verified.objects += pack.objects().len();
                    found.insert(id, pack);
                }
                Err(error) => report(error),
            }
        }
        for name in self.names("images")? {
            verified.images += 1;
            if let Err(error) = self.whole_image(&name, &found, progress, report) {
                report(error);
            }
        }
        Ok(verified)
    }

    fn whole_image(
        &self,
        name: &str,
        found: &BTreeMap<String, Pack>,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<()> {
        let opened = whole(&self.image(name)?, progress)?;
        let needed = packs(&opened)?;
        for pack in &needed {
            let why = match found.get(&pack.id) {
                None => "is missing or damaged",
                Some(found) if found.reference != *pack => {
                    "has another SHA-256 than the image says"
                }
                Some(_) => continue,
            };
            let (name, id) = (opened.name.clone(), &pack.id);
            let why = format!(
                "pack {id} {why}; restore it from a copy, or remove all images that need it, run daxfs store gc, and add them again"
            );
            report(Error::refused(name, why));
        }
        let reader = opened.reader();
        reader.walk(&reader.root()?, b"/", &mut |path, _, event| {
            let Event::File(inode) = event else {
                return Ok(());
            };
            match inode.content {
                Content::MetadataOnly => {
                    let (id, sum) = object_of(&reader, path, inode)?;
                    let is_needed = needed.iter().any(|pack| pack.id == id);
                    // Its pack was reported.
                    let Some(pack) = found.get(&id).filter(|_| is_needed) else {
                        return match is_needed {
                            true => Ok(()),
                            false => Err(reader.refuse(path, "is in a pack that the image does not list; add it again")),
                        };
                    };
                    match pack.get(&sum) {
                        Some(object) if object.size == inode.size => Ok(()),
                        _ => Err(reader.refuse(path, format!("object {} of {} bytes is not in pack {id}; remove all images that need the pack, run daxfs store gc, and add them again", hex(&sum), inode.size))),
                    }
                }
                Content::Regular { .. } if inode.size > 0 => {
                    Err(reader.refuse(path, "has data, which no image of a store has; add it again"))
                }
                _ => Ok(()),
            }
        })
    }
}

/// Open the image `path` and check all of it.
fn whole(path: &Path, progress: &dyn Progress) -> Result<Opened> {
    let opened = Opened::open(path)?;
    progress.step("reading", opened.superblock.total_size);
    if let Some(finding) = first(&opened.source) {
        let why = format!("{finding}; restore it from a copy");
        return Err(Error::refused(opened.name, why));
    }
    opened.verify(progress)?;
    // Mounts verify the pieces by them.
    if opened.superblock.sums().is_none() {
        let why = "the sums of its pieces are missing; restore it from a copy";
        return Err(Error::refused(opened.name, why));
    }
    Ok(opened)
}

/// Open the pack `id` in the file `path` and check all of it. Report damaged objects.
fn whole_pack(
    path: &Path,
    id: &str,
    progress: &dyn Progress,
    report: &mut dyn FnMut(Error),
) -> Result<Pack> {
    let opened = whole(path, progress)?;
    let pack = Pack::open(path, id)?;
    let reader = opened.reader();
    let bytes = pack.objects().map(|(_, object)| object.size).sum();
    progress.step("comparing", bytes);
    for sum in wrong_objects(&reader, id, progress)? {
        let why = "does not have the SHA-256 of its name; restore the pack from a copy";
        report(reader.refuse(hex(&sum).as_bytes(), why));
    }
    Ok(pack)
}
