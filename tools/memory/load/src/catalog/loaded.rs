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

/// Return `items` in a list for a message, but not all of a long one.
pub fn some(mut items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 16;
    let list = items.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    match items.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// Return the error for a name that no image has.
pub fn unknown(disk: &Disk, table: &Table, name: &str) -> Error {
    let names = table.images.iter().filter(|image| !image.removed);
    let known = match some(names.map(|image| image.name.clone())) {
        names if names.is_empty() => "it is empty".into(),
        names => format!("it has {names}"),
    };
    let name = shown(name.as_bytes());
    Error::refused(
        &disk.name,
        format!("the catalogue has no image '{name}'; {known}"),
    )
}
