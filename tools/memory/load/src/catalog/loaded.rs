// SPDX-License-Identifier: GPL-2.0-only

//! The catalogue of a device.

use super::medium::Disk;
use daxfs_image::catalog;
use daxfs_image::error::Result;
use daxfs_reader::catalog::Table;

/// Load the catalogue of `disk`.
pub fn load(disk: &Disk) -> Result<Table> {
    catalog::load(&disk.bytes, &disk.name)
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
