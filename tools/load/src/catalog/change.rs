// SPDX-License-Identifier: GPL-2.0-only

//! Writing a catalog.

use super::medium::Medium;
use daxfs_reader::catalog::{Table, CATALOG_COPIES};
use std::io;

/// Write the changed catalog `table` over the copy on `medium` that does not count, so that it counts from then on. Power
/// loss leaves it as it was before, or as it is now.
///
/// Return the device's errors, and if another process has changed the catalog since it was
/// loaded.
pub fn commit(table: &mut Table, medium: &mut impl Medium) -> io::Result<()> {
    // Write everything that the new state refers to before the state itself.
    medium.sync()?;
    medium.forget()?;
    let now = Table::load(&*medium).map_err(io::Error::other)?;
    let generation = now.map(|now| now.generation);
    if generation != Some(table.generation) {
        let why = "somebody else changes the catalog; try again when that is done";
        return Err(io::Error::other(why));
    }
    store(table, medium)
}

/// Write the catalog `table` to a device that has none. Until this is done, the device has nothing
/// that can be mounted, and no catalog before the first copy, which is written last.
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

/// Write the copy that does not count, and read it back.
fn store(table: &mut Table, medium: &mut impl Medium) -> io::Result<()> {
    let copy = 1 - table.copy;
    table.generation = table
        .generation
        .checked_add(1)
        .ok_or_else(|| io::Error::other("the catalog has the last generation; make a new one"))?;
    let bytes = table.encode();
    medium.write(CATALOG_COPIES[copy], &bytes)?;
    medium.sync()?;
    medium.forget()?;
    let mut found = vec![0; bytes.len()];
    medium.get(CATALOG_COPIES[copy], &mut found)?;
    if found != bytes {
        let why = "the catalog reads back differently; \
                   the device is faulty, or somebody else writes to it";
        return Err(io::Error::other(why));
    }
    (table.copy, table.damaged) = (copy, None);
    Ok(())
}
