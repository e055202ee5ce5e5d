// SPDX-License-Identifier: GPL-2.0-only

//! Looking at memory before it is known what to mount from it.

use super::block::{BdevDax, BlockFile};
use super::dax::{CharDevice, OpenError};
use super::direct::{linear_size, read};
use super::range::{self, ClaimedRange, Range, Turn};
use super::{phys::Frames, DaxRange};
use crate::bindings;
use crate::image::{self, layout};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// Memory that can be read where a catalogue would be, without a claim on all of it.
pub(crate) struct Probe {
    size: u64,
    backing: Backing,
}

/// What a probe reads.
///
/// # Invariants
///
/// The device of a DAX range is the one that is kept with it.
#[allow(dead_code)]
enum Backing {
    Block(DaxRange, BdevDax, BlockFile),
    Char(DaxRange, CharDevice),
    // The frames are released before the next turn.
    Range(Frames, Turn),
}

impl Probe {
    /// Look at the block device `number`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(crate) fn block(number: bindings::dev_t) -> Result<Self, OpenError> {
        let file = BlockFile::look_at(number)?;
        // SAFETY: The file is open.
        let (found, offset) = unsafe { BdevDax::get(file.bdev()) }.ok_or(OpenError::NoDax)?;
        // SAFETY: The file is open.
        let size = unsafe { bindings::bdev_nr_bytes(file.bdev()) };
        let range = DaxRange {
            device: found.as_raw(),
            offset,
        };
        // INVARIANT: `found` is the device.
        let backing = Backing::Block(range, found, file);
        Ok(Probe { size, backing })
    }

    /// Look at the DAX character device `number`, whose device node `node` opens.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(crate) fn char(
        number: bindings::dev_t,
        node: impl FnOnce() -> Result<ARef<File>>,
    ) -> Result<Self, OpenError> {
        let found = CharDevice::open(number, node)?;
        let range = DaxRange {
            device: found.as_raw(),
            offset: 0,
        };
        // SAFETY: `found` keeps the device.
        let size = unsafe { linear_size(&range) };
        // INVARIANT: `found` is the device.
        let backing = Backing::Char(range, found);
        Ok(Probe { size, backing })
    }

    /// Look at the `size` bytes at physical address `start`. No range can be requested until the
    /// probe is dropped.
    ///
    /// # Errors
    ///
    /// See [`range::OpenError`].
    pub(crate) fn range(start: u64, size: u64) -> Result<Self, range::OpenError> {
        let head = Range::new(start, size)?.part(0..size.min(layout::CATALOG_SIZE))?;
        let turn = Turn::wait();
        let frames = Frames::new(ClaimedRange::new(head, &turn)?, &turn)?;
        if !frames.is_memory() {
            return Err(range::OpenError::Registers);
        }
        let backing = Backing::Range(frames, turn);
        Ok(Probe { size, backing })
    }

    /// Copy the bytes at `offset` to `into`. Return false if they cannot be read.
    fn copy(&self, offset: u64, into: &mut [u8]) -> bool {
        match &self.backing {
            // SAFETY: By the type invariant the device is valid.
            Backing::Block(range, ..) | Backing::Char(range, _) => unsafe {
                read(range, offset, into)
            },
            Backing::Range(frames, _) => frames.read(offset, into),
        }
    }
}

impl image::Memory for Probe {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let length = into.len() as u64;
        let end = offset.checked_add(length);
        if end.is_some_and(|end| end <= self.size) && self.copy(offset, into) {
            return Ok(());
        }
        Err(image::Error::new(
            image::Problem::Unreadable,
            offset,
            length,
        ))
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        <super::Region as image::Memory>::crc32c(crc, bytes)
    }
}
