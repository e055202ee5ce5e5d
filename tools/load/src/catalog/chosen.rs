// SPDX-License-Identifier: GPL-2.0-only

//! Finds the image of a store on a device that a mount names, for the kernel knows only its place.

use super::medium::{Access, Disk};
use crate::context::look_at_range;
use crate::query::uuid;
use daxfs_files::digest::hex;
use daxfs_files::values::size;
use daxfs_image::catalog::unknown;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::missing_pack;
use daxfs_image::text::{shown, shown_path};
use daxfs_reader::catalog::{pack_name, Listed, Table, CATALOG_SIZE};
use rustix::fs::{flock, openat, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// An image to mount, and the memory with its store.
pub struct Chosen {
    disk: Disk,
    image: Listed,
    _lock: Option<File>,
}

/// Returns the value of the mount option `name`, the last one if there are several.
pub fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let value = |word: &'a String| word.strip_prefix(name)?.strip_prefix('=');
    words.iter().rev().find_map(value)
}

/// Memory that may have a store, and a lock on it.
type Opened = (Disk, Option<File>);

/// Opens the memory that a mount of `source` with the options `words` names, if it may have a
/// store.
fn open(source: &Path, words: &[String]) -> Result<Option<Opened>> {
    let number = |name| value(words, name).and_then(|text| size(text).ok());
    if let (Some(start), Some(size)) = (number("phys"), number("size")) {
        let memory = File::open("/dev/mem");
        // While a process looks at a range, no other one can read it.
        if let Ok(memory) = &memory {
            flock(memory, FlockOperation::LockExclusive)
                .map_err(|error| Error::system("/dev/mem", "cannot lock", "", error))?;
        }
        // The kernel knows whether the range is memory, which may be read.
        if !look_at_range(start, size, size.min(CATALOG_SIZE))? {
            return Ok(None);
        }
        let memory = memory.map_err(|error| Error::system("/dev/mem", "cannot open", "", error))?;
        return Ok(Some((Disk::range(&memory, start, size)?, Some(memory))));
    }
    let kind = match source.metadata() {
        Ok(found) if value(words, "phys").is_none() => found.file_type(),
        _ => return Ok(None),
    };
    match kind.is_block_device() || kind.is_char_device() {
        true => Ok(Some((Disk::open(source, Access::Read)?, None))),
        false => Ok(None),
    }
}

impl Chosen {
    /// Finds the image that a mount of `source` with the options `words` names: with `image=`, or
    /// the active one if `source` has a store. Replaces that option by its place and those of its
    /// packs.
    pub fn find(source: &Path, words: &mut Vec<String>) -> Result<Option<Self>> {
        let name = value(words, "image").map(str::to_owned);
        if value(words, "fsoffset").is_some() || value(words, "fslength").is_some() {
            let why = "image= excludes fsoffset= and fslength=";
            return name.map_or(Ok(None), |_| Err(Error::refused("", why)));
        }
        let opened = match (open(source, words), &name) {
            (Ok(opened), _) => opened,
            // Leave the error to the kernel.
            (Err(_), None) => None,
            (Err(Error::System { name, source, .. }), Some(_)) => {
                let remedy = "; give fsoffset= and fslength= in place of image=: \
                              daxfs store list --json shows both where the store can be read";
                return Err(Error::system(name, "cannot read the store", remedy, source));
            }
            (Err(error), Some(_)) => return Err(error),
        };
        let table = match &opened {
            Some((disk, _)) => {
                Table::load(&disk.bytes).map_err(|error| Error::image(&disk.name, b"", error))?
            }
            None => None,
        };
        let (Some((disk, _lock)), Some(table)) = (opened, table) else {
            let Some(name) = name else { return Ok(None) };
            let name = shown(name.as_bytes());
            let why = format!("no store, and so no image '{name}'; mount it without image=");
            return Err(Error::refused(shown_path(source), why));
        };
        disk.warn_damaged(&table);
        let image = match &name {
            Some(name) => table.find(name),
            None => table.active(),
        };
        let image = image.ok_or_else(|| match &name {
            Some(name) => unknown(&disk.name, &table, name),
            None => {
                let why = "no image of the store is active; \
                           name one with image=, or use 'daxfs store activate'";
                Error::refused(&disk.name, why)
            }
        })?;
        words.retain(|word| !word.starts_with("image="));
        words.push(format!("fsoffset={:#x}", image.range.start));
        words.push(format!("fslength={:#x}", image.length()));
        // The kernel says what is wrong with an image.
        let opened = super::open(source, image);
        let packs = opened.and_then(|opened| opened.reader().packs());
        for pack in packs.unwrap_or_default() {
            let sha256 = hex(&pack.sha256);
            let found = table.find(&pack_name(&sha256));
            let found = found.ok_or_else(|| missing_pack(&image.name, &sha256))?;
            let (start, length) = (found.range.start, found.length());
            words.push(format!("pack={sha256}:{start:#x}:{length:#x}"));
        }
        let image = image.clone();
        Ok(Some(Chosen { disk, image, _lock }))
    }

    /// Checks that the store still has the image, and that `mount` is one of it. Before the space
    /// of an image is used again, the table is changed first, and sysfs, which shows `mount`, is
    /// searched for mounts of the image after that.
    ///
    /// Fails with `ESTALE` if not, and with the errors of reading the table.
    pub fn check(&mut self, mount: BorrowedFd<'_>) -> Result<()> {
        let forgotten = self.disk.bytes.forget();
        let Chosen { disk, image, .. } = self;
        let stale = |why: &str| Error::Mount {
            said: format!("{}: image '{}' {why}", disk.name, image.name),
            source: Errno::STALE.into(),
        };
        let cannot_read = |error: io::Error| Error::system(&disk.name, "cannot read", "", error);
        forgotten.map_err(cannot_read)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat(mount, ".", flags, Mode::empty()).and_then(uuid);
        if found.map_err(|error| cannot_read(error.into()))? != image.uuid {
            let why = "is not the one that was added to the store; remove it and add it again";
            return Err(stale(why));
        }
        let table = disk.load()?;
        match table.find(&image.name) {
            Some(now) if now.range == image.range && now.uuid == image.uuid => Ok(()),
            _ => Err(stale("was replaced; mount again")),
        }
    }
}
