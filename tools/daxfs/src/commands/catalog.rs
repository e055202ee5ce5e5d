// SPDX-License-Identifier: GPL-2.0-only

//! `catalog`: several images on one device.

use crate::options::Catalog as Command;
use crate::record::without_nulls;
use crate::show::pretty;
use daxfs_files::stdout::{written, Out};
use daxfs_image::error::Result;
use daxfs_image::text::human;
use daxfs_load::catalog::{activate, add, init, remove, Overview};
use serde_json::{json, Value};
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

/// Run `daxfs catalog`.
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

/// Return a catalogue as `list --json` prints it.
fn report(overview: &Overview) -> Value {
    let table = &overview.table;
    let images = table.images.iter().map(|image| {
        without_nulls(json!({
            "name": image.name,
            "uuid": Uuid::from_bytes(image.uuid).to_string(),
            "offset": image.range.start,
            "length": image.range.end - image.range.start,
            "active": image.active,
            "removed": image.removed,
            // Absent if that is not known, as for a file.
            "mounted": overview.is_mounted(image),
        }))
    });
    without_nulls(json!({
        "schema": "daxfs-catalog-1",
        "device": overview.device,
        "generation": table.generation,
        "size": table.size,
        "free": overview.free(),
        "damaged": table.damaged.map(|error| error.to_string()),
        "images": images.collect::<Vec<_>>(),
    }))
}

fn list(path: &Path, json: bool) -> Result<()> {
    let overview = Overview::load(path)?;
    let mut out = Out::open();
    written(match json {
        true => pretty(&mut out, &report(&overview)),
        false => text(&overview, &mut out),
    })?;
    Ok(out.finish()?)
}

fn text(overview: &Overview, out: &mut impl Write) -> io::Result<()> {
    if let Some(damaged) = &overview.table.damaged {
        writeln!(
            out,
            "A copy of the catalogue is damaged, and the next change writes it: {damaged}"
        )?;
    }
    let images = &overview.table.images;
    let width = images.iter().map(|image| image.name.len()).max();
    let width = width.unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:7}  {:7}  {:>14}  {:>5}  UUID",
        "NAME", "STATE", "MOUNTED", "OFFSET", "SIZE"
    )?;
    for image in images {
        let state = match (image.active, image.removed) {
            (true, _) => "active",
            (_, true) => "removed",
            _ => "-",
        };
        let mounted = match overview.is_mounted(image) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        writeln!(
            out,
            "{:width$}  {state:7}  {mounted:7}  {:>14}  {:>5}  {}",
            image.name,
            image.range.start,
            human(image.range.end - image.range.start),
            Uuid::from_bytes(image.uuid)
        )?;
    }
    writeln!(out, "Largest free range: {}", human(overview.free()))
}
