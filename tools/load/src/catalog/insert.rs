// SPDX-License-Identifier: GPL-2.0-only

//! Adds an image to a store on a device.

use super::change::commit;
use super::medium::Medium;
use crate::file::cannot_write;
use daxfs_files::digest::sha256;
use daxfs_image::catalog::some;
use daxfs_image::error::{Error, Result};
use daxfs_reader::catalog::{is_pack, room, Listed, Table, CATALOG_MAX};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;

const PIECE: usize = 1 << 20;

/// Receives the bytes of an image piece by piece, each with its offset.
pub type Put<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// An image to add.
pub struct New<'a> {
    /// Name.
    pub name: &'a str,
    /// UUID of the image.
    pub uuid: [u8; 16],
    /// Bytes of the image including its sums and signature.
    pub size: u64,
    /// Block size of the image.
    pub block: u64,
    /// Passes all bytes of the image, in order.
    pub copy: &'a dyn Fn(&mut Put<'_>) -> Result<()>,
}

/// Users of a medium, besides the images in its table.
pub struct Users<'a> {
    /// Ranges that are in use, whatever the table lists.
    pub ranges: &'a [Range<u64>],
    /// Returns whether a removed image has users.
    pub state: &'a dyn Fn(&Listed) -> State,
}

/// Whether a removed image has users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No users, so its space is free.
    Unused,
    /// Mounted by this kernel.
    Mounted,
    /// Possibly.
    Unknown,
}

/// Copies `new` into free space of `medium`, called `device` in messages, and adds it to the
/// medium's `table`. `users` keep their space.
///
/// Returns [`Error::Full`] if there is not enough room. Fails if the medium cannot be written or
/// does not store the data.
pub fn insert(
    medium: &mut impl Medium,
    device: &str,
    table: &mut Table,
    new: &New<'_>,
    users: &Users<'_>,
) -> Result<()> {
    let cannot_write = |error| cannot_write(device, "", error);
    let (align, length) = room(new.size, new.block);
    let before = table.images.len();
    let unused = |image: &Listed| image.removed && (users.state)(image) == State::Unused;
    table.images.retain(|image| !unused(image));
    let full = is_full(table);
    let free = table.free(users.ranges);
    // The smallest range that is large enough: small images fill the gaps that others leave.
    let fits = |range: &Range<u64>| range.start.next_multiple_of(align) + length <= range.end;
    let rooms = free.iter().filter(|&range| !full && fits(range));
    let Some(found) = rooms.min_by_key(|range| range.end - range.start) else {
        return Err(no_room(device, table, &free, length, users));
    };
    let start = found.start.next_multiple_of(align);
    // From now on no new mount can use the space, whichever copy is active: the other copy lists
    // the image as removed, or not at all.
    if table.images.len() != before {
        commit(table, medium).map_err(cannot_write)?;
    }
    let mut written = Sha256::new();
    (new.copy)(&mut |offset, piece| {
        written.update(piece);
        medium.write(start + offset, piece)
    })?;
    let zeros = vec![0; PIECE];
    let mut at = new.size;
    while at < length {
        let piece = (length - at).min(PIECE as u64) as usize;
        medium
            .write(start + at, &zeros[..piece])
            .map_err(cannot_write)?;
        at += piece as u64;
    }
    medium.sync().map_err(cannot_write)?;
    medium.forget().map_err(cannot_write)?;
    let stored = stored(medium, start..start + new.size)
        .map_err(|error| Error::system(device, "cannot read", "", error))?;
    if stored != <[u8; 32]>::from(written.finalize()) {
        let why = "does not store the data; the device is faulty, or somebody writes to it";
        return Err(Error::refused(device, why));
    }
    table.insert(Listed {
        name: new.name.into(),
        uuid: new.uuid,
        range: start..start + length,
        active: false,
        removed: false,
    });
    commit(table, medium).map_err(cannot_write)
}

/// Returns the SHA-256 of a range of a medium.
fn stored(medium: &impl Medium, range: Range<u64>) -> io::Result<[u8; 32]> {
    let mut buffer = vec![0; PIECE];
    sha256(|add| {
        for at in range.clone().step_by(PIECE) {
            let piece = &mut buffer[..(range.end - at).min(PIECE as u64) as usize];
            medium.get(at, piece)?;
            add(piece);
        }
        Ok(())
    })
}

/// Returns true if the table has no free entry.
fn is_full(table: &Table) -> bool {
    table.images.len() >= CATALOG_MAX
}

/// Returns the error for an image of `length` bytes, too large for `device` with `free` bytes free.
fn no_room(
    device: &str,
    table: &Table,
    free: &[Range<u64>],
    length: u64,
    users: &Users<'_>,
) -> Error {
    let sizes = || free.iter().map(|range| range.end - range.start);
    let (missing, mut why) = if is_full(table) {
        let why = format!("its store is full with {CATALOG_MAX} images and packs");
        (1, why)
    } else {
        (
            length.saturating_sub(sizes().sum()).max(1),
            format!(
                "no room in the store for an image of {length} bytes: the largest free range has {} bytes",
                sizes().max().unwrap_or(0)
            ),
        )
    };
    let names = |wanted: State| {
        let removed = table.images.iter().filter(|image| image.removed);
        let found = removed.filter(|image| (users.state)(image) == wanted);
        let found = found.map(|image| format!("'{}' ({} bytes)", image.name, image.length()));
        some(found)
    };
    let (mounted, unknown) = (names(State::Mounted), names(State::Unknown));
    if !mounted.is_empty() {
        why += &format!("; unmount the removed {mounted}");
    }
    if !unknown.is_empty() {
        why += &format!("; if nobody uses the removed {unknown}, give --reuse always");
    }
    if mounted.is_empty() && unknown.is_empty() {
        why += "; remove an image, or use a larger device";
    }
    if table
        .images
        .iter()
        .any(|image| !image.removed && is_pack(&image.name))
    {
        why += "; daxfs store gc frees packs that no image needs";
    }
    Error::Full {
        name: device.into(),
        missing,
        why,
    }
}
