// SPDX-License-Identifier: GPL-2.0

//! Memory behind a DAX device: persistent memory, virtio-pmem and the like.
//!
//! Follows `include/linux/dax.h`.

use crate::bindings;
use crate::image;
use crate::vfs::{BlockDevice, Destination};
use core::ptr::{self, NonNull};
use kernel::prelude::*;

/// A block device's memory, mapped in one piece.
///
/// # Invariants
///
/// We hold a reference to `device`. While it is alive and a DAX read lock is held, `size` bytes at `base`
/// are mapped; others may write them at any time.
pub(crate) struct DaxRegion {
    device: NonNull<bindings::dax_device>,
    /// Offset of the region in the device, in bytes: where the partition starts.
    offset: u64,
    base: NonNull<u8>,
    size: u64,
}

// SAFETY: The device is counted by reference and may be used by any thread; the memory behind `base` is
// only ever copied from, by functions that expect others to write it.
unsafe impl Send for DaxRegion {}
// SAFETY: As above.
unsafe impl Sync for DaxRegion {}

/// Why a block device's memory cannot be had.
pub(crate) enum OpenError {
    /// The device does not offer DAX.
    NoDax,
    /// The device has no memory at all.
    Empty,
    /// The pages do not follow one another in the kernel's address space from this byte on.
    NotContiguous(u64),
    /// The device refused access to this byte.
    Refused(u64, Error),
}

impl DaxRegion {
    /// Maps the whole of `bdev`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(crate) fn open(bdev: &BlockDevice) -> Result<Self, OpenError> {
        let mut offset = 0;
        // SAFETY: The device is open. No holder is registered, so there are no operations for it.
        let device = unsafe {
            bindings::fs_dax_get_by_bdev(bdev.as_raw(), &mut offset, ptr::null_mut(), ptr::null())
        };
        let device = NonNull::new(device).ok_or(OpenError::NoDax)?;
        // SAFETY: The device is open.
        let size = unsafe { bindings::daxfs_helper_bdev_bytes(bdev.as_raw()) };
        // INVARIANT: The reference was got just now; nothing is mapped yet, and so the size is 0.
        let mut region = DaxRegion {
            device,
            offset,
            base: NonNull::dangling(),
            size: 0,
        };
        region.base = region.map(size)?;
        // INVARIANT: `map` found that many bytes there.
        region.size = size;
        Ok(region)
    }

    /// Finds the address of the first of `size` bytes, which must follow one another.
    fn map(&self, size: u64) -> Result<NonNull<u8>, OpenError> {
        let pages = size >> bindings::DAXFS_PAGE_SHIFT;
        let first = self.offset >> bindings::DAXFS_PAGE_SHIFT;
        let mut base = None;
        let mut page = 0;
        // SAFETY: Pairs with the unlock below; nothing returns in between.
        let lock = unsafe { bindings::dax_read_lock() };
        let result = loop {
            if page >= pages {
                break base.ok_or(OpenError::Empty);
            }
            let at = page << bindings::DAXFS_PAGE_SHIFT;
            let mut address = ptr::null_mut();
            // SAFETY: We hold a reference to the device and the lock.
            let found = unsafe {
                bindings::dax_direct_access(
                    self.device.as_ptr(),
                    (first + page) as _,
                    (pages - page) as _,
                    bindings::dax_access_mode_DAX_ACCESS,
                    &mut address,
                    ptr::null_mut(),
                )
            };
            if found == -bindings::DAXFS_EHWPOISON && base.is_some() {
                // A page known to be bad ends the stretch. It stays where it is, and reads of it fail.
                page += 1;
                continue;
            }
            let Some(address) = NonNull::new(address.cast::<u8>()).filter(|_| found > 0) else {
                let error = if found < 0 {
                    Error::from_errno(found as kernel::ffi::c_int)
                } else {
                    ENXIO
                };
                break Err(OpenError::Refused(at, error));
            };
            match base {
                None => base = Some(address),
                Some(base) if base.as_ptr().wrapping_add(at as usize) == address.as_ptr() => {}
                Some(_) => break Err(OpenError::NotContiguous(at)),
            }
            page += found as u64;
        };
        // SAFETY: Pairs with the lock above.
        unsafe { bindings::dax_read_unlock(lock) };
        result
    }

    /// Takes hold of the memory; the device stays until this is dropped, so do not keep it for long.
    ///
    /// # Errors
    ///
    /// `EIO` when the device is gone.
    #[inline]
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        // SAFETY: Pairs with the unlock when the guard is dropped.
        let lock = unsafe { bindings::dax_read_lock() };
        let guard = Access { region: self, lock };
        // SAFETY: We hold a reference to the device, and the lock.
        if unsafe { bindings::dax_alive(self.device.as_ptr()) } {
            Ok(guard)
        } else {
            Err(EIO)
        }
    }

    /// The DAX device, for the kernel's fault handler.
    #[inline]
    pub(crate) fn device(&self) -> *mut bindings::dax_device {
        self.device.as_ptr()
    }

    /// Offset of the region in the device, in bytes.
    #[inline]
    pub(crate) fn device_offset(&self) -> u64 {
        self.offset
    }
}

impl Drop for DaxRegion {
    fn drop(&mut self) {
        // SAFETY: By the invariants the reference is ours to give back; no holder was registered.
        unsafe { bindings::fs_put_dax(self.device.as_ptr(), ptr::null_mut()) };
    }
}

/// A region whose device cannot go away.
///
/// # Invariants
///
/// Holds the DAX read lock `lock`. If it was handed out by [`DaxRegion::access`], the device is alive.
pub(crate) struct Access<'a> {
    region: &'a DaxRegion,
    lock: kernel::ffi::c_int,
}

impl Access<'_> {
    /// The address of `length` bytes at `offset`, if the region has them.
    #[inline]
    fn address(&self, offset: u64, length: usize) -> Option<*const u8> {
        let end = offset.checked_add(length as u64)?;
        (end <= self.region.size).then(|| {
            self.region
                .base
                .as_ptr()
                .cast_const()
                .wrapping_add(offset as usize)
        })
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
}

impl Drop for Access<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariants the lock is held.
        unsafe { bindings::dax_read_unlock(self.lock) };
    }
}

impl image::Memory for Access<'_> {
    fn size(&self) -> u64 {
        self.region.size
    }

    #[inline]
    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let unreadable = image::Error::new(image::Problem::Unreadable, offset, into.len() as u64);
        let from = self.address(offset, into.len()).ok_or(unreadable)?;
        // Records and pieces of metadata are far below 4 GiB.
        let length = u32::try_from(into.len()).map_err(|_| unreadable)?;
        // SAFETY: By the invariants of both types the source is mapped as long as `self` lives, and the
        // destination is ours. The function bears machine checks; a concurrent writer makes the copy
        // a mixture, which the reader of it expects.
        let left = unsafe {
            bindings::daxfs_helper_copy_mc(into.as_mut_ptr().cast(), from.cast(), length)
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
