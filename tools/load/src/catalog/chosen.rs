// SPDX-License-Identifier: GPL-2.0-only

//! Finds the image that a mount names in a store on a device, because the kernel needs its place.

use super::medium::{Access, Disk};
use crate::query::uuid;
use daxfs_files::digest::hex;
use daxfs_image::catalog::unknown;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::missing_pack;
use daxfs_image::text::{shown, shown_path};
use daxfs_reader::catalog::{pack_name, Listed, Table};
use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// An image to mount, and the device with its store.
pub struct Chosen {
    disk: Disk,
    image: Listed,
}

/// Returns the value of the mount option `name`, the last one if it is repeated.
pub fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let value = |word: &'a String| word.strip_prefix(name)?.strip_prefix('=');
    words.iter().rev().find_map(value)
}

/// Opens the device `source`, which may have a store, unless the mount uses other memory.
fn open(source: &Path, words: &[String]) -> Result<Option<Disk>> {
    match source.metadata().map(|found| found.file_type()) {
        Ok(kind)
            if value(words, "phys").is_none()
                && (kind.is_block_device() || kind.is_char_device()) =>
        {
            Disk::open(source, Access::Read).map(Some)
        }
        _ => Ok(None),
    }
}

impl Chosen {
    /// Finds the image for a mount of `source` with the options `words`: by `image=`, or the active
    /// one if `source` has a store. Replaces that option with the image's place and those of its
    /// packs.
    pub fn find(source: &Path, words: &mut Vec<String>) -> Result<Option<Self>> {
        let name = value(words, "image").map(str::to_owned);
        if value(words, "fsoffset").is_some() || value(words, "fslength").is_some() {
            let why = "image= excludes fsoffset= and fslength=";
            return name.map_or(Ok(None), |_| Err(Error::refused("", why)));
        }
        let opened = match (open(source, words), &name) {
            (Ok(opened), _) => opened,
            // Let the kernel report the error.
            (Err(_), None) => None,
            (Err(Error::System { name, source, .. }), Some(_)) => {
                let remedy = "; give fsoffset= and fslength= in place of image=: \
                              daxfs store list --json shows both where the store can be read";
                return Err(Error::system(name, "cannot read the store", remedy, source));
            }
            (Err(error), Some(_)) => return Err(error),
        };
        let table = match &opened {
            Some(disk) => {
                Table::load(&disk.bytes).map_err(|error| Error::image(&disk.name, b"", error))?
            }
            None => None,
        };
        let (Some(disk), Some(table)) = (opened, table) else {
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
        // The kernel reports what is wrong with an image.
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
        Ok(Some(Chosen { disk, image }))
    }

    /// Checks that the store still has the image, and that `mount` shows it. This is safe, because
    /// whoever reuses an image's space first changes the table, and then searches sysfs, which
    /// lists `mount`, for mounts of the image.
    ///
    /// Fails with `ESTALE` if not, and if the table cannot be read.
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
