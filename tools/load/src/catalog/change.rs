// SPDX-License-Identifier: GPL-2.0-only

//! Writes the table of a store.

use super::medium::Medium;
use daxfs_reader::catalog::{Table, CATALOG_COPIES};
use std::io;

/// Writes the changed `table` over the inactive copy on `medium`, which becomes the active one.
/// Power loss leaves either the old table or the new one.
///
/// Fails on the device's errors, and if another process has changed the table since it was loaded.
pub fn commit(table: &mut Table, medium: &mut impl Medium) -> io::Result<()> {
    // Write everything that the new state refers to before the state itself.
    medium.sync()?;
    medium.forget()?;
    let now = Table::load(&*medium).map_err(io::Error::other)?;
    let generation = now.map(|now| now.generation);
    if generation != Some(table.generation) {
        let why = "another process changes the store; try again when that is done";
        return Err(io::Error::other(why));
    }
    store(table, medium)
}

/// Writes `table` to a device that has none. The first copy comes last, and until then the device
/// contains no store and nothing that can be mounted.
pub fn create(table: &mut Table, medium: &mut impl Medium) -> io::Result<()> {
    for start in CATALOG_COPIES {
        medium.write(start, &[0; 4096])?;
    }
    medium.sync()?;
    for copy in [1, 0] {
        table.copy = 1 - copy;
        store(table, medium)?;
    }
    Ok(())
}

/// Writes the inactive copy, and reads it back.
fn store(table: &mut Table, medium: &mut impl Medium) -> io::Result<()> {
    let copy = 1 - table.copy;
    table.generation = table.generation.checked_add(1).ok_or_else(|| {
        io::Error::other("the store has the last generation; make a new one with daxfs store init")
    })?;
    let bytes = table.encode();
    medium.write(CATALOG_COPIES[copy], &bytes)?;
    medium.sync()?;
    medium.forget()?;
    let mut found = vec![0; bytes.len()];
    medium.get(CATALOG_COPIES[copy], &mut found)?;
    if found != bytes {
        let why = "the table of the store reads back differently; \
                   the device is faulty, or somebody else writes to it";
        return Err(io::Error::other(why));
    }
    (table.copy, table.damaged) = (copy, None);
    Ok(())
}
