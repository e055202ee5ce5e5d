// SPDX-License-Identifier: GPL-2.0

//! Reading a region.

use super::{Files, Region};
use crate::bindings;
use crate::image;
use crate::vfs::Destination;
use kernel::prelude::*;

/// Bytes that are copied at a time from I/O memory, which cannot be copied to user space directly.
const IO_PIECE: usize = 256;

/// A region whose memory cannot go away; do not keep it for long.
///
/// # Invariants
///
/// Holds the DAX read lock `lock`, if there is one. If it was handed out by [`Region::access`], the region's
/// DAX device, if it has one, is alive.
pub(crate) struct Access<'a> {
    region: &'a Region,
    lock: Option<kernel::ffi::c_int>,
}

impl Region {
    /// Takes hold of the memory.
    ///
    /// # Errors
    ///
    /// `EIO` when the device is gone.
    #[inline]
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        let Files::Dax(range) = self.files else {
            // INVARIANT: There is no device; the source alone holds the memory.
            return Ok(Access {
                region: self,
                lock: None,
            });
        };
        // SAFETY: Pairs with the unlock when the guard is dropped.
        let lock = unsafe { bindings::dax_read_lock() };
        let guard = Access {
            region: self,
            lock: Some(lock),
        };
        // SAFETY: The device lives as long as the region, and we hold the lock.
        if unsafe { bindings::dax_alive(range.device.as_ptr()) } {
            Ok(guard)
        } else {
            Err(EIO)
        }
    }
}

impl Access<'_> {
    /// The address of `length` bytes at `offset`, if the region has them.
    #[inline]
    fn address(&self, offset: u64, length: usize) -> Option<*const u8> {
        let end = offset.checked_add(length as u64)?;
        let base = self.region.mapping.base.as_ptr().cast_const();
        (end <= self.region.mapping.size).then(|| base.wrapping_add(offset as usize))
    }

    /// Copies up to `length` bytes at `offset` to where a read wants them, and returns how many were
    /// copied: fewer when the destination faults, or when the memory fails behind them.
    ///
    /// # Errors
    ///
    /// `EIO` when the range is not inside the region or the memory fails at its first byte.
    #[inline]
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        length: usize,
        to: &mut Destination<'_>,
    ) -> Result<usize> {
        let from = self.address(offset, length).ok_or(EIO)?;
        if self.region.mapping.io {
            return self.copy_io_to(offset, length, to);
        }
        let sound = self.region.sound(offset, length as u64) as usize;
        if sound < length && sound == 0 {
            return Err(EIO);
        }
        let length = sound;
        // SAFETY: By the invariants of both types these bytes are mapped as long as `self` lives.
        // The function bears concurrent writes and machine checks.
        let copied =
            unsafe { bindings::daxfs_helper_copy_mc_to_iter(from.cast(), length, to.as_raw()) };
        if copied == 0 && length > 0 {
            // Whose fault is it, the memory's or the destination's?
            image::Memory::read(self, offset, &mut [0]).map_err(|_| EIO)?;
        }
        Ok(copied)
    }

    /// The same from I/O memory.
    fn copy_io_to(&self, offset: u64, length: usize, to: &mut Destination<'_>) -> Result<usize> {
        let mut piece = [0; IO_PIECE];
        let mut done = 0;
        while done < length {
            let piece = &mut piece[..IO_PIECE.min(length - done)];
            image::Memory::read(self, offset + done as u64, piece).map_err(|_| EIO)?;
            // SAFETY: Reads the piece.
            let copied = unsafe {
                bindings::daxfs_helper_copy_mc_to_iter(
                    piece.as_ptr().cast(),
                    piece.len(),
                    to.as_raw(),
                )
            };
            done += copied;
            if copied < piece.len() {
                break;
            }
        }
        Ok(done)
    }
}

impl Drop for Access<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lock) = self.lock {
            // SAFETY: By the invariants the lock is held.
            unsafe { bindings::dax_read_unlock(lock) };
        }
    }
}

impl image::Memory for Access<'_> {
    fn size(&self) -> u64 {
        self.region.mapping.size
    }

    #[inline]
    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let unreadable = image::Error::new(image::Problem::Unreadable, offset, into.len() as u64);
        let from = self.address(offset, into.len()).ok_or(unreadable)?;
        // Records and pieces of metadata are far below 4 GiB.
        let length = u32::try_from(into.len()).map_err(|_| unreadable)?;
        if self.region.sound(offset, length.into()) < length.into() {
            return Err(unreadable);
        }
        let to = into.as_mut_ptr().cast();
        // SAFETY: By the invariants of both types the source is mapped as long as `self` lives, and the
        // destination is ours. The functions bear a concurrent writer, which makes the copy a mixture that
        // the reader of it expects; the first one bears machine checks too.
        let left = unsafe {
            if self.region.mapping.io {
                bindings::daxfs_helper_copy_from_io(to, from.cast(), length);
                0
            } else {
                bindings::daxfs_helper_copy_mc(to, from.cast(), length)
            }
        };
        if left == 0 {
            Ok(())
        } else {
            Err(unreadable)
        }
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        // SAFETY: Reads the slice.
        !unsafe { bindings::crc32c(!crc, bytes.as_ptr().cast(), bytes.len()) }
    }
}
