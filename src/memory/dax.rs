// SPDX-License-Identifier: GPL-2.0

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! The device's driver owns the memory. It notifies us, as holder of the device, when the memory is about to go and
//! when some of it fails. A reference to the page map keeps the driver from removing the struct pages before their last user is gone.
//!
//! Follows `include/linux/dax.h` and `include/linux/memremap.h`.

use super::lease::Lease;
use super::{fsdev, registry, DaxRange, Files, Mapping, Region, Shown, Source};
use crate::bindings;
use crate::vfs::{BlockDevice, Errno, FileRef};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::Arc,
};

/// Why a device's memory cannot be had.
pub(crate) enum OpenError {
    /// The device does not offer DAX to filesystems.
    NoDax,
    /// The device has no memory at all.
    Empty,
    /// Another filesystem has the device.
    Busy,
    /// The memory belongs to a device below this one.
    Stacked,
    /// The pages are not contiguous in the kernel's address space from this byte on.
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

/// A reference to the page map of a driver, which keeps its struct pages.
///
/// # Invariants
///
/// Owns a reference.
struct PageMap(NonNull<bindings::dev_pagemap>);

impl PageMap {
    /// Get the page map that page frame `frame` is in.
    fn of(frame: usize) -> Option<Self> {
        // SAFETY: Takes any number.
        let found = unsafe { bindings::get_dev_pagemap(frame) };
        // INVARIANT: Got just now.
        NonNull::new(found).map(PageMap)
    }

    /// Return whether it was made by the driver of `device`, and not by one below it.
    fn belongs_to(&self, device: NonNull<bindings::dax_device>) -> bool {
        // SAFETY: By the invariant the map is valid, and so is the device, of which the caller has a reference.
        let (owner, driver) = unsafe {
            (
                (*self.0.as_ptr()).owner,
                bindings::dax_get_private(device.as_ptr()),
            )
        };
        !owner.is_null() && owner == driver
    }
}

impl Drop for PageMap {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::daxfs_helper_put_page_map(self.0.as_ptr()) };
    }
}

/// A DAX device that we hold.
///
/// # Invariants
///
/// Owns a reference to `device`, and is its holder, with the address of `lease` as identity, until the lease is revoked.
struct Device {
    device: NonNull<bindings::dax_device>,
    lease: Arc<Lease>,
    pages: Option<PageMap>,
}

// SAFETY: Devices and page maps are counted by reference and may be used by any thread.
unsafe impl Send for Device {}
// SAFETY: As for `Send`.
unsafe impl Sync for Device {}

// SAFETY: `pages` keeps the struct pages and the mapping.
unsafe impl Source for Device {
    fn release(&mut self) {
        self.pages = None;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let holder = match self.lease.revoked() {
            // The DAX core removes the holder itself, and somebody else may hold the device by now.
            true => ptr::null(),
            false => Arc::as_ptr(&self.lease),
        };
        // SAFETY: By the invariants the reference, and the hold, are ours to give back.
        unsafe { bindings::fs_put_dax(self.device.as_ptr(), holder.cast_mut().cast()) };
    }
}

impl Device {
    const HOLDER: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    /// Handle the device's removal, or the failure of `length` bytes at `offset`.
    ///
    /// The DAX core holds its read lock, so other devices cannot be removed meanwhile.
    ///
    /// # Safety
    ///
    /// As for `struct dax_holder_operations`.
    unsafe extern "C" fn notify_failure(
        device: *mut bindings::dax_device,
        offset: u64,
        length: u64,
        flags: kernel::ffi::c_int,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the contract the device is valid. Its holder may be another filesystem by now, so the pointer is
        // compared with those of our leases, and not followed.
        let holder = unsafe { bindings::dax_holder(device) }.cast::<Lease>();
        let is_ours = |lease: &Lease| ptr::eq(lease, holder) && lease.holds(device);
        let Some(lease) = registry::find_by(is_ours) else {
            return Error::from(Errno::NotSupported).to_errno();
        };
        if flags & bindings::DAXFS_MF_MEM_PRE_REMOVE == 0 {
            // SAFETY: By the contract.
            unsafe { Self::failed(&lease, device, offset, length, flags) };
        } else {
            lease.revoke();
            // As soon as this returns, the device is no longer alive, and its driver may not find itself any more when
            // it is asked for memory. So nobody may be in the middle of asking.
            lease.wait_for_readers();
        }
        0
    }

    /// Handle the failure of `length` bytes at `offset` of `device`.
    ///
    /// # Safety
    ///
    /// The device must be valid, and held with `lease`.
    unsafe fn failed(
        lease: &Lease,
        device: *mut bindings::dax_device,
        offset: u64,
        length: u64,
        flags: kernel::ffi::c_int,
    ) {
        let end = offset.saturating_add(length);
        let mut page = offset >> bindings::DAXFS_PAGE_SHIFT;
        while page << bindings::DAXFS_PAGE_SHIFT < end {
            let mut frame = 0;
            // While there is a reader the device stays alive.
            let Ok(reader) = lease.read() else { return };
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
            drop(reader);
            if found <= 0 {
                return;
            }
            lease.page_failed(page << bindings::DAXFS_PAGE_SHIFT, frame, flags);
            page += 1;
        }
    }

    /// Map `size` bytes at `offset` of the device, or with `None` all that is contiguous, into a region.
    fn open(mut self, offset: u64, size: Option<u64>) -> Result<Region, OpenError> {
        let range = DaxRange {
            device: self.device,
            offset,
        };
        let lease = self.lease.clone();
        // While there is a reader the device stays alive, and its driver with it.
        let reader = lease.read()?;
        let size = size.unwrap_or_else(|| linear_size(&range));
        let first = direct_access(&range, 0, 1);
        let stacked = first.as_ref().is_ok_and(|found| {
            self.pages = PageMap::of(found.frame);
            let pages = self.pages.as_ref();
            !pages.is_some_and(|pages| pages.belongs_to(self.device))
        });
        // From here on the lease owns the device.
        lease.open(KBox::new(self, GFP_KERNEL).map_err(Error::from)?);
        if size == 0 {
            return Err(OpenError::Empty);
        }
        first.map_err(|error| OpenError::Refused(0, error))?;
        if stacked {
            return Err(OpenError::Stacked);
        }
        let region = region(range, size, Shown::Nothing, lease.clone());
        drop(reader);
        region
    }
}

/// Map the whole of `bdev`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_block(bdev: &BlockDevice, lease: &Arc<Lease>) -> Result<Region, OpenError> {
    let mut offset = 0;
    let mut get = |holder, operations| {
        let bdev = bdev.as_raw();
        // SAFETY: The block device is open; the lease outlives its registration.
        let device = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut offset, holder, operations) };
        NonNull::new(device)
    };
    let Some(device) = get(ptr::null_mut(), ptr::null()) else {
        return Err(OpenError::NoDax);
    };
    lease.set_dax(device.as_ptr());
    let held = get(Arc::as_ptr(lease).cast_mut().cast(), &Device::HOLDER);
    // SAFETY: Gives back the first reference.
    unsafe { bindings::put_dax(device.as_ptr()) };
    // INVARIANT: Both were got just now.
    let device = Device {
        device: held.ok_or(OpenError::Busy)?,
        lease: lease.clone(),
        pages: None,
    };
    // SAFETY: The block device is open.
    let size = unsafe { bindings::daxfs_helper_bdev_bytes(bdev.as_raw()) };
    device.open(offset, Some(size))
}

/// Map the whole of the DAX character device with the number `number`, which `node` opens.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_char(
    number: bindings::dev_t,
    node: impl FnOnce() -> Result<FileRef>,
    lease: &Arc<Lease>,
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
    // SAFETY: As above. It is a device of the DAX bus, whose node is open.
    let device = unsafe { bindings::daxfs_helper_file_parent(node.as_raw()) };
    // While a driver waits for the users of an earlier mount's pages, the device is locked.
    if registry::find_by(|lease| lease.is_on_fsdev(device)).is_some() {
        return Err(OpenError::Busy);
    }
    lease.set_fsdev(device);
    // SAFETY: As above.
    unsafe { fsdev::watch(device) }?;
    // SAFETY: There is a device with that number.
    let found = NonNull::new(unsafe { bindings::dax_dev_get(number) }).ok_or(ENOMEM)?;
    lease.set_dax(found.as_ptr());
    let holder = Arc::as_ptr(lease).cast_mut().cast();
    // SAFETY: The object is valid; the lease outlives its registration. A second reference is got on success.
    let got = unsafe { bindings::fs_dax_get(found.as_ptr(), holder, &Device::HOLDER) };
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
        lease: lease.clone(),
        pages: None,
    };
    device.open(0, None)
}

/// The major number of DAX character devices, 0 as long as nobody has asked.
static MAJOR: AtomicU32 = AtomicU32::new(0);

/// Return the major number of DAX character devices.
fn major() -> Result<u32> {
    let known = MAJOR.load(Ordering::Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let major = make_and_kill()?;
    MAJOR.store(major, Ordering::Relaxed);
    Ok(major)
}

/// Callbacks of the DAX core may come as long as this lives.
pub(super) struct Callbacks;

impl Drop for Callbacks {
    fn drop(&mut self) {
        // No device has a holder of ours any more, but a callback that was called before may still run. Killing a device
        // waits for those of all.
        if let Err(error) = make_and_kill() {
            pr_err!("cannot wait for callbacks of DAX devices: {:?}\n", error);
        }
    }
}

/// Make a DAX device that nobody gets to see, kill it, and return the major number that it had.
fn make_and_kill() -> Result<u32> {
    // SAFETY: A device may have neither operations nor data.
    let device = from_err_ptr(unsafe { bindings::alloc_dax(ptr::null_mut(), ptr::null()) })?;
    // SAFETY: The device is valid, and its number does not change.
    let number = unsafe { (*bindings::dax_inode(device)).i_rdev };
    // SAFETY: The device is ours.
    unsafe { bindings::kill_dax(device) };
    // SAFETY: Gives back the reference that alloc_dax() got.
    unsafe { bindings::put_dax(device) };
    Ok(number >> bindings::DAXFS_MINOR_BITS)
}

/// Return the number of contiguous bytes from the start of `range` on. DAX devices do not tell their size otherwise.
fn linear_size(range: &DaxRange) -> u64 {
    let (mut low, mut high) = (0, 1 << (u64::BITS - 1 - bindings::DAXFS_PAGE_SHIFT));
    // `low` pages can be had in one piece, `high` cannot.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match direct_access(range, 0, middle) {
            Ok(found) if found.pages >= middle => low = middle,
            _ => high = middle,
        }
    }
    low << bindings::DAXFS_PAGE_SHIFT
}

/// Return the region of `size` bytes at `range`, on a device that the source of `lease` keeps.
///
/// # Errors
///
/// See [`OpenError`].
pub(super) fn region(
    range: DaxRange,
    size: u64,
    shown: Shown,
    lease: Arc<Lease>,
) -> Result<Region, OpenError> {
    let mapping = Mapping {
        base: map(&range, size)?,
        size,
        io: false,
    };
    Ok(Region::new(mapping, Files::Dax(range), shown, lease))
}

/// What [`direct_access`] found.
#[derive(Clone, Copy)]
struct Found {
    /// Number of contiguous pages, at least 1.
    pages: u64,
    /// Kernel address of the first.
    address: NonNull<u8>,
    /// Page frame of the first.
    frame: usize,
}

/// Ask for `count` pages from page number `page` of `range` on.
///
/// # Errors
///
/// `ENXIO` if the device is gone, `EHWPOISON` if the first page is known to be bad, `ERANGE` beyond the device's end.
fn direct_access(range: &DaxRange, page: u64, count: u64) -> Result<Found> {
    let first = range.offset >> bindings::DAXFS_PAGE_SHIFT;
    let mut address = ptr::null_mut();
    let mut frame = 0;
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
            &mut frame,
        )
    };
    // SAFETY: Pairs with the lock above.
    unsafe { bindings::dax_read_unlock(lock) };
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

/// Find the address of the first of `size` bytes, which must be contiguous.
fn map(range: &DaxRange, size: u64) -> Result<NonNull<u8>, OpenError> {
    let pages = size >> bindings::DAXFS_PAGE_SHIFT;
    let mut base: Option<NonNull<u8>> = None;
    let mut page = 0;
    while page < pages {
        let at = page << bindings::DAXFS_PAGE_SHIFT;
        match (direct_access(range, page, pages - page), base) {
            (Ok(found), None) => {
                base = Some(found.address);
                page += found.pages;
            }
            (Ok(found), Some(base)) => {
                if base.as_ptr().wrapping_add(at as usize) != found.address.as_ptr() {
                    return Err(OpenError::NotContiguous(at));
                }
                page += found.pages;
            }
            // A page known to be bad ends the stretch. It stays where it is, and reads of it fail.
            (Err(error), Some(_)) if error == Error::from(Errno::HwPoison) => page += 1,
            (Err(error), _) => return Err(OpenError::Refused(at, error)),
        }
    }
    base.ok_or(OpenError::Empty)
}
