// SPDX-License-Identifier: GPL-2.0

//! Reading a region.

use super::lease::Reader;
use super::Region;
use crate::bindings;
use crate::image;
use crate::vfs::Destination;
use kernel::prelude::*;

/// How often a page of a destination is brought in before it counts as one that cannot be written.
const TRIES: u32 = 16;

/// Bytes that are copied at a time from I/O memory, which cannot be copied to user space directly.
const IO_PIECE: usize = 256;

/// A region whose memory cannot go away. Do not keep it while you wait for anything.
pub(crate) struct Access<'a> {
    region: &'a Region,
    _reader: Reader<'a>,
}

impl Region {
    /// Keep the memory from going away.
    ///
    /// # Errors
    ///
    /// `EIO` if it is about to go, or gone.
    #[inline]
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        Ok(Access {
            region: self,
            _reader: self.lease.read()?,
        })
    }

    /// Copy `length` bytes at `offset` to where a read wants them. Return the number of bytes copied: fewer if the
    /// destination cannot be written, or if the memory fails after them.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not inside the region, or its memory goes or fails before the first byte; `EFAULT` if the
    /// destination cannot be written.
    #[inline]
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        length: usize,
        to: &mut Destination<'_>,
    ) -> Result<usize> {
        let copied = self.access()?.copy_to(offset, length, to)?;
        if copied < length {
            return self.copy_rest(offset, copied, length, to);
        }
        Ok(copied)
    }

    /// Copy what is left after the first `done` bytes, the next of which could not be copied at once.
    #[cold]
    fn copy_rest(
        &self,
        offset: u64,
        mut done: usize,
        length: usize,
        to: &mut Destination<'_>,
    ) -> Result<usize> {
        let mut tries = 0;
        let error = loop {
            if done == length {
                return Ok(done);
            }
            // Bringing in pages of the destination may take any time, so nothing is held meanwhile.
            let present = to.make_present(length - done);
            let access = match self.access() {
                Ok(access) => access,
                Err(error) => break error,
            };
            let at = offset + done as u64;
            let copied = match access.copy_to(at, length - done, to) {
                Ok(copied) => copied,
                Err(error) => break error,
            };
            done += copied;
            if copied > 0 {
                tries = 0;
                continue;
            }
            // Find out which side faulted: the memory or the destination.
            if image::Memory::read(&access, at, &mut [0]).is_err() {
                break EIO;
            }
            // The page may have gone again, but it may also be one that cannot be written in this way.
            tries += 1;
            if !present || tries == TRIES {
                break EFAULT;
            }
        };
        match done {
            0 => Err(error),
            _ => Ok(done),
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

    /// Copy up to `length` bytes at `offset` to where a read wants them, as far as that is present, and return how
    /// many were copied.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not inside the region or the memory fails at its first byte.
    #[inline]
    fn copy_to(&self, offset: u64, length: usize, to: &mut Destination<'_>) -> Result<usize> {
        let from = self.address(offset, length).ok_or(EIO)?;
        if self.region.mapping.io {
            return self.copy_io_to(offset, length, to);
        }
        let readable = self.region.readable(offset, length as u64) as usize;
        if readable < length && readable == 0 {
            return Err(EIO);
        }
        // SAFETY: By the region's invariant these bytes are mapped while there is a reader. The function bears
        // concurrent writes and machine checks, and does not wait for pages of the destination.
        Ok(unsafe { bindings::daxfs_helper_copy_mc_to_iter(from.cast(), readable, to.as_raw()) })
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
        if self.region.readable(offset, length.into()) < length.into() {
            return Err(unreadable);
        }
        let to = into.as_mut_ptr().cast();
        // SAFETY: By the region's invariant the source is mapped while there is a reader, and the destination is
        // ours. The functions bear a concurrent writer, which makes the copy a mixture that
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

/// Loads from a region whose memory may go away in between.
impl image::Memory for Region {
    fn size(&self) -> u64 {
        self.mapping.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        match self.access() {
            Ok(access) => access.read(offset, into),
            Err(_) => {
                let length = into.len() as u64;
                Err(image::Error::new(
                    image::Problem::Unreadable,
                    offset,
                    length,
                ))
            }
        }
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        <Access<'_> as image::Memory>::crc32c(crc, bytes)
    }
}
