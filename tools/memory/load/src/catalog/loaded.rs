// SPDX-License-Identifier: GPL-2.0-only

//! The catalogue of a device.

use super::medium::{Disk, Part};
use super::table::Table;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown;

/// Load the catalogue of `disk`.
pub fn load(disk: &Disk) -> Result<Table> {
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
pub fn warn_damaged(disk: &Disk, table: &Table) {
    if let Some(error) = table.damaged {
        eprintln!(
            "daxfs: {}: warning: a copy of the catalogue is damaged: {error}",
            disk.name
        );
    }
}

/// Return the error for a name that no image has.
pub fn unknown(disk: &Disk, table: &Table, name: &str) -> Error {
    let names = table.images.iter().filter(|image| !image.removed);
    let names: Vec<_> = names.map(|image| image.name.as_str()).collect();
    let known = match names.is_empty() {
        true => "it is empty".into(),
        false => format!("it has {}", names.join(", ")),
    };
    let name = shown(name.as_bytes());
    Error::refused(
        &disk.name,
        format!("the catalogue has no image '{name}'; {known}"),
    )
}
