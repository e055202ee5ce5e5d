// SPDX-License-Identifier: GPL-2.0-only

//! Asking a DAX device where its memory is.

use super::DaxRange;
use crate::bindings;
use crate::support::Errno;
use core::ptr::{self, NonNull};
use kernel::prelude::*;

/// Reasons why a device cannot be opened.
pub(crate) enum OpenError {
    /// The device does not offer DAX to filesystems.
    NoDax,
    /// The device has no memory.
    Empty,
    /// Another filesystem holds the device.
    Busy,
    /// The memory belongs to a device below this one.
    Stacked,
    /// The device, or the kernel's mapping of it, is not contiguous at this byte.
    NotContiguous(u64),
    /// The device refused access to this byte.
    Refused(u64, Error),
    /// Something else.
    Other(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        match error {
            error if error == EBUSY => OpenError::Busy,
            error => OpenError::Other(error),
        }
    }
}

/// Return the number of contiguous bytes at `range`. DAX devices have no function that returns
/// their size.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn linear_size(range: &DaxRange) -> u64 {
    let (mut low, mut high) = (0, 1 << (u64::BITS - 1 - bindings::PAGE_SHIFT));
    // `low` pages are contiguous, `high` pages are not.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        // SAFETY: The caller passes a valid device.
        match unsafe { direct_access(range, 0, middle) } {
            Ok(found) if found.pages >= middle => low = middle,
            _ => high = middle,
        }
    }
    low << bindings::PAGE_SHIFT
}

/// Result of [`direct_access`].
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Number of contiguous pages, at least 1.
    pub(super) pages: u64,
    /// Kernel address of the first page.
    pub(super) address: NonNull<u8>,
    /// Page frame of the first page.
    pub(super) frame: usize,
}

/// The read lock of the DAX core. The memory of a device that is alive stays while it is held.
///
/// # Invariants
///
/// The lock is held, with this number.
struct ReadLock(kernel::ffi::c_int);

impl ReadLock {
    fn new() -> Self {
        // SAFETY: `drop` releases the lock.
        // INVARIANT: The lock was taken.
        ReadLock(unsafe { bindings::dax_read_lock() })
    }
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held.
        unsafe { bindings::dax_read_unlock(self.0) };
    }
}

/// Ask for `count` pages of `range`, starting with page `page`.
///
/// # Errors
///
/// `ENXIO` if the device is gone, `EHWPOISON` if the first page has failed, `ERANGE` if it is after
/// the end of the device.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn direct_access(range: &DaxRange, page: u64, count: u64) -> Result<Found> {
    // SAFETY: The caller passes a valid device.
    unsafe { locked_access(range, page, count, &ReadLock::new()) }
}

/// As [`direct_access`]. The memory stays as long as `_lock` is held.
///
/// # Safety
///
/// The device must be valid.
unsafe fn locked_access(
    range: &DaxRange,
    page: u64,
    count: u64,
    _lock: &ReadLock,
) -> Result<Found> {
    let first = range.offset >> bindings::PAGE_SHIFT;
    let mut address = ptr::null_mut();
    let mut frame = 0;
    // SAFETY: The caller passes a valid device, and the lock is held.
    let found = unsafe {
        bindings::dax_direct_access(
            range.device.as_ptr(),
            (first + page) as usize,
            count as isize,
            bindings::dax_access_mode_DAX_ACCESS,
            &mut address,
            &mut frame,
        )
    };
    if found < 0 {
        return Err(Error::from_errno(found as kernel::ffi::c_int));
    }
    match NonNull::new(address.cast()) {
        Some(address) if found > 0 => Ok(Found {
            pages: found as u64,
            address,
            frame,
        }),
        _ => Err(ENXIO),
    }
}

/// Copy the bytes at `offset` of `range` to `into`. Return false if the device is gone, or the
/// memory has failed.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn read(range: &DaxRange, offset: u64, into: &mut [u8]) -> bool {
    let mut done = 0;
    while done < into.len() {
        let at = offset + done as u64;
        let within = at % bindings::PAGE_SIZE;
        let length = (into.len() - done).min((bindings::PAGE_SIZE - within) as usize);
        let lock = ReadLock::new();
        // SAFETY: The caller passes a valid device.
        let found = unsafe { locked_access(range, at >> bindings::PAGE_SHIFT, 1, &lock) };
        let Ok(found) = found else { return false };
        let from = found.address.as_ptr().wrapping_add(within as usize);
        let to = into[done..].as_mut_ptr();
        // SAFETY: The lock keeps the page mapped, and the bytes are in it. The destination is
        // borrowed exclusively. The function survives machine checks.
        let left = unsafe { bindings::copy_mc_to_kernel(to.cast(), from.cast(), length as u32) };
        if left != 0 {
            return false;
        }
        done += length;
    }
    true
}

/// Return the address of the first of `size` bytes, whose addresses and page frames must be
/// contiguous.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn map(range: &DaxRange, size: u64) -> Result<NonNull<u8>, OpenError> {
    let pages = size >> bindings::PAGE_SHIFT;
    let mut first: Option<Found> = None;
    let mut page = 0;
    while page < pages {
        let at = page << bindings::PAGE_SHIFT;
        // SAFETY: The caller passes a valid device.
        match (unsafe { direct_access(range, page, pages - page) }, first) {
            (Ok(found), None) => {
                first = Some(found);
                page += found.pages;
            }
            (Ok(found), Some(first)) => {
                let address = first.address.as_ptr().wrapping_add(at as usize);
                if found.address.as_ptr() != address || found.frame != first.frame + page as usize {
                    return Err(OpenError::NotContiguous(at));
                }
                page += found.pages;
            }
            // A failed page is mapped like the others, but reads of it fail.
            (Err(error), Some(_)) if error == Error::from(Errno::HwPoison) => page += 1,
            (Err(error), _) => return Err(OpenError::Refused(at, error)),
        }
    }
    first.map(|found| found.address).ok_or(OpenError::Empty)
}
