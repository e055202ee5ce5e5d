// SPDX-License-Identifier: GPL-2.0-only

//! `catalog`: several images on one device.
//!
//! The catalogue at the start of the device says where each image is; Documentation/catalogue.rst
//! has the format, and why an update survives power loss.

mod insert;
mod medium;
mod mounted;
mod table;

pub use insert::{insert, New, State};
pub use medium::{Medium, Part};
pub use table::{Listed, Table};

use crate::error::{Error, Result};
use crate::image::ImageFile;
use crate::options::{Catalog as Command, Reuse};
use crate::show::pretty;
use crate::text::human;
use daxfs_command::stdout::{written, Out};
use daxfs_reader::catalog::valid_name;
use daxfs_reader::layout::{CATALOG_ALIGN, CATALOG_SIZE};
use daxfs_writer::Overwrite;
use medium::Disk;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write};
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

/// Return the offsets of the images on `disk` that this kernel has mounted.
fn mounted(disk: &Disk) -> Vec<u64> {
    disk.device
        .as_deref()
        .map(mounted::offsets)
        .unwrap_or_default()
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

fn init(path: &Path, size: Option<u64>, force: bool) -> Result<()> {
    if let Some(size) = size {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let made = made.and_then(|file| file.set_len(size));
        let name = crate::text::shown_path(path);
        let remedy = "; --size is for a new file";
        made.map_err(|error| Error::system(name, "cannot make", remedy, error))?;
    }
    let mut disk = Disk::open(path, true)?;
    let least = CATALOG_SIZE + CATALOG_ALIGN;
    if disk.size() < least {
        let why = format!(
            "has {} bytes; a catalogue and an image need at least {least}",
            disk.size()
        );
        return Err(Error::refused(&disk.name, why));
    }
    if !mounted(&disk).is_empty() {
        let why = "an image on it is mounted; unmount it first";
        return Err(Error::refused(&disk.name, why));
    }
    Overwrite::new(force).check_device(path, disk.size(), |at, into| disk.read(at, into))?;
    let mut table = Table::new(disk.size());
    let done = table.create(&mut disk);
    done.map_err(|error| cannot_write(&disk, error))
}

fn add(path: &Path, name: &str, image: &Path, active: bool, reuse: Reuse) -> Result<()> {
    if valid_name(name.as_bytes()).is_none() {
        let why = "is no name for an image; use 1 to 63 letters, digits and . _ - + : @";
        return Err(Error::refused(crate::text::shown(name.as_bytes()), why));
    }
    let image = ImageFile::open(image)?;
    let mut disk = Disk::open(path, true)?;
    let mut table = load(&disk)?;
    if table.find(name).is_some() {
        let why =
            format!("has an image '{name}' already; choose another name, or remove that one first");
        return Err(Error::refused(&disk.name, why));
    }
    let mounted = mounted(&disk);
    let known = disk.device.is_some();
    let state = |removed: &Listed| match reuse {
        _ if mounted.contains(&removed.range.start) => State::Mounted,
        Reuse::Always => State::Unused,
        // Nobody here knows who uses a file: a virtual machine, for example.
        Reuse::Unmounted if known => State::Unused,
        Reuse::Unmounted | Reuse::Never => State::Unknown,
    };
    let new = New {
        name,
        uuid: image.uuid,
        size: image.size,
        copy: &|put| image.copy(false, put),
        active,
    };
    let device = disk.name.clone();
    insert(&mut disk, &device, &mut table, &new, &state)
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
    let mut disk = Disk::open(path, true)?;
    let mut table = load(&disk)?;
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
    (image.active, image.removed) = (false, true);
    let done = table.commit(&mut disk);
    done.map_err(|error| cannot_write(&disk, error))
}

fn activate(path: &Path, name: &str) -> Result<()> {
    let mut disk = Disk::open(path, true)?;
    let mut table = load(&disk)?;
    if !table.activate(name) {
        return Err(unknown(&disk, &table, name));
    }
    let done = table.commit(&mut disk);
    done.map_err(|error| cannot_write(&disk, error))
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
    /// Whether this kernel has it mounted; absent for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted: Option<bool>,
}

fn list(path: &Path, json: bool) -> Result<()> {
    let disk = Disk::open(path, false)?;
    let table = load(&disk)?;
    let mounted = disk.device.as_deref().map(mounted::offsets);
    let free = table.free();
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
                mounted: mounted.as_ref().map(|all| all.contains(&image.range.start)),
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
