// SPDX-License-Identifier: GPL-2.0-only

//! Several images on one device.
//!
//! The catalog at the start of the device says where each image is; Documentation/catalog.rst
//! has the format, and why an update survives power loss.

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
use daxfs_image::catalog::unknown;
use daxfs_image::error::{Error, Result};
use daxfs_reader::catalog::{valid_name, Listed, Table, CATALOG_SIZE};
use daxfs_reader::layout::{HUGE_SIZE, MAGIC};
use medium::{Access, Disk};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::path::Path;

/// When the space of removed images is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reuse {
    /// Never, because other kernels that share the memory may have mounted them
    Never,
    /// Only on a block device, and only if this kernel has not mounted them
    Unmounted,
    /// Unless this kernel has mounted them. Use this only if no other kernel uses the device
    Always,
}

/// Write the changed catalog of `disk`.
fn write(table: &mut Table, disk: &mut Disk) -> Result<()> {
    let done = commit(table, &mut disk.bytes);
    done.map_err(|error| cannot_write(&disk.name, "", error))
}

/// Return the ranges of `disk`, with these `images`, that this kernel has mounted.
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

/// Load the catalog of `disk` to change it. Say if a copy is damaged.
fn load_to_change(disk: &Disk) -> Result<Table> {
    let table = disk.load()?;
    disk.warn_damaged(&table);
    Ok(table)
}

/// Make a catalog on the device `path`, or on a new file of `size` bytes. Without `force`, nothing that is
/// known is overwritten.
///
/// Fail if there is something else, if an image is mounted, or if it cannot be written.
pub fn init(path: &Path, size: Option<u64>, force: bool) -> Result<()> {
    let Some(size) = size else {
        return init_existing(path, force);
    };
    let name = daxfs_image::text::shown_path(path);
    check_size(&name, size)?;
    let remedy = "; --size is for a new file";
    let cannot_make = |error| Error::system(&name, "cannot make", remedy, error);
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(cannot_make)?;
    let made = file.set_len(size).map_err(cannot_make);
    let made = made.and_then(|()| init_existing(path, force));
    // The name of the file also survives power loss.
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

/// Refuse a device or file of `size` bytes that is too small.
fn check_size(name: &str, size: u64) -> Result<()> {
    let least = CATALOG_SIZE + HUGE_SIZE;
    if size < least {
        let why = format!("has {size} bytes; a catalog and an image need at least {least}");
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

/// Add the image file `image` to the device `path` as `name`, and activate it if `active` is set.
/// `reuse` says which removed images give their space.
///
/// Return [`Error::Full`] without enough room. Fail if the device has an image of this name or
/// cannot be used.
pub fn add(path: &Path, name: &str, image: &Path, active: bool, reuse: Reuse) -> Result<()> {
    match add_once(path, name, image, active, reuse)? {
        true => Ok(()),
        false => Err(taken(&daxfs_image::text::shown_path(path), name)),
    }
}

/// Return the error of adding an image to `device`, which has one with the name `name`.
fn taken(device: &str, name: &str) -> Error {
    let why =
        format!("has an image '{name}' already; choose another name, or remove that one first");
    Error::refused(device, why)
}

/// Do as [`add`], but return false if the device has this image with this name, by its UUID.
pub fn add_once(path: &Path, name: &str, image: &Path, active: bool, reuse: Reuse) -> Result<bool> {
    if valid_name(name.as_bytes()).is_none() {
        let why = "is not a name for an image; use 1 to 63 letters, digits and . _ - + : @";
        return Err(Error::refused(
            daxfs_image::text::shown(name.as_bytes()),
            why,
        ));
    }
    let image = ImageFile::open(image)?;
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    match table.find(name) {
        Some(found) if found.uuid == image.superblock.uuid => return Ok(false),
        Some(_) => return Err(taken(&disk.name, name)),
        None => (),
    }
    if table.damaged.is_some() && reuse != Reuse::Always {
        let why = "a copy of the catalog is damaged, and may have listed an image that is in use; \
                   look at 'daxfs catalog list', then activate or remove an image, \
                   which writes the copy, or give --reuse always if nobody uses the device";
        return Err(Error::refused(&disk.name, why));
    }
    // After the catalog was loaded: a removal that it has was on the device before this.
    let mounted = mounted(&disk, &table.images)?;
    let private = disk.private;
    let state = |removed: &Listed| match reuse {
        _ if is_mounted(&mounted, &removed.range) => State::Mounted,
        Reuse::Always => State::Unused,
        // The users of a file or a device in devdax mode are unknown: a virtual machine, for example.
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
        active,
    };
    insert(&mut disk.bytes, &disk.name, &mut table, &new, &users).map(|()| true)
}

/// Return true if some of `range` is mounted.
fn is_mounted(mounted: &[Range<u64>], range: &Range<u64>) -> bool {
    let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
    mounted.iter().any(overlaps)
}

/// Remove the image `name` of the device `path`; the active one only with `force`.
pub fn remove(path: &Path, name: &str, force: bool) -> Result<()> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    let mut images = table.images.iter_mut();
    let Some(image) = images.find(|image| image.name == name && !image.removed) else {
        return Err(unknown(&disk.name, &table, name));
    };
    if image.active && !force {
        let why = format!(
            "'{name}' is active; activate another image first, or give --force to leave none active"
        );
        return Err(Error::refused(&disk.name, why));
    }
    image.remove();
    write(&mut table, &mut disk)
}

/// Remove the images of the device `path` with the names that `unwanted` returns, in one change, which also writes a damaged
/// copy of the catalog again. No other process changes the catalog in between. Return the removed images.
pub fn remove_all(
    path: &Path,
    unwanted: &mut dyn FnMut(&[Listed]) -> HashSet<String>,
) -> Result<Vec<Listed>> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    let names = unwanted(&table.images);
    let mut removed = Vec::new();
    for image in &mut table.images {
        if !image.removed && names.contains(&image.name) {
            removed.push(image.clone());
            image.remove();
        }
    }
    if !removed.is_empty() || table.damaged.is_some() {
        write(&mut table, &mut disk)?;
    }
    Ok(removed)
}

/// Return the images of the device `path`, removed ones included.
pub fn images(path: &Path) -> Result<Vec<Listed>> {
    Ok(Disk::open(path, Access::Read)?.load()?.images)
}

/// Make `name` the image of the device `path` that is mounted without a name.
pub fn activate(path: &Path, name: &str) -> Result<()> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    if !table.activate(name) {
        return Err(unknown(&disk.name, &table, name));
    }
    write(&mut table, &mut disk)
}

/// A device and its catalog.
pub struct Overview {
    /// Name of the device in messages.
    pub device: String,
    /// The catalog.
    pub table: Table,
    /// Ranges that this kernel has mounted, if that is known.
    mounted: Option<Vec<Range<u64>>>,
}

impl Overview {
    /// Load the catalog of the device `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let disk = Disk::open(path, Access::Read)?;
        let table = disk.load()?;
        let known = disk.device.as_deref().filter(|_| disk.private);
        let mounted = known.and_then(|device| mounted::ranges(device, &table.images).ok());
        Ok(Overview {
            device: disk.name,
            table,
            mounted,
        })
    }

    /// Return whether this kernel has `image` mounted, if that is known.
    pub fn is_mounted(&self, image: &Listed) -> Option<bool> {
        let mounted = self.mounted.as_ref();
        mounted.map(|mounted| is_mounted(mounted, &image.range))
    }

    /// Return the bytes of the largest range that no image has.
    pub fn free(&self) -> u64 {
        let free = self.table.free(self.mounted.as_deref().unwrap_or_default());
        let sizes = free.iter().map(|range| range.end - range.start);
        sizes.max().unwrap_or(0)
    }
}
