// SPDX-License-Identifier: GPL-2.0-only

//! Asking a DAX device where its memory is.

use super::{poison, DaxRange};
use crate::bindings;
use crate::linux::fs::Refusal;
use crate::linux::Errno;
use core::ptr::{self, NonNull};
use kernel::prelude::*;

/// Number of pages that are asked for at a time, 1 TiB: the pmem driver counts the sectors of a
/// request in 32 bits.
const MOST_PAGES: u64 = 1 << 40 >> bindings::PAGE_SHIFT;

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
/// `ENXIO` if the device is gone, `EHWPOISON` if one of the pages is known to have failed, `ERANGE`
/// if the first one is after the end of the device.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn direct_access(range: &DaxRange, page: u64, count: u64) -> Result<Found> {
    // SAFETY: The caller passes a valid device.
    unsafe { locked_access(range, page, count, Mode::Good, &ReadLock::new()) }
}

/// Which pages [`locked_access`] may find.
#[derive(Clone, Copy)]
enum Mode {
    /// No page that is known to have failed.
    Good = bindings::dax_access_mode_DAX_ACCESS as isize,
    /// Any page.
    Any = bindings::dax_access_mode_DAX_RECOVERY_WRITE as isize,
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
    mode: Mode,
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
            mode as bindings::dax_access_mode,
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

/// Ask for all of the first `pages` pages of `range`, and call `visit` with the number of the first
/// page of each part that was found. Mark pages that are known to have failed, and visit them too.
///
/// The device refuses a request if any of its pages has failed, so ask for less and less until it
/// does not, and then for more and more.
///
/// # Errors
///
/// The errors of `visit`; that of `refused` if the device refuses access to a byte.
///
/// # Safety
///
/// The device must be valid.
unsafe fn for_each_part<E>(
    range: &DaxRange,
    pages: u64,
    mut visit: impl FnMut(u64, Found) -> Result<(), E>,
    refused: impl Fn(u64, Error) -> E,
) -> Result<(), E> {
    let failed = Error::from(Errno::HwPoison);
    let (mut page, mut step) = (0, MOST_PAGES);
    while page < pages {
        let count = step.min(pages - page);
        // SAFETY: The caller passes a valid device.
        let found = match unsafe { direct_access(range, page, count) } {
            Err(error) if error == failed && count > 1 => {
                step = count / 2;
                continue;
            }
            // Without failure handling, the kernel has no mark for pages.
            Err(error) if error == failed && cfg!(CONFIG_MEMORY_FAILURE) => {
                // SAFETY: The caller passes a valid device.
                unsafe { locked_access(range, page, 1, Mode::Any, &ReadLock::new()) }
                    .map(|found| Found { pages: 1, ..found })
                    .inspect(|found| poison::mark(found.frame))
            }
            Ok(found) => {
                step = MOST_PAGES.min(2 * step);
                Ok(found)
            }
            error => error,
        };
        let at = page << bindings::PAGE_SHIFT;
        let found = found.map_err(|error| refused(at, error))?;
        visit(page, found)?;
        page += found.pages;
    }
    Ok(())
}

/// Mark the pages in the first `size` bytes of `range` that the device knows to have failed. If the
/// device is gone, there is nothing to mark.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn mark_failed(range: &DaxRange, size: u64) {
    let pages = size >> bindings::PAGE_SHIFT;
    // SAFETY: The caller passes a valid device.
    let _ = unsafe { for_each_part(range, pages, |_, _| Ok(()), |_, _| ()) };
}

/// Return why a mount is refused whose device refuses access to the byte `at`.
pub(super) fn refused(at: u64, error: Error) -> Refusal {
    if error == Errno::HwPoison.into() {
        return Refusal::new(
            EIO,
            fmt!("byte {at:#x} cannot be read: the memory has failed"),
        )
        .remedy("write the block again to repair it");
    }
    Refusal::new(
        error,
        fmt!("device refuses access to byte {at:#x}: {error:?}"),
    )
}

/// Return the address of the first of `size` bytes, whose addresses and page frames must be
/// contiguous. Mark the pages that are known to have failed: they are mapped like the others, but
/// reads of them fail.
///
/// # Errors
///
/// `EINVAL` if they are not contiguous or `size` is 0, and those of the device.
///
/// # Safety
///
/// The device must be valid.
pub(super) unsafe fn map(range: &DaxRange, size: u64) -> Result<NonNull<u8>, Refusal> {
    let mut first: Option<Found> = None;
    let visit = |page: u64, found: Found| {
        let first = *first.get_or_insert(found);
        let at = page << bindings::PAGE_SHIFT;
        let address = first.address.as_ptr().wrapping_add(at as usize);
        if found.address.as_ptr() != address || found.frame != first.frame + page as usize {
            return Err(Refusal::new(
                EINVAL,
                fmt!("device is not mapped in one piece (break at byte {at:#x})"),
            )
            .remedy("use a linear one"));
        }
        Ok(())
    };
    // SAFETY: The caller passes a valid device.
    unsafe { for_each_part(range, size >> bindings::PAGE_SHIFT, visit, refused) }?;
    first.map(|found| found.address).ok_or_else(empty)
}

/// Return why a mount of a device without memory is refused.
pub(super) fn empty() -> Refusal {
    Refusal::new(EINVAL, fmt!("device is empty"))
}
