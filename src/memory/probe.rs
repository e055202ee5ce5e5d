// SPDX-License-Identifier: GPL-2.0-only

//! Looking at a device before it is known what to mount from it.

use super::block::{BdevDax, BlockFile};
use super::dax::{CharDevice, OpenError};
use super::direct::{linear_size, read};
use super::DaxRange;
use crate::bindings;
use crate::image;
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// A DAX device that can be read, without a claim on it. Each read asks the driver where the memory
/// is.
///
/// # Invariants
///
/// `_kept` keeps the device of `range`.
pub(crate) struct Probe {
    range: DaxRange,
    size: u64,
    _kept: Kept,
}

/// What keeps a device.
#[allow(dead_code)]
enum Kept {
    Block(BdevDax, BlockFile),
    Char(CharDevice),
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
        Ok(Probe {
            range,
            size,
            _kept: Kept::Block(found, file),
        })
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
        Ok(Probe {
            range,
            size,
            _kept: Kept::Char(found),
        })
    }
}

impl image::Memory for Probe {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let length = into.len() as u64;
        let end = offset.checked_add(length);
        let inside = end.is_some_and(|end| end <= self.size);
        // SAFETY: By the type invariant the device is valid.
        if inside && unsafe { read(&self.range, offset, into) } {
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
