// SPDX-License-Identifier: GPL-2.0-only

//! Reads a region.

use super::LeaseRef;
use crate::linux::mm::{
    fault_in,
    Mappable,
    Memory, //
};
use crate::linux::srcu::Reader;
use crate::linux::{
    self,
    fatal_signal_pending, //
};
use crate::prelude::*;

/// How many times to fault in a page of the destination before the read fails with `EFAULT`.
const TRIES: u32 = 16;

/// How many bytes to copy as one reader of the lease, because others may wait for the reader.
const MOST: usize = 16 << 20;

/// One contiguous region of memory, which others may write at any time.
pub(crate) struct Region {
    /// Facts about the memory.
    pub(crate) memory: Mappable,
    pub(super) lease_ref: LeaseRef,
}

/// The memory behind a file descriptor.
pub(crate) trait Descriptor: Send + Sync {
    /// Opens its region.
    fn open(&self, lease_ref: &LeaseRef) -> Result<Region, Refusal>;
}

impl Region {
    /// Creates a region from the memory that [`Lease::open`](super::lease::Lease::open) was given.
    ///
    /// Errors: `EIO` without memory, or if the lease is revoked.
    pub(super) fn of_owner(lease_ref: &LeaseRef) -> Result<Self> {
        Ok(Region {
            memory: *lease_ref.lease().memory.read()?.mappable(),
            lease_ref: lease_ref.clone(),
        })
    }

    /// Returns the file whose pages this memory is, at the same offsets, if it is a file's.
    pub(crate) fn file(&self) -> Option<ARef<File>> {
        self.access().ok()?.file().map(ARef::from)
    }

    /// Ends all access to the memory. If you retire many regions before you drop the first, only
    /// that drop waits for readers.
    pub(crate) fn retire(&self) {
        self.lease_ref.lease().memory.revoke();
    }

    /// Returns true if the memory is gone, or about to go.
    pub(crate) fn revoked(&self) -> bool {
        self.lease_ref.lease().memory.is_revoked()
    }
}

/// Keeps memory from going away. Drop it before you wait for anything but memory.
pub(crate) type Access<'a> = Reader<'a, Memory>;

impl Region {
    /// Keeps the memory from going away.
    ///
    /// Errors: `EIO` if it is about to go away, or gone.
    #[inline]
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        self.lease_ref.lease().memory.read()
    }

    /// Copies `length` bytes at `offset` to `to`. Returns the number of bytes copied: fewer if the
    /// destination cannot be written, or if the memory fails after them.
    ///
    /// Errors: `EIO` if the range is not in the region, or if its memory goes away or fails before
    /// the first byte; `EFAULT` if the destination cannot be written.
    // It has two callers. Without this it is inlined into neither, which costs 33 instructions.
    #[inline(always)]
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        length: usize,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let copied = self.access()?.copy_to(offset, length.min(MOST), to)?;
        if copied < length {
            return self.copy_rest(offset, copied, length, to);
        }
        Ok(copied)
    }

    /// Copies the rest after the first `done` bytes, where the first attempt stopped. A signal that
    /// kills the process ends this.
    #[cold]
    fn copy_rest(
        &self,
        offset: u64,
        mut done: usize,
        length: usize,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let mut tries = 0;
        let error = loop {
            if done == length || (done > 0 && fatal_signal_pending()) {
                return Ok(done);
            }
            // This may take any time, so it happens without access to the memory.
            let present = fault_in(to, length - done);
            let (at, most) = (offset + done as u64, (length - done).min(MOST));
            let copied = match self
                .access()
                .and_then(|access| access.copy_to(at, most, to))
            {
                Ok(copied) => copied,
                Err(error) => break error,
            };
            done += copied;
            if copied > 0 {
                tries = 0;
                continue;
            }
            // Find out which side faulted: the memory or the destination.
            if image::Memory::read(self, at, &mut [0]).is_err() {
                break EIO;
            }
            // The page may have been reclaimed again, or this kind of write may not work on it.
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
    /// Returns how many of `length` bytes at `offset` can be read: those before the first page that
    /// is known to have failed.
    #[inline(always)]
    pub(crate) fn readable(&self, offset: u64, length: u64) -> u64 {
        if self.may_have_failed() {
            self.intact(offset, length)
        } else {
            length
        }
    }

    /// Copies up to `length` bytes at `offset` to `to`, until a page of `to` is absent. Returns the
    /// number of bytes copied.
    ///
    /// Errors: `EIO` if the range is not in the region.
    // Passing references to `self` would force it into memory, which costs 8 instructions.
    #[inline(always)]
    fn copy_to(self, offset: u64, length: usize, to: &mut IovIterDest<'_>) -> Result<usize> {
        let readable = self.readable(offset, length as u64) as usize;
        Memory::copy_to(&self, offset, readable, to).ok_or(EIO)
    }
}

impl image::Memory for Access<'_> {
    fn size(&self) -> u64 {
        self.mappable().size()
    }

    #[inline]
    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let (problem, length) = (image::Problem::Unreadable, into.len() as u64);
        if self.readable(offset, length) == length && Memory::read(self, offset, into) {
            Ok(())
        } else {
            Err(image::Error::new(problem, offset, length))
        }
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        linux::crc32c(crc, bytes)
    }

    #[inline]
    fn name_hash(name: &[u8]) -> u32 {
        linux::xxh32(name)
    }
}

/// Each read acquires access separately, so the memory may go away between reads.
impl image::Memory for Region {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let (problem, length) = (image::Problem::Unreadable, into.len() as u64);
        let access = self.access();
        access
            .map_err(|_| image::Error::new(problem, offset, length))?
            .read(offset, into)
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        <Access<'_> as image::Memory>::crc32c(crc, bytes)
    }

    fn name_hash(name: &[u8]) -> u32 {
        <Access<'_> as image::Memory>::name_hash(name)
    }
}

/// Size of a cache line in bytes.
const LINE: usize = 64;

/// Allocates a buffer for checking or hashing `length` bytes in parts of at most 16 KiB.
pub(crate) fn buffer(length: u64) -> Result<KVec<[u8; LINE]>> {
    // Many images have less metadata. Initializing whole lines is faster than bytes.
    let length = length.min(16384) as usize;
    Ok(KVec::from_elem(
        [0; LINE],
        length.div_ceil(LINE),
        GFP_KERNEL,
    )?)
}
