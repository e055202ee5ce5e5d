// SPDX-License-Identifier: GPL-2.0-only

//! Stores on devices and in files, as the programs read them.

use crate::error::{Error, Result};
use crate::text::shown;
use daxfs_reader::catalog::{is_pack, Listed, Table};
use daxfs_reader::{Memory, Superblock};

/// Loads the table of the store in `memory`, called `name` in messages.
pub fn load(memory: &impl Memory, name: &str) -> Result<Table> {
    let table = Table::load(memory).map_err(|error| Error::image(name, b"", error))?;
    table.ok_or_else(|| {
        let why = match Superblock::load(memory) {
            Ok(_) => "is not a store but an image; make a store of another one (daxfs store init)",
            Err(_) => "is not a store; daxfs store init makes one",
        };
        Error::refused(name, why)
    })
}

/// Joins `items` to a list for a message, cut off if it is long.
pub fn some(mut items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 16;
    let list = items.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    match items.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// Returns the error for a name that no image in the store on `device` has.
pub fn unknown(device: &str, table: &Table, name: &str) -> Error {
    let is_image = |image: &&Listed| !image.removed && !is_pack(&image.name);
    let names = table.images.iter().filter(is_image);
    let known = match some(names.map(|image| image.name.clone())) {
        names if names.is_empty() => "it is empty".into(),
        names => format!("it has {names}"),
    };
    let name = shown(name.as_bytes());
    Error::refused(device, format!("the store has no image '{name}'; {known}"))
}
