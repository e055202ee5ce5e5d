// SPDX-License-Identifier: GPL-2.0-only

//! Verifies all files of a store.

use crate::add::wrong_objects;
use crate::pack::{packs, Pack};
use crate::store::Store;
use daxfs_check::first;
use daxfs_files::digest::hex;
use daxfs_files::Progress;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Event;
use daxfs_image::source::Opened;
use daxfs_reader::Content;
use std::collections::{BTreeMap, HashMap};
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
        for sha256 in self.names("packs")? {
            verified.packs += 1;
            match whole_pack(&self.pack(&sha256), &sha256, progress, report) {
                Ok(pack) => {
                    verified.objects += pack.objects().len();
                    found.insert(sha256, sizes(&pack));
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
        found: &BTreeMap<String, Sizes>,
        progress: &dyn Progress,
        report: &mut dyn FnMut(Error),
    ) -> Result<()> {
        let opened = whole(&self.image(name)?, progress)?;
        let needed: Vec<_> = packs(&opened)?
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
                Content::Regular { .. } if inode.size > 0 => Err(reader.refuse(
                    path,
                    "has data, which no image of a store has; add it again",
                )),
                _ => Ok(()),
            }
        })
    }
}

/// Bytes of a pack, and of its objects by their inode numbers.
type Sizes = (u64, HashMap<u32, u64>);

fn sizes(pack: &Pack) -> Sizes {
    let objects = pack.objects();
    let objects = objects.map(|(_, object)| (object.ino, object.size));
    (pack.reference.total_size, objects.collect())
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

/// Open the pack `sha256` in the file `path` and check all of it. Report damaged objects.
fn whole_pack(
    path: &Path,
    sha256: &str,
    progress: &dyn Progress,
    report: &mut dyn FnMut(Error),
) -> Result<Pack> {
    let opened = whole(path, progress)?;
    let pack = Pack::open(path, sha256)?;
    let reader = opened.reader();
    progress.step("comparing", pack.bytes);
    for sum in wrong_objects(&reader, progress)? {
        let why = "does not have the SHA-256 of its name; restore the pack from a copy";
        report(reader.refuse(hex(&sum).as_bytes(), why));
    }
    Ok(pack)
}
