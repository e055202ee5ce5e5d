// SPDX-License-Identifier: GPL-2.0-only

//! Reading a region.

use super::lease::Reader;
use super::{poison, Region, Tenure, Window};
use crate::bindings;
use crate::image;
use crate::linux::fatal_signal_pending;
use kernel::{iov::IovIterDest, prelude::*};

/// Number of times that a page of a destination is faulted in before the read fails with `EFAULT`.
const TRIES: u32 = 16;

/// Number of bytes of a destination that are faulted in at a time.
const PRESENT: usize = 2 << 20;

/// Largest number of bytes that are copied as one reader of the lease, which others may wait for.
const MOST: usize = 16 << 20;

/// Number of bytes that are copied at a time from I/O memory, which cannot be copied to user space
/// directly.
const IO_PIECE: usize = 256;

/// Access to memory that cannot go away meanwhile. Do not keep it while you wait for anything but
/// memory.
///
/// # Invariants
///
/// `window` is mapped while `reader` exists.
pub(crate) struct Access<'a> {
    window: &'a Window,
    reader: Reader<'a>,
}

impl Region {
    /// Keep the memory from going away.
    ///
    /// # Errors
    ///
    /// `EIO` if it is about to go away, or gone.
    #[inline]
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        // SAFETY: By the type invariant the window is that of the lease.
        unsafe { Access::new(&self.tenure, &self.window) }
    }

    /// Append `length` bytes at `offset` to `to`, which must have room for them.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`](image::Problem::Unreadable), also if there is no room.
    pub(crate) fn append_to(
        &self,
        offset: u64,
        length: usize,
        to: &mut VVec<u8>,
    ) -> image::Result<()> {
        let unreadable = image::Error::new(image::Problem::Unreadable, offset, length as u64);
        let access = self.access().map_err(|_| unreadable)?;
        let room = to.spare_capacity_mut();
        if room.len() < length {
            return Err(unreadable);
        }
        // SAFETY: The vector has room for the bytes, and is borrowed exclusively.
        unsafe { access.read_to(offset, room.as_mut_ptr().cast(), length) }?;
        // SAFETY: There was room, and the bytes were copied there.
        unsafe { to.inc_len(length) };
        Ok(())
    }

    /// Copy `length` bytes at `offset` to `to`. Return the number of bytes copied: fewer if the
    /// destination cannot be written, or if the memory fails after them.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not in the region, or if its memory goes away or fails before the
    /// first byte; `EFAULT` if the destination cannot be written.
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

    /// Copy what is left after the first `done` bytes, where the first attempt stopped. A signal
    /// that kills the process ends this.
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
            let access = match self.access() {
                Ok(access) => access,
                Err(error) => break error,
            };
            let at = offset + done as u64;
            let copied = match access.copy_to(at, (length - done).min(MOST), to) {
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

/// Fault in the next pages of a destination, at most `length` bytes. This may wait for anything.
/// Return false if none of the bytes can be written.
fn fault_in(to: &mut IovIterDest<'_>, length: usize) -> bool {
    let length = length.min(PRESENT);
    let to = to.as_raw().cast();
    // SAFETY: The iterator is borrowed exclusively.
    let missing = unsafe { bindings::fault_in_iov_iter_writeable(to, length) };
    missing < length
}

/// Copy bytes to a destination, as far as it is present. Return the number of bytes copied, which
/// is also smaller if the memory fails.
///
/// # Safety
///
/// `length` bytes at `from` must be mapped in the kernel's address space. They may fail, and may be
/// written by others.
#[inline]
unsafe fn copy_present(from: *const u8, length: usize, to: &mut IovIterDest<'_>) -> usize {
    let to = to.as_raw().cast();
    // SAFETY: This is paired with pagefault_enable() below.
    unsafe { bindings::pagefault_disable() };
    // SAFETY: The iterator is borrowed exclusively, and the caller guarantees that the bytes are
    // mapped. The function expects concurrent writes and machine checks.
    let copied = unsafe { bindings::_copy_mc_to_iter(from.cast(), length, to) };
    // SAFETY: This is paired with pagefault_disable() above.
    unsafe { bindings::pagefault_enable() };
    copied
}

impl<'a> Access<'a> {
    /// Keep the memory of a lease from going away.
    ///
    /// # Errors
    ///
    /// `EIO` if it is about to go away, or gone.
    ///
    /// # Safety
    ///
    /// `window` must be the one that the owner in the lease was opened with.
    #[inline]
    pub(super) unsafe fn new(tenure: &'a Tenure, window: &'a Window) -> Result<Self> {
        // INVARIANT: The tenure keeps the lease from ending, and a reader keeps a revoked one from
        // releasing the memory.
        Ok(Access {
            window,
            reader: tenure.lease().read()?,
        })
    }

    /// Return the address of `length` bytes at `offset`, or `None` if the range is not in the
    /// region.
    #[inline]
    fn address(&self, offset: u64, length: usize) -> Option<*const u8> {
        let end = offset.checked_add(length as u64)?;
        let base = self.window.base.as_ptr().cast_const();
        (end <= self.window.size).then(|| base.wrapping_add(offset as usize))
    }

    /// Copy `length` bytes at `offset` to `to`.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`](image::Problem::Unreadable). What is at `to` is unspecified then.
    ///
    /// # Safety
    ///
    /// `length` bytes at `to` must be valid for writing.
    #[inline]
    unsafe fn read_to(&self, offset: u64, to: *mut u8, length: usize) -> image::Result<()> {
        let unreadable = image::Error::new(image::Problem::Unreadable, offset, length as u64);
        let from = self.address(offset, length).ok_or(unreadable)?.cast();
        // Records and pieces of metadata are much shorter than 4 GiB.
        let short = u32::try_from(length).map_err(|_| unreadable)?;
        if self.readable(offset, short.into()) < short.into() {
            return Err(unreadable);
        }
        if self.window.io {
            // SAFETY: By the type invariant the source is mapped. The caller guarantees that the
            // destination is valid.
            unsafe { bindings::memcpy_fromio(to.cast(), from, length) };
            return Ok(());
        }
        // A concurrent writer can make the copy a mixture, which its reader must expect.
        // SAFETY: By the type invariant the source is mapped. The caller guarantees that the
        // destination is valid. The function survives machine checks.
        match unsafe { bindings::copy_mc_to_kernel(to.cast(), from, short) } {
            0 => Ok(()),
            _ => Err(unreadable),
        }
    }

    /// Return how many of `length` bytes at `offset` can be read: those before the first page that
    /// is known to have failed.
    #[inline]
    pub(crate) fn readable(&self, offset: u64, length: u64) -> u64 {
        if !self.reader.may_have_failed() || self.window.io {
            return length;
        }
        // SAFETY: By the type invariant the window is mapped.
        unsafe { Self::readable_slowly(self.window, offset, length) }
    }

    /// Do the same, now that some memory has failed.
    ///
    /// # Safety
    ///
    /// `window` must be mapped.
    #[cold]
    unsafe fn readable_slowly(window: &Window, offset: u64, length: u64) -> u64 {
        let pages = window.size.next_multiple_of(bindings::PAGE_SIZE);
        let end = offset.saturating_add(length).min(pages);
        let base = window.base.as_ptr();
        let mut at = offset;
        while at < end {
            // SAFETY: The caller guarantees that the window is mapped, which it is up to the end of
            // its last page.
            if unsafe { poison::has_failed(base.wrapping_add(at as usize)) } {
                return at - offset;
            }
            at = (at / bindings::PAGE_SIZE + 1) * bindings::PAGE_SIZE;
        }
        length
    }

    /// Copy up to `length` bytes at `offset` to `to`, as far as that is present. Return the number
    /// of bytes copied.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not in the region, or the first page is known to have failed.
    // If other functions took a reference to `self`, it would have to be in memory: 8 instructions.
    #[inline(always)]
    fn copy_to(self, offset: u64, length: usize, to: &mut IovIterDest<'_>) -> Result<usize> {
        let from = self.address(offset, length).ok_or(EIO)?;
        if self.window.io {
            return self.copy_io_to(offset, length, to);
        }
        let mut readable = length;
        if self.reader.may_have_failed() {
            // SAFETY: By the type invariant the window is mapped.
            let slowly = unsafe { Self::readable_slowly(self.window, offset, length as u64) };
            readable = slowly as usize;
            if readable == 0 && length > 0 {
                return Err(EIO);
            }
        }
        // SAFETY: By the type invariant the bytes are mapped.
        Ok(unsafe { copy_present(from, readable, to) })
    }

    /// Do the same for I/O memory.
    #[inline(never)]
    fn copy_io_to(self, offset: u64, length: usize, to: &mut IovIterDest<'_>) -> Result<usize> {
        let mut piece = [0; IO_PIECE];
        let mut done = 0;
        while done < length {
            let piece = &mut piece[..IO_PIECE.min(length - done)];
            image::Memory::read(&self, offset + done as u64, piece).map_err(|_| EIO)?;
            // SAFETY: The bytes are those of `piece`.
            let copied = unsafe { copy_present(piece.as_ptr(), piece.len(), to) };
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
        self.window.size
    }

    #[inline]
    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        // SAFETY: The destination is borrowed exclusively.
        unsafe { self.read_to(offset, into.as_mut_ptr(), into.len()) }
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        // SAFETY: The bytes are only read.
        !unsafe { bindings::crc32c(!crc, bytes.as_ptr().cast(), bytes.len()) }
    }
}

/// Reads that allow the memory to go away between them.
impl image::Memory for Region {
    fn size(&self) -> u64 {
        self.window.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        match self.access() {
            Ok(access) => access.read(offset, into),
            Err(_) => {
                let (problem, length) = (image::Problem::Unreadable, into.len() as u64);
                Err(image::Error::new(problem, offset, length))
            }
        }
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        <Access<'_> as image::Memory>::crc32c(crc, bytes)
    }
}
