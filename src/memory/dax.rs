// SPDX-License-Identifier: GPL-2.0

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! Follows `include/linux/dax.h`.

use super::{DaxRange, Files, Mapping, Region, Source};
use crate::bindings;
use crate::vfs::{BlockDevice, Errno, FileRef, NewSuper};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
};

/// Why a device's memory cannot be had.
pub(crate) enum OpenError {
    /// The device does not offer DAX to filesystems.
    NoDax,
    /// The device has no memory at all.
    Empty,
    /// Another filesystem has the device.
    Busy,
    /// The pages do not follow one another in the kernel's address space from this byte on.
    NotContiguous(u64),
    /// The device refused access to this byte.
    Refused(u64, Error),
    /// Something else.
    Other(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Other(error)
    }
}

/// A reference to a DAX device, as its holder.
///
/// # Invariants
///
/// Holds one reference to `device`, and is its holder, with `hold` as identity.
struct Device {
    device: NonNull<bindings::dax_device>,
    hold: KBox<Hold>,
}

/// What the DAX core finds when it has to tell the holder something.
struct Hold {
    /// The super block, which lives as long as the hold.
    sb: *mut bindings::super_block,
    /// Whether the device is about to go away.
    gone: AtomicBool,
}

// SAFETY: The device is counted by reference and may be used by any thread; the super block is only looked at
// by functions that take its locks.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

// SAFETY: The device reported the memory itself, and unmaps it only when it is no longer alive.
unsafe impl Source for Device {
    fn gone(&self) -> bool {
        self.hold.gone.load(Ordering::Acquire)
    }
}

impl Hold {
    const OPERATIONS: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    fn new(sb: &NewSuper) -> Result<KBox<Self>> {
        let hold = Hold {
            sb: sb.as_raw(),
            gone: AtomicBool::new(false),
        };
        Ok(KBox::new(hold, GFP_KERNEL)?)
    }

    /// Identity towards the DAX core.
    fn identity(&self) -> *mut kernel::ffi::c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Called when the device is about to go away, with its struct pages, so that from then on nothing may refer
    /// to them, and when some of its memory has failed.
    ///
    /// # Safety
    ///
    /// As `struct dax_holder_operations` has it.
    unsafe extern "C" fn notify_failure(
        device: *mut bindings::dax_device,
        offset: u64,
        length: u64,
        flags: kernel::ffi::c_int,
    ) -> kernel::ffi::c_int {
        let remove = flags & bindings::DAXFS_MF_MEM_PRE_REMOVE != 0;
        // SAFETY: Under the lock a holder stays what it is; see `Device::drop`. The device is alive during
        // this call.
        unsafe {
            bindings::daxfs_helper_holders_lock();
            let hold = bindings::dax_holder(device).cast::<Hold>();
            if !hold.is_null() && !remove {
                Self::failed((*hold).sb, device, offset, length, flags);
            } else if !hold.is_null() {
                // No page is mapped from now on, so that those which are can be forgotten one by one.
                (*hold).gone.store(true, Ordering::Release);
                bindings::daxfs_helper_forget_pages((*hold).sb);
            }
            bindings::daxfs_helper_holders_unlock();
        }
        0
    }
}

impl Hold {
    /// Some memory of the device of `sb` has failed: `length` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// The device must be alive and hold the image of `sb`.
    unsafe fn failed(
        sb: *mut bindings::super_block,
        device: *mut bindings::dax_device,
        offset: u64,
        length: u64,
        flags: kernel::ffi::c_int,
    ) {
        let first = offset >> bindings::DAXFS_PAGE_SHIFT;
        let end = offset.saturating_add(length);
        let mut page = first;
        while page << bindings::DAXFS_PAGE_SHIFT < end {
            let mut frame = 0;
            // SAFETY: By the contract. This kind of access is granted to memory that is known to be bad.
            let found = unsafe {
                bindings::dax_direct_access(
                    device,
                    page as usize,
                    1,
                    bindings::dax_access_mode_DAX_RECOVERY_WRITE,
                    ptr::null_mut(),
                    &mut frame,
                )
            };
            if found <= 0 {
                return;
            }
            // SAFETY: By the contract; all memory of such a device has struct pages.
            unsafe { super::frame_failed(sb, frame, flags) };
            page += 1;
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: By the invariants the reference, and the hold, are ours to give back. The lock keeps the hold
        // from being freed while it is looked at.
        unsafe {
            bindings::daxfs_helper_holders_lock();
            bindings::fs_put_dax(self.device.as_ptr(), self.hold.identity());
            bindings::daxfs_helper_holders_unlock();
        }
    }
}

/// Maps the whole of `bdev` for `sb`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_block(bdev: &BlockDevice, sb: &NewSuper) -> Result<Region, OpenError> {
    let hold = Hold::new(sb)?;
    let mut offset = 0;
    let mut get = |holder, operations| {
        let bdev = bdev.as_raw();
        // SAFETY: The block device is open; the hold outlives its registration.
        let device = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut offset, holder, operations) };
        NonNull::new(device)
    };
    let Some(device) = get(hold.identity(), &Hold::OPERATIONS) else {
        // The function does not tell why not.
        return Err(match get(ptr::null_mut(), ptr::null()) {
            Some(device) => {
                // SAFETY: Gives back the reference just got.
                unsafe { bindings::put_dax(device.as_ptr()) };
                OpenError::Busy
            }
            None => OpenError::NoDax,
        });
    };
    // INVARIANT: Both were got just now.
    let device = Device { device, hold };
    // SAFETY: The device is open.
    let size = unsafe { bindings::daxfs_helper_bdev_bytes(bdev.as_raw()) };
    let range = DaxRange {
        device: device.device,
        offset,
    };
    region(range, size, device)
}

/// Maps the whole of the DAX character device with the number `number`, which `node` opens, for `sb`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_char(
    number: bindings::dev_t,
    node: impl FnOnce() -> Result<FileRef>,
    sb: &NewSuper,
) -> Result<Region, OpenError> {
    if number >> bindings::DAXFS_MINOR_BITS != major()? {
        return Err(OpenError::NoDax);
    }
    // For a number that no device has, as that of a node made by hand, the DAX core would make an object that
    // is none. Such a node cannot be opened, and while one is open its device stays.
    let node = node().map_err(|error| match error {
        error if error == ENXIO => OpenError::NoDax,
        error => OpenError::Other(error),
    })?;
    // SAFETY: The file is open.
    if unsafe { bindings::daxfs_helper_file_device(node.as_raw()) } != number {
        return Err(OpenError::NoDax);
    }
    let hold = Hold::new(sb)?;
    // SAFETY: There is a device with that number.
    let found = NonNull::new(unsafe { bindings::dax_dev_get(number) }).ok_or(ENOMEM)?;
    // SAFETY: The object is valid; the hold outlives its registration. A second reference is got on success.
    let got = unsafe { bindings::fs_dax_get(found.as_ptr(), hold.identity(), &Hold::OPERATIONS) };
    // SAFETY: Gives back the first reference.
    unsafe { bindings::put_dax(found.as_ptr()) };
    to_result(got).map_err(|error| {
        if error == EBUSY {
            OpenError::Busy
        } else if error == ENODEV || error == Error::from(Errno::NotSupported) {
            OpenError::NoDax
        } else {
            OpenError::Other(error)
        }
    })?;
    // INVARIANT: Both were got just now.
    let device = Device {
        device: found,
        hold,
    };
    let range = DaxRange {
        device: device.device,
        offset: 0,
    };
    let size = linear_size(&range);
    region(range, size, device)
}

/// The major number of DAX character devices, which only a device of one's own can tell.
fn major() -> Result<u32> {
    // SAFETY: A device without operations and data, which nobody else gets to see.
    unsafe {
        let device = from_err_ptr(bindings::alloc_dax(ptr::null_mut(), ptr::null()))?;
        let number = (*bindings::dax_inode(device)).i_rdev;
        bindings::kill_dax(device);
        bindings::put_dax(device);
        Ok(number >> bindings::DAXFS_MINOR_BITS)
    }
}

/// How many bytes follow one another from the start of `range` on: DAX devices do not tell their size
/// otherwise.
fn linear_size(range: &DaxRange) -> u64 {
    let (mut low, mut high) = (0, 1 << (u64::BITS - 1 - bindings::DAXFS_PAGE_SHIFT));
    // `low` pages can be had in one piece, `high` cannot.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match direct_access(range, 0, middle) {
            Ok((pages, _)) if pages >= middle => low = middle,
            _ => high = middle,
        }
    }
    low << bindings::DAXFS_PAGE_SHIFT
}

/// The region of `size` bytes at `range`, which `source` keeps.
pub(super) fn region(
    range: DaxRange,
    size: u64,
    source: impl Source + 'static,
) -> Result<Region, OpenError> {
    let mapping = Mapping {
        base: map(&range, size)?,
        size,
        io: false,
    };
    let source = KBox::new(source, GFP_KERNEL).map_err(Error::from)?;
    Ok(Region::new(mapping, Files::Dax(range), source))
}

/// Asks for `count` pages from page number `page` of `range` on, and tells how many follow one another there, at
/// least one, and where.
fn direct_access(range: &DaxRange, page: u64, count: u64) -> Result<(u64, NonNull<u8>)> {
    let first = range.offset >> bindings::DAXFS_PAGE_SHIFT;
    let mut address = ptr::null_mut();
    // SAFETY: Pairs with the unlock below.
    let lock = unsafe { bindings::dax_read_lock() };
    // SAFETY: The device is referenced, and the lock is held.
    let found = unsafe {
        bindings::dax_direct_access(
            range.device.as_ptr(),
            (first + page) as usize,
            count as isize,
            bindings::dax_access_mode_DAX_ACCESS,
            &mut address,
            ptr::null_mut(),
        )
    };
    // SAFETY: Pairs with the lock above.
    unsafe { bindings::dax_read_unlock(lock) };
    to_result(found as kernel::ffi::c_int)?;
    match NonNull::new(address.cast()) {
        Some(address) if found > 0 => Ok((found as u64, address)),
        _ => Err(ENXIO),
    }
}

/// Finds the address of the first of `size` bytes, which must follow one another.
fn map(range: &DaxRange, size: u64) -> Result<NonNull<u8>, OpenError> {
    let pages = size >> bindings::DAXFS_PAGE_SHIFT;
    let mut base: Option<NonNull<u8>> = None;
    let mut page = 0;
    while page < pages {
        let at = page << bindings::DAXFS_PAGE_SHIFT;
        match (direct_access(range, page, pages - page), base) {
            (Ok((found, address)), None) => {
                base = Some(address);
                page += found;
            }
            (Ok((found, address)), Some(base)) => {
                if base.as_ptr().wrapping_add(at as usize) != address.as_ptr() {
                    return Err(OpenError::NotContiguous(at));
                }
                page += found;
            }
            // A page known to be bad ends the stretch. It stays where it is, and reads of it fail.
            (Err(error), Some(_)) if error == Error::from(Errno::HwPoison) => page += 1,
            (Err(error), _) => return Err(OpenError::Refused(at, error)),
        }
    }
    base.ok_or(OpenError::Empty)
}
