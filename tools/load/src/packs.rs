// SPDX-License-Identifier: GPL-2.0-only

//! Packs of an image to mount: those in the image's domain in the kernel, and files and devices
//! that are passed to the kernel.

use crate::buffer::Kind;
use crate::catalog::value;
use crate::context::explain;
use crate::file::ImageFile;
use crate::options::{is_for_kernel, MountOptions};
use daxfs_files::digest::hex;
use daxfs_files::make_room;
use daxfs_files::values::size;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::{missing_pack, packs_beside};
use daxfs_image::source::{At, Opened};
use daxfs_image::text::shown_path;
use daxfs_reader::layout::Pack;
use rustix::fs::{fadvise, Advice};
use rustix::io::{retry_on_intr, Errno};
use rustix::mount::{
    fsconfig_reconfigure, fsconfig_set_fd, fsconfig_set_string, fspick, FsPickFlags,
};
use std::fs::{metadata, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fails if there is no room to load this many bytes.
pub type Room<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Images and packs loaded for a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Their number.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Number of packs that were already in memory.
    pub shared: usize,
}

impl Loaded {
    pub(crate) fn count(&mut self, file: &ImageFile) {
        self.images += 1;
        self.bytes += file.size;
    }
}

/// The packs of an image, and where to find them. By default, a mount uses those in its domain, and
/// lacks the others.
#[derive(Default)]
pub struct Packs {
    /// The image's name for messages.
    name: String,
    /// The image's table; `None` if only the kernel can read it.
    table: Option<Vec<Pack>>,
    /// Files and devices from the user.
    given: Vec<PathBuf>,
    /// The directory of the store that has the others.
    store: Option<PathBuf>,
}

impl Packs {
    /// Returns the packs of the image file `image`, from the files and devices `given` or from its
    /// store.
    pub fn of_file(image: &ImageFile, given: &[PathBuf]) -> Result<Self> {
        Ok(Packs {
            name: shown_path(&image.path),
            table: Some(image.packs()?),
            given: given.to_vec(),
            store: packs_beside(&image.path),
        })
    }

    /// Returns the packs of the image on `device` that the mount options `words` locate, with the
    /// files and devices in these options.
    pub fn of_device(device: &Path, words: &[String]) -> Self {
        let number = |name| value(words, name).and_then(|text| size(text).ok());
        let at = At {
            offset: number("fsoffset"),
            name: None,
        };
        // Only the kernel can read other memory, and it reports what is wrong with an image.
        let opened = match value(words, "phys") {
            None => Opened::open_at(device, &at).ok(),
            Some(_) => None,
        };
        let mut table = opened.and_then(|opened| opened.reader().packs().ok());
        // The options give the places of packs on the same device.
        if value(words, "pack").is_some_and(is_for_kernel) {
            table = None;
        }
        Packs {
            name: shown_path(device),
            table,
            given: MountOptions::parse(words).packs,
            store: None,
        }
    }

    /// Returns true if the image has no packs and the user gave none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.table.as_ref().is_none_or(Vec::is_empty)
    }

    /// Returns the domain in which a store's images share packs, if the image is in a store.
    pub(crate) fn domain(&self) -> Result<Option<String>> {
        let store = self.store.as_ref().and_then(|packs| packs.parent());
        store.map(domain_of).transpose()
    }

    /// Returns the SHA-256 of pack `index` of the table, or zeros.
    pub fn sum(&self, index: usize) -> [u8; 32] {
        let table = self.table.as_deref().unwrap_or_default();
        table.get(index).map_or([0; 32], |record| record.sha256)
    }

    /// Attaches pack `index` of the table to the image mounted on `dir`. If the image's domain
    /// lacks the pack, checks `room` and loads it from the store.
    pub fn attach(&self, index: usize, dir: &Path, room: Room<'_>) -> Result<()> {
        let table = self.table.as_deref().unwrap_or_default();
        let fs = pick(dir)?;
        let missing = table.get(index..=index).unwrap_or_default();
        for record in missing {
            if !is_loaded(&fs, &record.sha256)? {
                let file = self.in_store(record)?;
                room(Kind::Memfd.size_of(file.size))?;
                give(&fs, &[file], &mut Loaded::default())?;
            }
        }
        reconfigure(&fs)
    }

    /// Selects for the mount context `fs` the packs in its domain, if it has one. Returns their
    /// number, and files with the other packs.
    ///
    /// Fails if a pack is missing, or if a given file is not a pack of the image.
    pub(crate) fn choose(&self, fs: &OwnedFd, has_domain: bool) -> Result<(usize, Vec<ImageFile>)> {
        let table = self.table.as_deref().unwrap_or_default();
        make_room(table.len() + self.given.len());
        let mut given = open(&self.given)?;
        let Some(table) = &self.table else {
            return Ok((0, given));
        };
        let (mut shared, mut others) = (0, Vec::new());
        for record in table {
            let at = given
                .iter()
                .position(|file| file.superblock.is_pack(record));
            let file = at.map(|at| given.swap_remove(at));
            if has_domain && is_loaded(fs, &record.sha256)? {
                shared += 1;
            } else {
                others.push(file.map_or_else(|| self.in_store(record), Ok)?);
            }
        }
        let is_known = |file: &&ImageFile| table.iter().any(|it| file.superblock.is_pack(it));
        match given.iter().find(|file| !is_known(file)) {
            None => Ok((shared, others)),
            Some(other) => {
                let name = &self.name;
                let why =
                    format!("is not a pack of {name}; daxfs info lists the packs of an image");
                Err(Error::refused(shown_path(&other.path), why))
            }
        }
    }

    /// Opens the pack with this `record` in the store.
    fn in_store(&self, record: &Pack) -> Result<ImageFile> {
        let sha256 = hex(&record.sha256);
        let Some(store) = &self.store else {
            let why =
                format!("needs pack {sha256}; name the file or device that has it with pack=");
            return Err(Error::refused(&self.name, why));
        };
        let path = store.join(format!("{sha256}.daxfs"));
        if !path.exists() {
            return Err(missing_pack(&self.name, &sha256));
        }
        let file = ImageFile::open(&path)?;
        if !file.superblock.is_pack(record) {
            let why = "has another SHA-256 or size than the image says; restore it from a copy";
            return Err(Error::refused(shown_path(&path), why));
        }
        Ok(file)
    }
}

fn open(files: &[PathBuf]) -> Result<Vec<ImageFile>> {
    files.iter().map(|path| ImageFile::open(path)).collect()
}

/// Selects the pack `sha256` for the mount context `fs`, if its domain has the pack.
fn is_loaded(fs: &OwnedFd, sha256: &[u8; 32]) -> Result<bool> {
    match fsconfig_set_string(fs.as_fd(), "pack", hex(sha256)) {
        Ok(()) => Ok(true),
        Err(Errno::NOMEDIUM) => {
            // Discard the kernel's message.
            let _ = explain(fs, "", Errno::NOMEDIUM);
            Ok(false)
        }
        Err(error) => Err(explain(fs, "cannot look for packs", error)),
    }
}

/// Passes the packs in `files` to the mount context `fs`: devices directly, files as copies.
pub(crate) fn give(fs: &OwnedFd, files: &[ImageFile], loaded: &mut Loaded) -> Result<()> {
    for file in files {
        let copy = match file.device() {
            Some(_) => None,
            None => Some(Kind::Memfd.make(file)?.fd),
        };
        let memory = copy.as_ref().map(AsFd::as_fd).or(file.device());
        // Freezing this process interrupts the call, which does not restart.
        let pass = |memory| retry_on_intr(|| fsconfig_set_fd(fs.as_fd(), "pack", memory));
        let given = memory.map(pass);
        if let Some(Err(error)) = given {
            return Err(match explain(fs, "cannot hand over the pack", error) {
                Error::Mount { said, source } => Error::Mount {
                    said: format!("{}: {said}", shown_path(&file.path)),
                    source,
                },
                error => error,
            });
        }
        if copy.is_some() {
            loaded.count(file);
            forget(&file.path);
        }
    }
    Ok(())
}

/// Drops the page cache of a loaded file, which would waste memory.
pub(crate) fn forget(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
}

/// Returns the domain in which images of the store in the directory `store` share packs.
pub fn domain_of(store: &Path) -> Result<String> {
    let status = metadata(store);
    let status =
        status.map_err(|error| Error::system(shown_path(store), "cannot examine", "", error))?;
    Ok(format!("store-{:x}-{:x}", status.dev(), status.ino()))
}

/// Returns a context to change the mount on `dir`.
fn pick(dir: &Path) -> Result<OwnedFd> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    let fs = fspick(rustix::fs::CWD, dir, flags);
    fs.map_err(|error| Error::system(shown_path(dir), "cannot remount", "", error))
}

fn reconfigure(fs: &OwnedFd) -> Result<()> {
    fsconfig_reconfigure(fs.as_fd()).map_err(|error| explain(fs, "cannot attach packs", error))
}

/// Attaches packs, in these files and devices, to the image mounted on `dir`.
pub fn attach(dir: &Path, packs: &[PathBuf]) -> Result<()> {
    let fs = pick(dir)?;
    make_room(packs.len());
    let mut others = Vec::new();
    for file in open(packs)? {
        if !is_loaded(&fs, &file.superblock.sha256)? {
            others.push(file);
        }
    }
    give(&fs, &others, &mut Loaded::default())?;
    reconfigure(&fs)
}
