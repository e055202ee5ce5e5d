// SPDX-License-Identifier: GPL-2.0-only

//! `catalog`: several images on one device.

use crate::options::Catalog as Command;
use crate::show::pretty;
use daxfs_command::stdout::{written, Out};
use daxfs_image::error::Result;
use daxfs_image::text::human;
use daxfs_load::catalog::{activate, add, init, remove, Overview};
use serde::Serialize;
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

/// A catalogue, as `list --json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    device: &'a str,
    generation: u64,
    size: u64,
    /// Bytes of the largest range that no image has.
    free: u64,
    /// The problem of the copy that does not count.
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
    let overview = Overview::load(path)?;
    let table = &overview.table;
    let report = Report {
        schema: "daxfs-catalog-1",
        device: &overview.device,
        generation: table.generation,
        size: table.size,
        free: overview.free(),
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
                mounted: overview.is_mounted(image),
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
