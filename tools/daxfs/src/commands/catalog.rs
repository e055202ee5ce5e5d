// SPDX-License-Identifier: GPL-2.0-only

//! `catalog`: several images on one device.

use crate::record::{pretty, without_nulls};
use clap::Subcommand;
use daxfs_files::stdout::{written, Out};
use daxfs_files::values;
use daxfs_image::error::Result;
use daxfs_image::text::human;
use daxfs_load::catalog::{activate, add, init, remove, Overview, Reuse};
use serde_json::{json, Value};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A command on a catalog.
#[derive(Subcommand)]
pub enum CatalogCommand {
    /// Make an empty catalog
    ///
    /// The device's content is lost. Without --force, only zeros and a daxfs image are overwritten;
    /// of a device, the first 2 MiB and the last MiB are examined.
    #[command(after_help = "\
Examples:
  daxfs catalog init /dev/pmem0
  daxfs catalog init --size 4G images.pmem")]
    Init {
        /// The device or file
        device: PathBuf,
        /// Make a new file of this size
        #[arg(long, value_parser = values::size)]
        size: Option<u64>,
        /// Overwrite whatever the device holds, also another catalog
        #[arg(short, long)]
        force: bool,
    },
    /// List the images
    ///
    /// MOUNTED says whether this kernel has the image mounted. It cannot know about other kernels
    /// that share the memory.
    #[command(after_help = "\
Examples:
  daxfs catalog list /dev/pmem0
  daxfs catalog list --json /dev/pmem0 | jq -r '.images[] | select(.active) | .name'")]
    List {
        /// The device or file
        device: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy an image into free space and add it
    ///
    /// Space of removed images is free when no mount uses it, see --reuse.
    #[command(after_help = "\
Examples:
  daxfs catalog add /dev/pmem0 base-2 base-2.img
  daxfs catalog add --activate /dev/pmem0 base-2 base-2.img")]
    Add {
        /// The device or file
        device: PathBuf,
        /// Name of the image: 1 to 63 letters, digits and . _ - + : @
        name: String,
        /// The image file; - is standard input
        image: PathBuf,
        /// Make it the image that is mounted without a name
        #[arg(short, long)]
        activate: bool,
        /// When to overwrite removed images
        #[arg(long, value_enum, value_name = "WHEN", default_value_t = Reuse::Unmounted)]
        reuse: Reuse,
    },
    /// Remove an image
    ///
    /// It can be mounted no more. Mounts that exist are not affected: its space is used again after
    /// they are gone.
    #[command(after_help = "\
Examples:
  daxfs catalog remove /dev/pmem0 base-1")]
    Remove {
        /// The device or file
        device: PathBuf,
        /// Name of the image
        name: String,
        /// Remove the active image, which leaves none active
        #[arg(short, long)]
        force: bool,
    },
    /// Choose the image that is mounted without a name
    ///
    /// Mounts that exist are not affected. Activate the old image to roll back.
    #[command(after_help = "\
Examples:
  daxfs catalog activate /dev/pmem0 base-2")]
    Activate {
        /// The device or file
        device: PathBuf,
        /// Name of the image
        name: String,
    },
}

impl CatalogCommand {
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Init {
                device,
                size,
                force,
            } => init(device, *size, *force),
            Self::List { device, json } => list(device, *json),
            Self::Add {
                device,
                name,
                image,
                activate,
                reuse,
            } => add(device, name, image, *activate, *reuse),
            Self::Remove {
                device,
                name,
                force,
            } => remove(device, name, *force),
            Self::Activate { device, name } => activate(device, name),
        }
    }
}

/// Return a catalog as `list --json` prints it.
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
            "A copy of the catalog is damaged, and the next change writes it: {damaged}"
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
