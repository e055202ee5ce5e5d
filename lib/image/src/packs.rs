// SPDX-License-Identifier: GPL-2.0-only

//! Packs of composed images, found in files that the user names or in the image's store.

use crate::error::{Error, Result};
use crate::source::{At, Opened};
use daxfs_files::digest::hex;
use daxfs_files::make_room;
use daxfs_reader::catalog::pack_name;
use daxfs_reader::layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files with packs of composed images.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PackFiles {
    /// Read a pack of the image from this file or device; may be repeated
    ///
    /// You need not name the packs of an image in a store.
    #[arg(long = "pack", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

impl PackFiles {
    /// Opens the files.
    pub fn open(&self) -> Result<Vec<Arc<Opened>>> {
        make_room(self.files.len());
        let packs = self
            .files
            .iter()
            .map(|path| Opened::open(path).map(Arc::new));
        packs.collect()
    }

    /// Opens the files and joins each of `images`, which come with their paths, with its packs. A
    /// pack shared by several images is opened once.
    ///
    /// Fails if one of the files is not a pack of any image, or cannot be one.
    pub fn join(&self, images: &mut [(&Path, &At, &mut Opened)]) -> Result<()> {
        let given = self.open()?;
        given.iter().try_for_each(|pack| can_be_pack(pack))?;
        let mut known = given.clone();
        for (path, at, image) in &mut *images {
            image.find_packs(path, at, &known);
            known.extend(image.open_packs().cloned());
        }
        let is_used = |sha256: &[u8; 32]| {
            let mut packs = images.iter().flat_map(|(.., image)| image.open_packs());
            packs.any(|pack| pack.superblock.sha256 == *sha256)
        };
        let names = images.iter().map(|(.., image)| image.name.clone());
        check_used(&given, is_used, &names.collect::<Vec<_>>())
    }
}

/// Fails if `is_used` returns false for a pack in `given`. `names` are the images they are for.
pub fn check_used(
    given: &[Arc<Opened>],
    is_used: impl Fn(&[u8; 32]) -> bool,
    names: &[String],
) -> Result<()> {
    match given.iter().find(|pack| !is_used(&pack.superblock.sha256)) {
        None => Ok(()),
        Some(pack) => {
            let why = format!(
                "is not a pack of {}; daxfs info lists the packs of an image",
                names.join(" or ")
            );
            Err(Error::refused(pack.name.clone(), why))
        }
    }
}

impl Opened {
    /// Opens the packs of this image, which is at `at` in `path`, from `given` and from its store.
    ///
    /// Compares a pack's size and SHA-256 with the image's table, but does not hash its bytes.
    pub fn find_packs(&mut self, path: &Path, at: &At, given: &[Arc<Opened>]) {
        let store = packs_beside(path);
        make_room(self.superblock.pack_count() as usize + given.len());
        let find = |index| {
            let record = self.image().pack(index);
            let record = record.map_err(|error| Error::image(&self.name, b"", error))?;
            let known = given.iter().find(|pack| pack.superblock.is_pack(&record));
            match (known, &store) {
                (Some(pack), _) => Ok(Some(Arc::clone(pack))),
                _ if at.name.is_some() => on_device(path, at, &record).map(Some),
                (None, Some(store)) => in_store(store, &record),
                (None, None) => Ok(None),
            }
        };
        self.packs = (0..self.superblock.pack_count()).map(find).collect();
    }

    /// Returns the open packs of this image.
    pub fn open_packs(&self) -> impl Iterator<Item = &Arc<Opened>> {
        self.packs.iter().flatten().flatten()
    }

    /// Fails unless all packs of this image are open.
    pub fn require_packs(&self) -> Result<()> {
        let reader = self.reader();
        for index in 0..self.superblock.pack_count() {
            reader.pack(index, |why| {
                Error::refused(self.name.clone(), format!("has content in {why}"))
            })?;
        }
        Ok(())
    }
}

/// Returns the directory with the packs of the image at `path`, if the image is in a store.
pub fn packs_beside(path: &Path) -> Option<PathBuf> {
    // The path may be a symbolic link, or relative to the directory.
    let path = path.canonicalize().ok()?;
    let images = path.parent()?;
    let packs = images.with_file_name("packs");
    (images.file_name()? == "images" && packs.is_dir()).then_some(packs)
}

/// Returns the error for the image `name` of a store without the pack `sha256`.
pub fn missing_pack(name: &str, sha256: &str) -> Error {
    let why = format!(
        "needs pack {sha256}, which is missing; restore it from a copy, or use daxfs store remove"
    );
    Error::refused(name, why)
}

/// Opens the pack with this `record` in the store of the image at `at` in `path`.
fn on_device(path: &Path, at: &At, record: &layout::Pack) -> Result<Arc<Opened>> {
    let at = At {
        offset: at.offset,
        name: Some(pack_name(&hex(&record.sha256))),
    };
    check(Opened::open_at(path, &at)?, record)
}

/// Opens the pack with this `record` in the directory `store`, `None` if it is not there.
fn in_store(store: &Path, record: &layout::Pack) -> Result<Option<Arc<Opened>>> {
    let path = store.join(format!("{}.daxfs", hex(&record.sha256)));
    if !path.exists() {
        return Ok(None);
    }
    check(Opened::open(&path)?, record).map(Some)
}

/// Returns `pack` if it matches `record`.
fn check(pack: Opened, record: &layout::Pack) -> Result<Arc<Opened>> {
    if !pack.superblock.is_pack(record) {
        let why = "has another SHA-256 or size than the image says; restore it from a copy";
        return Err(Error::refused(pack.name, why));
    }
    can_be_pack(&pack)?;
    Ok(Arc::new(pack))
}

fn can_be_pack(pack: &Opened) -> Result<()> {
    if pack.superblock.pack_count() > 0 {
        let why = "has packs itself, so it cannot be a pack";
        return Err(Error::refused(pack.name.clone(), why));
    }
    Ok(())
}
