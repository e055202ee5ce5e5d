// SPDX-License-Identifier: GPL-2.0-only

//! Packs of an image to mount: those that the kernel has in the image's domain, and files and
//! devices that it is given.

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
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_reconfigure, fsconfig_set_fd, fsconfig_set_string, fspick, FsPickFlags,
};
use std::fs::{metadata, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Checks whether this many bytes can be loaded, and fails if there is no room.
pub type Room<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Images and packs that were loaded for a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Their number.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Number of packs that were in memory already.
    pub shared: usize,
}

impl Loaded {
    /// Counts `file`, which was loaded.
    pub(crate) fn count(&mut self, file: &ImageFile) {
        self.images += 1;
        self.bytes += file.size;
    }
}

/// The packs of an image, and where they are. Without any, a mount has those that its domain has,
/// and misses others.
#[derive(Default)]
pub struct Packs {
    /// The image, in messages.
    name: String,
    /// Its table; `None` if only the kernel can read it.
    table: Option<Vec<Pack>>,
    /// Files and devices that the user has named.
    given: Vec<PathBuf>,
    /// The directory of a store with the others.
    store: Option<PathBuf>,
}

impl Packs {
    /// Returns the packs of the image file `image`, which are in the files and devices `given`, or
    /// in its store.
    pub fn of_file(image: &ImageFile, given: &[PathBuf]) -> Result<Self> {
        Ok(Packs {
            name: shown_path(&image.path),
            table: Some(image.packs()?),
            given: given.to_vec(),
            store: packs_beside(&image.path),
        })
    }

    /// Returns the packs of the image on `device` that the mount options `words` name with the
    /// place, and with files and devices.
    pub fn of_device(device: &Path, words: &[String]) -> Self {
        let number = |name| value(words, name).and_then(|text| size(text).ok());
        let at = At {
            offset: number("fsoffset"),
            name: None,
        };
        // Only the kernel can read other memory, and it says what is wrong with an image.
        let opened = match value(words, "phys") {
            None => Opened::open_at(device, &at).ok(),
            Some(_) => None,
        };
        let mut table = opened.and_then(|opened| opened.reader().packs().ok());
        // Those on the same device are given by their places.
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

    /// Returns true if the image has none, and none is given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.table.as_ref().is_none_or(Vec::is_empty)
    }

    /// Returns the domain in which images of one store share packs, if the image is in a store.
    pub(crate) fn domain(&self) -> Result<Option<String>> {
        let store = self.store.as_ref().and_then(|packs| packs.parent());
        store.map(domain_of).transpose()
    }

    /// Returns the SHA-256 of pack `index` of the table, or zeros.
    pub fn sum(&self, index: usize) -> [u8; 32] {
        let table = self.table.as_deref().unwrap_or_default();
        table.get(index).map_or([0; 32], |record| record.sha256)
    }

    /// Attaches pack `index` of the table to the image that is mounted on `dir`. If the image's
    /// domain does not have it, asks `room`, and loads it from the store.
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

    /// Chooses for the mount context `fs` the packs that its domain has, if it has one. Returns
    /// their number, and files with the others.
    ///
    /// Fails if one is nowhere, or if another file than a pack of the image is given.
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
            match has_domain && is_loaded(fs, &record.sha256)? {
                true => shared += 1,
                false => others.push(file.map_or_else(|| self.in_store(record), Ok)?),
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
        match file.superblock.is_pack(record) {
            true => Ok(file),
            false => {
                let why = "has another SHA-256 or size than the image says; restore it from a copy";
                Err(Error::refused(shown_path(&path), why))
            }
        }
    }
}

fn open(files: &[PathBuf]) -> Result<Vec<ImageFile>> {
    files.iter().map(|path| ImageFile::open(path)).collect()
}

/// Chooses the pack `sha256` for the mount context `fs`, if it is loaded in its domain.
fn is_loaded(fs: &OwnedFd, sha256: &[u8; 32]) -> Result<bool> {
    match fsconfig_set_string(fs.as_fd(), "pack", hex(sha256)) {
        Ok(()) => Ok(true),
        Err(Errno::NOMEDIUM) => {
            // Nobody needs the kernel's message.
            let _ = explain(fs, "", Errno::NOMEDIUM);
            Ok(false)
        }
        Err(error) => Err(explain(fs, "cannot look for packs", error)),
    }
}

/// Gives the packs in `files` to the mount context `fs`: devices as they are, and copies of files.
pub(crate) fn give(fs: &OwnedFd, files: &[ImageFile], loaded: &mut Loaded) -> Result<()> {
    for file in files {
        let copy = match file.device() {
            Some(_) => None,
            None => Some(Kind::Memfd.make(file)?.fd),
        };
        let memory = copy.as_ref().map(AsFd::as_fd).or(file.device());
        let given = memory.map(|memory| fsconfig_set_fd(fs.as_fd(), "pack", memory));
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

/// Frees the page cache of a file that was loaded, and need not be in memory as well.
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

/// Returns a context for a change of the mount on `dir`.
fn pick(dir: &Path) -> Result<OwnedFd> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    let fs = fspick(rustix::fs::CWD, dir, flags);
    fs.map_err(|error| Error::system(shown_path(dir), "cannot remount", "", error))
}

fn reconfigure(fs: &OwnedFd) -> Result<()> {
    fsconfig_reconfigure(fs.as_fd()).map_err(|error| explain(fs, "cannot attach packs", error))
}

/// Gives packs, in these files and devices, to the image that is mounted on `dir`.
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
