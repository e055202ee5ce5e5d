// SPDX-License-Identifier: GPL-2.0-only

//! Packs of composed images: found among files that the user names, or in the store that has the image.

use crate::error::{Error, Result};
use crate::reader::missing;
use crate::source::Opened;
use daxfs_files::digest::hex;
use daxfs_reader::layout;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that are open beside packs, at most.
const OTHER_FILES: u64 = 64;

/// Files with packs of composed images.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PackFiles {
    /// A file or device that is a pack of the image and has content of its files; may be repeated
    ///
    /// Packs of an image in a store need not be named.
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

    /// Opens the files, and joins each of `images`, which come with their paths, with its packs.
    ///
    /// Fails if one of the files is not a pack of any of them, or a pack has packs itself.
    pub fn join(&self, images: &mut [(&Path, &mut Opened)]) -> Result<()> {
        let given = self.open()?;
        for (path, image) in &mut *images {
            image.find_packs(path, &given)?;
            for pack in image.packs.iter().flatten() {
                if pack.superblock.pack_count() > 0 {
                    let why = "has packs itself, so it cannot be a pack";
                    return Err(Error::refused(pack.name.clone(), why));
                }
            }
        }
        let images = images.iter().map(|(_, image)| &**image);
        check_used(&given, &images.collect::<Vec<_>>())
    }
}

/// Fails if one of the packs in `given` is not a pack of any of `images`.
pub fn check_used(given: &[Arc<Opened>], images: &[&Opened]) -> Result<()> {
    let is_used = |pack: &&Arc<Opened>| {
        let mut packs = images.iter().flat_map(|image| image.packs.iter().flatten());
        packs.any(|used| used.superblock.sha256 == pack.superblock.sha256)
    };
    match given.iter().find(|pack| !is_used(pack)) {
        None => Ok(()),
        Some(pack) => {
            let names: Vec<_> = images.iter().map(|image| &*image.name).collect();
            let why = format!(
                "is not a pack of {}; daxfs info lists the packs of an image",
                names.join(" or ")
            );
            Err(Error::refused(pack.name.clone(), why))
        }
    }
}

impl Opened {
    /// Opens the packs of this image, which is at `path`: those among `given`, and those beside it in a store.
    ///
    /// A pack that is missing is left out. The packs must have the SHA-256 and size in the image's table; their bytes
    /// are not compared with the SHA-256.
    pub fn find_packs(&mut self, path: &Path, given: &[Arc<Opened>]) -> Result<()> {
        let store = packs_beside(path);
        let mut packs = Vec::new();
        make_room(self.superblock.pack_count() as usize + given.len());
        for index in 0..self.superblock.pack_count() {
            let record = self.image().pack(index);
            let record = record.map_err(|error| Error::image(&self.name, b"", error))?;
            packs.push(
                match given.iter().find(|pack| pack.superblock.is_pack(&record)) {
                    Some(pack) => Some(Arc::clone(pack)),
                    None => match &store {
                        Some(store) => in_store(store, &record)?,
                        None => None,
                    },
                },
            );
        }
        self.packs = packs;
        Ok(())
    }

    /// Fails if a pack of this image is missing.
    pub fn require_packs(&self) -> Result<()> {
        for index in 0..self.superblock.pack_count() {
            if !matches!(self.packs.get(index as usize), Some(Some(_))) {
                let record = self.image().pack(index);
                let record = record.map_err(|error| Error::image(&self.name, b"", error))?;
                return Err(Error::refused(
                    self.name.clone(),
                    missing("has content", &record),
                ));
            }
        }
        Ok(())
    }
}

/// Returns the directory with the packs of the image at `path`, if it is in a store.
fn packs_beside(path: &Path) -> Option<PathBuf> {
    // The image may be named by a symbolic link, or from within the directory.
    let path = path.canonicalize().ok()?;
    let images = path.parent()?;
    let packs = images.with_file_name("packs");
    (images.file_name()? == "images" && packs.is_dir()).then_some(packs)
}

/// Opens the pack with this `record` in the directory `store`, `None` if it does not have the pack.
fn in_store(store: &Path, record: &layout::Pack) -> Result<Option<Arc<Opened>>> {
    let path = store.join(format!("{}.daxfs", hex(&record.sha256)));
    if !path.exists() {
        return Ok(None);
    }
    let pack = Opened::open(&path)?;
    match pack.superblock.is_pack(record) {
        true => Ok(Some(Arc::new(pack))),
        false => {
            let why = "has another SHA-256 or size than its name says; restore it from a copy";
            Err(Error::refused(pack.name, why))
        }
    }
}

/// Raises the limit of open files so that `count` packs can be open, as far as the process may.
pub fn make_room(count: usize) {
    let limits = getrlimit(Resource::Nofile);
    let wanted = count as u64 + OTHER_FILES;
    let current = match limits.current {
        Some(current) if current < wanted => {
            Some(limits.maximum.map_or(wanted, |maximum| maximum.min(wanted)))
        }
        _ => return,
    };
    let maximum = limits.maximum;
    // If this fails, opening a pack says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}
