// SPDX-License-Identifier: GPL-2.0-only

//! `catalog`: several images on one device.
//!
//! The catalogue at the start of the device says where each image is; Documentation/catalogue.rst
//! has the format, and why an update survives power loss.

mod chosen;
pub mod format;
mod insert;
mod medium;
mod mounted;
mod table;

pub use chosen::Chosen;
pub use insert::{insert, New, State, Users};
pub use medium::{Medium, Part};
pub use table::{Listed, Table};

use crate::error::{Error, Result};
use crate::image::ImageFile;
use crate::options::{Catalog as Command, Reuse};
use crate::show::pretty;
use crate::text::human;
use daxfs_command::stdout::{written, Out};
use daxfs_writer::{parent_of, Overwrite};
use format::{valid_name, CATALOG_ALIGN, CATALOG_SIZE};
use medium::{Access, Disk};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use uuid::Uuid;

/// Run `daxfs catalog`.
///
/// # Errors
///
/// If the device cannot be used, or the request makes no sense.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Init {
            device,
            size,
            force,
        } => init(device, *size, *force),
        Command::List { device, json } => list(device, *json),
        Command::Add {
            device,
            name,
            image,
            activate,
            reuse,
        } => add(device, name, image, *activate, *reuse),
        Command::Remove {
            device,
            name,
            force,
        } => remove(device, name, *force),
        Command::Activate { device, name } => activate(device, name),
    }
}

/// Return the error of writing to `disk`.
fn cannot_write(disk: &Disk, error: io::Error) -> Error {
    Error::system(&disk.name, "cannot write", "", error)
}

/// Write the changed catalogue of `disk`.
fn commit(table: &mut Table, disk: &mut Disk) -> Result<()> {
    let done = table.commit(disk);
    done.map_err(|error| cannot_write(disk, error))
}

/// Return the ranges of `disk` that this kernel has mounted.
fn mounted(disk: &Disk) -> Result<Vec<Range<u64>>> {
    let Some(device) = disk.device.as_deref() else {
        return Ok(Vec::new());
    };
    mounted::ranges(device).map_err(|error| {
        let remedy = "; mount sysfs on /sys, and be root";
        Error::system(
            &disk.name,
            "cannot tell from /sys/fs/daxfs what is mounted",
            remedy,
            error,
        )
    })
}

/// Load the catalogue of `disk`.
fn load(disk: &Disk) -> Result<Table> {
    let memory = Part {
        medium: disk,
        start: 0,
    };
    let table = Table::load(&memory).map_err(|error| Error::image(&disk.name, b"", error))?;
    table.ok_or_else(|| {
        let why = "has no catalogue; daxfs catalog init makes one";
        Error::refused(&disk.name, why)
    })
}

/// Say if a copy is damaged: the catalogue may be the state before the last change.
fn warn_damaged(disk: &Disk, table: &Table) {
    if let Some(error) = table.damaged {
        eprintln!(
            "daxfs: {}: warning: a copy of the catalogue is damaged: {error}",
            disk.name
        );
    }
}

/// Load the catalogue of `disk` to change it. Say if a copy is damaged.
fn load_to_change(disk: &Disk) -> Result<Table> {
    let table = load(disk)?;
    warn_damaged(disk, &table);
    Ok(table)
}

/// Make a catalogue on the device `path`, or on a new file of `size` bytes. Without `force`, nothing that is
/// known is overwritten.
///
/// # Errors
///
/// If there is something else, if an image is mounted, or if it cannot be written.
pub fn init(path: &Path, size: Option<u64>, force: bool) -> Result<()> {
    let Some(size) = size else {
        return init_existing(path, force);
    };
    let name = crate::text::shown_path(path);
    check_size(&name, size)?;
    let remedy = "; --size is for a new file";
    let cannot_make = |error| Error::system(&name, "cannot make", remedy, error);
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(cannot_make)?;
    let made = file.set_len(size).map_err(cannot_make);
    let made = made.and_then(|()| init_existing(path, force));
    // The name of the file is there after power loss, too.
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
    let least = CATALOG_SIZE + CATALOG_ALIGN;
    if size < least {
        let why = format!("has {size} bytes; a catalogue and an image need at least {least}");
        return Err(Error::refused(name, why));
    }
    Ok(())
}

fn init_existing(path: &Path, force: bool) -> Result<()> {
    let mut disk = Disk::open(path, Access::Alone)?;
    check_size(&disk.name, disk.size())?;
    if !mounted(&disk)?.is_empty() {
        let why = "an image on it is mounted; unmount it first";
        return Err(Error::refused(&disk.name, why));
    }
    Overwrite::new(force).check_device(path, disk.size(), |at, into| disk.read(at, into))?;
    let mut table = Table::new(disk.size());
    let done = table.create(&mut disk);
    done.map_err(|error| cannot_write(&disk, error))
}

/// Add the image file `image` to the device `path` as `name`, and activate it if `active` is set.
/// `reuse` says which removed images give their space.
///
/// # Errors
///
/// [`Error::Full`] if there is no room. Others, if the device has an image of this name or cannot be used.
pub fn add(path: &Path, name: &str, image: &Path, active: bool, reuse: Reuse) -> Result<()> {
    if valid_name(name.as_bytes()).is_none() {
        let why = "is no name for an image; use 1 to 63 letters, digits and . _ - + : @";
        return Err(Error::refused(crate::text::shown(name.as_bytes()), why));
    }
    let image = ImageFile::open(image)?;
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    if table.find(name).is_some() {
        let why =
            format!("has an image '{name}' already; choose another name, or remove that one first");
        return Err(Error::refused(&disk.name, why));
    }
    if table.damaged.is_some() && reuse != Reuse::Always {
        let why =
            "a copy of the catalogue is damaged, and may have listed an image that is in use; \
                   look at 'daxfs catalog list', then activate or remove an image, \
                   which writes the copy, or give --reuse always if nobody uses the device";
        return Err(Error::refused(&disk.name, why));
    }
    // After the catalogue was loaded: a removal that it has was on the device before this.
    let mounted = mounted(&disk)?;
    let private = disk.private;
    let state = |removed: &Listed| match reuse {
        _ if is_mounted(&mounted, &removed.range) => State::Mounted,
        Reuse::Always => State::Unused,
        // Nobody here knows who uses a file or a device in devdax mode: a virtual machine, for
        // example.
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
        copy: &|put| image.copy_checked(false, put),
        active,
    };
    let device = disk.name.clone();
    insert(&mut disk, &device, &mut table, &new, &users)
}

/// Return true if some of `range` is mounted.
fn is_mounted(mounted: &[Range<u64>], range: &Range<u64>) -> bool {
    let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
    mounted.iter().any(overlaps)
}

/// Return the error for a name that no image has.
fn unknown(disk: &Disk, table: &Table, name: &str) -> Error {
    let names = table.images.iter().filter(|image| !image.removed);
    let names: Vec<_> = names.map(|image| image.name.as_str()).collect();
    let known = match names.is_empty() {
        true => "it is empty".into(),
        false => format!("it has {}", names.join(", ")),
    };
    let name = crate::text::shown(name.as_bytes());
    Error::refused(
        &disk.name,
        format!("the catalogue has no image '{name}'; {known}"),
    )
}

fn remove(path: &Path, name: &str, force: bool) -> Result<()> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    let Some(at) = table
        .images
        .iter()
        .position(|image| image.name == name && !image.removed)
    else {
        return Err(unknown(&disk, &table, name));
    };
    let image = &mut table.images[at];
    if image.active && !force {
        let why = format!(
            "'{name}' is active; activate another image first, or give --force to leave none active"
        );
        return Err(Error::refused(&disk.name, why));
    }
    image.remove();
    commit(&mut table, &mut disk)
}

/// Remove all images of the device `path` for whose names `unwanted` returns true, in one change, which also
/// writes a damaged copy of the catalogue again.
///
/// # Errors
///
/// If the device cannot be used.
pub fn remove_all(path: &Path, unwanted: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    let mut changed = table.damaged.is_some();
    for image in &mut table.images {
        if !image.removed && unwanted(&image.name) {
            image.remove();
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    commit(&mut table, &mut disk)
}

/// Return the images of the device `path`, removed ones included.
///
/// # Errors
///
/// If it cannot be read, or has no catalogue.
pub fn images(path: &Path) -> Result<Vec<Listed>> {
    Ok(load(&Disk::open(path, Access::Read)?)?.images)
}

fn activate(path: &Path, name: &str) -> Result<()> {
    let mut disk = Disk::open(path, Access::Change)?;
    let mut table = load_to_change(&disk)?;
    if !table.activate(name) {
        return Err(unknown(&disk, &table, name));
    }
    commit(&mut table, &mut disk)
}

/// A catalogue, as `list --json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    device: &'a str,
    generation: u64,
    size: u64,
    /// Bytes of the largest range that no image has.
    free: u64,
    /// What is wrong with the copy that does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    images: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    uuid: String,
    offset: u64,
    length: u64,
    active: bool,
    removed: bool,
    /// Whether this kernel has it mounted; absent if that is not known, as for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted: Option<bool>,
}

fn list(path: &Path, json: bool) -> Result<()> {
    let disk = Disk::open(path, Access::Read)?;
    let table = load(&disk)?;
    let known = disk.device.as_deref().filter(|_| disk.private);
    let mounted = known.and_then(|device| mounted::ranges(device).ok());
    let free = table.free(mounted.as_deref().unwrap_or_default());
    let report = Report {
        schema: "daxfs-catalog-1",
        device: &disk.name,
        generation: table.generation,
        size: table.size,
        free: free
            .iter()
            .map(|range| range.end - range.start)
            .max()
            .unwrap_or(0),
        damaged: table.damaged.map(|error| error.to_string()),
        images: table
            .images
            .iter()
            .map(|image| Row {
                name: &image.name,
                uuid: Uuid::from_bytes(image.uuid).to_string(),
                offset: image.range.start,
                length: image.range.end - image.range.start,
                active: image.active,
                removed: image.removed,
                mounted: mounted.as_ref().map(|all| is_mounted(all, &image.range)),
            })
            .collect(),
    };
    let mut out = Out::open();
    written(match json {
        true => pretty(&mut out, &report),
        false => text(&report, &mut out),
    })?;
    Ok(out.finish()?)
}

fn text(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    if let Some(damaged) = &report.damaged {
        writeln!(
            out,
            "A copy of the catalogue is damaged, and the next change writes it: {damaged}"
        )?;
    }
    let width = report.images.iter().map(|image| image.name.len()).max();
    let width = width.unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:7}  {:7}  {:>14}  {:>5}  UUID",
        "NAME", "STATE", "MOUNTED", "OFFSET", "SIZE"
    )?;
    for image in &report.images {
        let state = match (image.active, image.removed) {
            (true, _) => "active",
            (_, true) => "removed",
            _ => "-",
        };
        let mounted = match image.mounted {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        writeln!(
            out,
            "{:width$}  {state:7}  {mounted:7}  {:>14}  {:>5}  {}",
            image.name,
            image.offset,
            human(image.length),
            image.uuid
        )?;
    }
    writeln!(out, "Largest free range: {}", human(report.free))
}
