// SPDX-License-Identifier: GPL-2.0-only

//! Stores on devices: block devices, DAX devices in devdax mode, and files that back a VM's memory.
//!
//! The table at the start of the device lists the place of each image and pack.
//! Documentation/store.rst describes its format, and why an update survives power loss.

mod change;
mod chosen;
mod insert;
mod medium;
mod mounted;

pub use change::{commit, create};
pub use chosen::{value, Chosen};
pub use insert::{insert, New, State, Users};
pub use medium::Medium;

use crate::file::{cannot_write, ImageFile};
use daxfs_files::{parent_of, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_reader::catalog::{is_pack, Listed, Table, CATALOG_SIZE};
use daxfs_reader::layout::{HUGE_SIZE, MAGIC};
use medium::{Access, Disk};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::Path;

/// When to reuse the space of removed images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reuse {
    /// Never, because other kernels that share the memory may have mounted them
    Never,
    /// Only on a block device, and only if this kernel has not mounted them
    Unmounted,
    /// Unless this kernel has mounted them. Use this only if no other kernel uses the device
    Always,
}

/// Returns the ranges of `disk` that this kernel has mounted, given the listed `images`.
fn mounted(disk: &Disk, images: &[Listed]) -> Result<Vec<Range<u64>>> {
    let Some(device) = disk.device.as_deref() else {
        return Ok(Vec::new());
    };
    mounted::ranges(device, images).map_err(|error| {
        let remedy = "; mount sysfs on /sys, and be root";
        Error::system(
            &disk.name,
            "cannot tell from /sys/fs/daxfs what is mounted",
            remedy,
            error,
        )
    })
}

/// Loads the table of `disk` to change it. Warns if a copy is damaged.
fn load_to_change(disk: &Disk) -> Result<Table> {
    let table = disk.load()?;
    disk.warn_damaged(&table);
    Ok(table)
}

/// Creates a store on the device `path`, or in a new file of `size` bytes. Unless `force`,
/// overwrites no known content.
///
/// Fails if there is other content, if an image is mounted, or if writing fails.
pub fn init(path: &Path, size: Option<u64>, force: bool) -> Result<()> {
    let Some(size) = size else {
        return init_existing(path, force);
    };
    let name = shown_path(path);
    check_size(&name, size)?;
    let cannot_make = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "; --size is for a new file",
            _ => "",
        };
        Error::system(&name, "cannot make", remedy, error)
    };
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(cannot_make)?;
    let made = file.set_len(size).map_err(cannot_make);
    let made = made.and_then(|()| init_existing(path, force));
    // The file's name must survive power loss, too.
    let directory = File::open(parent_of(path));
    let made = made.and_then(|()| {
        let done = directory.and_then(|directory| directory.sync_all());
        done.map_err(|error| Error::system(&name, "cannot write its directory", "", error))
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

/// Fails if a device or file of `size` bytes is too small.
fn check_size(name: &str, size: u64) -> Result<()> {
    let least = CATALOG_SIZE + HUGE_SIZE;
    if size < least {
        let why = format!("has {size} bytes; a store with an image needs at least {least}");
        return Err(Error::refused(name, why));
    }
    Ok(())
}

fn init_existing(path: &Path, force: bool) -> Result<()> {
    let mut disk = Disk::open(path, Access::Alone)?;
    let size = disk.bytes.size;
    check_size(&disk.name, size)?;
    if !mounted(&disk, &[])?.is_empty() {
        let why = "an image on it is mounted; unmount it first";
        return Err(Error::refused(&disk.name, why));
    }
    let overwrite = Overwrite::new(force);
    let mut start = [0; MAGIC.len()];
    let is_image = disk.bytes.read(0, &mut start).is_ok() && start == MAGIC;
    match disk.device {
        Some(_) => overwrite.check_device(path, size, |at, into| disk.bytes.read(at, into))?,
        None if is_image => overwrite.check_part(path, 0, size, &disk.bytes)?,
        None => overwrite.check_file(path)?,
    }
    let mut table = Table::new(size);
    let done = create(&mut table, &mut disk.bytes);
    done.map_err(|error| cannot_write(&disk.name, "", error))
}

/// Returns the error for adding an image whose name `name` is taken on `device`.
pub fn taken(device: &str, name: &str) -> Error {
    let why =
        format!("has an image '{name}' already; choose another name, or remove that one first");
    Error::refused(device, why)
}

/// Adds `image` to the store on the device `path` as `name`. `reuse` selects the removed images
/// whose space may be reused. Returns false if the store already has this pack, or lacks one in
/// `needs`.
///
/// Fails with [`Error::Full`] if there is not enough room, if the store has another image `name`,
/// or if the device cannot be used.
pub fn add(
    path: &Path,
    name: &str,
    image: &ImageFile,
    needs: &[String],
    reuse: Reuse,
) -> Result<bool> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    match table.find(name) {
        Some(found) if is_pack(name) && found.uuid == image.superblock.uuid => return Ok(false),
        Some(_) => return Err(taken(&disk.name, name)),
        None if needs.iter().any(|pack| table.find(pack).is_none()) => return Ok(false),
        None => (),
    }
    if table.damaged.is_some() && reuse != Reuse::Always {
        let why =
            "a copy of the store's table is damaged, and may have listed an image that is in use; \
                   look at 'daxfs store list', then activate or remove an image, \
                   which writes the copy, or give --reuse always if nobody uses the device";
        return Err(Error::refused(&disk.name, why));
    }
    // Only now: a removal that the loaded table lists reached the device before this.
    let mounted = mounted(&disk, &table.images)?;
    let private = disk.private;
    let state = |removed: &Listed| match reuse {
        _ if is_mounted(&mounted, &removed.range) => State::Mounted,
        Reuse::Always => State::Unused,
        // A file's or devdax device's users are unknown; one may be a virtual machine.
        Reuse::Unmounted if private => State::Unused,
        Reuse::Unmounted | Reuse::Never => State::Unknown,
    };
    let users = Users {
        ranges: &mounted,
        state: &state,
    };
    let new = New {
        name,
        uuid: image.superblock.uuid,
        size: image.size,
        block: image.superblock.block_size.into(),
        copy: &|put| image.copy_checked(&disk.name, put),
    };
    insert(&mut disk.bytes, &disk.name, &mut table, &new, &users).map(|()| true)
}

/// Returns true if part of `range` is mounted.
fn is_mounted(mounted: &[Range<u64>], range: &Range<u64>) -> bool {
    let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
    mounted.iter().any(overlaps)
}

/// Changes the table of the store on the device `path` with `edit`, which receives the device's
/// name for messages. Also rewrites a damaged copy. No other process changes the store meanwhile.
pub fn change<T>(path: &Path, edit: impl FnOnce(&str, &mut Table) -> Result<T>) -> Result<T> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    let before = table.images.clone();
    let result = edit(&disk.name, &mut table)?;
    if table.images != before || table.damaged.is_some() {
        commit(&mut table, &mut disk.bytes).map_err(|error| cannot_write(&disk.name, "", error))?;
    }
    Ok(result)
}

/// A device and the table of its store.
pub struct Overview {
    disk: Disk,
    /// The table.
    pub table: Table,
    /// Ranges that this kernel has mounted, if known.
    mounted: Option<Vec<Range<u64>>>,
}

impl Overview {
    /// Loads the table of the store on the device `path`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::of(Disk::open(path, Access::Read)?)
    }

    /// Like [`Overview::load`], but keeps others from changing the store.
    pub fn keep(path: &Path) -> Result<Self> {
        Self::of(Disk::open(path, Access::Keep)?)
    }

    fn of(disk: Disk) -> Result<Self> {
        let table = disk.load()?;
        let known = disk.device.as_deref().filter(|_| disk.private);
        let mounted = known.and_then(|device| mounted::ranges(device, &table.images).ok());
        Ok(Overview {
            disk,
            table,
            mounted,
        })
    }

    /// Returns the name of the device for messages.
    pub fn device(&self) -> &str {
        &self.disk.name
    }

    /// Returns whether this kernel has mounted `image`, if known.
    pub fn is_mounted(&self, image: &Listed) -> Option<bool> {
        let mounted = self.mounted.as_ref();
        mounted.map(|mounted| is_mounted(mounted, &image.range))
    }

    /// Returns the size of the largest free range.
    pub fn free(&self) -> u64 {
        let free = self.table.free(self.mounted.as_deref().unwrap_or_default());
        let sizes = free.iter().map(|range| range.end - range.start);
        sizes.max().unwrap_or(0)
    }
}

/// Opens `image` in the store on the device `path`.
pub fn open(path: &Path, image: &Listed) -> Result<Opened> {
    let mut source = daxfs_image::source::open(path)?;
    (source.start, source.size) = (image.range.start, image.range.end - image.range.start);
    Opened::of_source(source, format!("{}: {}", shown_path(path), image.name))
}
