// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! The driver of the device owns the memory. It notifies us, as holder of the device, before the
//! memory goes away and when some of it fails. A reference to the page map keeps the driver from
//! removing the struct pages before their last user is gone.
//!
//! Follows `include/linux/dax.h` and `include/linux/memremap.h`.

use super::lease::Lease;
use super::{fsdev, registry, DaxRange, MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::support::Errno;
use crate::vfs::BlockDevice;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    error::{from_err_ptr, to_result},
    fs::File,
    prelude::*,
    sync::{aref::ARef, Arc},
};

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
    /// The kernel's mapping of the device is not contiguous at this byte.
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
    /// Get the page map that contains page frame `frame`.
    fn of(frame: usize) -> Option<Self> {
        // SAFETY: This takes any number.
        let found = unsafe { bindings::get_dev_pagemap(frame) };
        // INVARIANT: get_dev_pagemap() returned a reference.
        NonNull::new(found).map(PageMap)
    }

    /// Return true if the driver of `device` created it, rather than the driver of a device that
    /// `device` is stacked on.
    fn belongs_to(&self, device: &Device) -> bool {
        // SAFETY: By the type invariant the map is valid.
        let owner = unsafe { (*self.0.as_ptr()).owner };
        // SAFETY: By the type invariant the device is valid.
        let driver = unsafe { bindings::dax_get_private(device.device.as_ptr()) };
        !owner.is_null() && owner == driver
    }
}

impl Drop for PageMap {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::put_dev_pagemap(self.0.as_ptr()) };
    }
}

/// A held DAX device.
///
/// # Invariants
///
/// Owns a reference to `device`. While `lease` has the device, it also is the holder of the device,
/// with the address of `lease` as holder data.
struct Device {
    device: NonNull<bindings::dax_device>,
    lease: Arc<Lease>,
    pages: Option<PageMap>,
}

// SAFETY: References to devices and page maps may be put by any thread.
unsafe impl Send for Device {}
// SAFETY: Devices and page maps may be used by several threads at the same time.
unsafe impl Sync for Device {}

// SAFETY: `pages` keeps the struct pages and the driver's mapping of the memory.
unsafe impl Owner for Device {
    fn release(&mut self) {
        self.pages = None;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let holder = match self.lease.holds(self.device.as_ptr()) {
            true => Arc::as_ptr(&self.lease),
            // The DAX core removes the holder, and there may be another one.
            false => ptr::null(),
        };
        // SAFETY: By the type invariant this owns the reference, and is the holder if one is given.
        unsafe { bindings::fs_put_dax(self.device.as_ptr(), holder.cast_mut().cast()) };
    }
}

impl Device {
    const HOLDER: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    /// Handle the device's removal, or the failure of `length` bytes at `offset`.
    ///
    /// The DAX core calls this under its read lock, so other devices cannot be removed meanwhile.
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
        // The holder may be another filesystem's, so the pointer is compared but not dereferenced.
        // SAFETY: The DAX core passes a valid device.
        let holder = unsafe { bindings::dax_holder(device) }.cast::<Lease>();
        let is_ours = |lease: &Lease| ptr::eq(lease, holder) && lease.holds(device);
        let Some(lease) = registry::find_by(is_ours) else {
            return Error::from(Errno::NotSupported).to_errno();
        };
        if flags & bindings::MF_MEM_PRE_REMOVE == 0 {
            // SAFETY: The DAX core passes a valid device, and the lease holds it.
            unsafe { Self::failed(&lease, device, offset, length, flags) };
        } else {
            lease.set_dax(ptr::null_mut());
            lease.revoke();
            // When this returns, the device is not alive any more, and its driver cannot be asked
            // for memory. So wait for those who are asking.
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
        let mut page = offset >> bindings::PAGE_SHIFT;
        while page << bindings::PAGE_SHIFT < end {
            let mut frame = 0;
            // A reader keeps the device alive.
            let Ok(reader) = lease.read() else { return };
            // This access mode allows access to memory that has failed.
            // SAFETY: The caller passes a valid device.
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
            lease.page_failed(page << bindings::PAGE_SHIFT, frame, flags);
            page += 1;
        }
    }

    /// Open a region of `size` bytes at `offset` of the device, or of all contiguous bytes.
    fn open(
        mut self,
        offset: u64,
        size: Option<u64>,
        tenure: &Tenure,
    ) -> Result<Region, OpenError> {
        let range = DaxRange {
            device: self.device,
            offset,
        };
        let lease = tenure.lease();
        // A reader keeps the device alive, and so its driver.
        let reader = lease.read()?;
        // SAFETY: By the type invariant the device is valid.
        let size = size.unwrap_or_else(|| unsafe { linear_size(&range) });
        // SAFETY: By the type invariant the device is valid.
        let first = unsafe { direct_access(&range, 0, 1) };
        let stacked = first.as_ref().is_ok_and(|found| {
            self.pages = PageMap::of(found.frame);
            let pages = self.pages.as_ref();
            !pages.is_some_and(|pages| pages.belongs_to(&self))
        });
        // The lease owns the device from now on.
        lease.open(KBox::new(self, GFP_KERNEL).map_err(Error::from)?)?;
        if size == 0 {
            return Err(OpenError::Empty);
        }
        first.map_err(|error| OpenError::Refused(0, error))?;
        if stacked {
            return Err(OpenError::Stacked);
        }
        // SAFETY: The owner in the lease is the device, which keeps the memory mapped.
        let region = unsafe { region(range, size, Shown::Nothing, tenure) };
        drop(reader);
        region
    }
}

/// Open the region of block device `bdev`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_block(bdev: &BlockDevice, tenure: &Tenure) -> Result<Region, OpenError> {
    let lease = tenure.lease();
    let mut offset = 0;
    let mut get = |holder, operations| {
        let bdev = bdev.as_raw();
        // SAFETY: The block device is open. The lease lives until the holder is removed.
        let device = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut offset, holder, operations) };
        NonNull::new(device)
    };
    let Some(device) = get(ptr::null_mut(), ptr::null()) else {
        return Err(OpenError::NoDax);
    };
    lease.set_dax(device.as_ptr());
    let held = get(Arc::as_ptr(lease).cast_mut().cast(), &Device::HOLDER);
    // SAFETY: This is the first of the two references.
    unsafe { bindings::put_dax(device.as_ptr()) };
    // INVARIANT: The second call got a reference and set the holder.
    let device = Device {
        device: held.ok_or(OpenError::Busy)?,
        lease: lease.clone(),
        pages: None,
    };
    // SAFETY: The block device is open.
    let size = unsafe { bindings::bdev_nr_bytes(bdev.as_raw()) };
    device.open(offset, Some(size), tenure)
}

/// Open the region of the DAX character device `number`, whose device node `node` opens.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open_char(
    number: bindings::dev_t,
    node: impl FnOnce() -> Result<ARef<File>>,
    tenure: &Tenure,
) -> Result<Region, OpenError> {
    let lease = tenure.lease();
    if number >> bindings::MINORBITS != major()? {
        return Err(OpenError::NoDax);
    }
    // For the number of a device that does not exist the DAX core would make an object without a
    // device. A node with such a number cannot be opened, and an open node keeps its device.
    let node = node().map_err(|error| match error {
        error if error == ENXIO => OpenError::NoDax,
        error => OpenError::Other(error),
    })?;
    // SAFETY: An open file has an inode.
    let inode = unsafe { (*node.as_ptr().cast::<bindings::file>()).f_inode };
    // SAFETY: The open file keeps the inode.
    if unsafe { (*inode).i_rdev } != number {
        return Err(OpenError::NoDax);
    }
    // SAFETY: The inode is that of an open character device of the DAX bus, whose parent is a
    // device.
    let device = unsafe { bindings::cdev_parent(inode) };
    // The device is locked while its driver waits for users of an earlier mount's pages.
    if registry::find_by(|lease| lease.is_on_fsdev(device)).is_some() {
        return Err(OpenError::Busy);
    }
    lease.set_fsdev(device);
    // SAFETY: The device is one of the DAX bus, and the open file keeps it.
    unsafe { fsdev::watch(device) }?;
    // SAFETY: The open file keeps the device with that number.
    let found = NonNull::new(unsafe { bindings::dax_dev_get(number) }).ok_or(ENOMEM)?;
    lease.set_dax(found.as_ptr());
    let holder = Arc::as_ptr(lease).cast_mut().cast();
    // A second reference is got on success.
    // SAFETY: The device is valid. The lease lives until the holder is removed.
    let got = unsafe { bindings::fs_dax_get(found.as_ptr(), holder, &Device::HOLDER) };
    // SAFETY: This is the first of the two references.
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
    // INVARIANT: fs_dax_get() got a reference and set the holder.
    let device = Device {
        device: found,
        lease: lease.clone(),
        pages: None,
    };
    device.open(0, None, tenure)
}

/// The major number of DAX character devices; 0 until it is known.
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

/// Waits for callbacks of the DAX core when it is dropped.
pub(super) struct Callbacks;

impl Drop for Callbacks {
    fn drop(&mut self) {
        // No device has a holder of ours any more, but a callback may still run. Killing a device
        // waits for the callbacks of all devices.
        if let Err(error) = make_and_kill() {
            pr_err!("cannot wait for callbacks of DAX devices: {:?}\n", error);
        }
    }
}

/// Make a DAX device, kill it, and return the major number that it had.
fn make_and_kill() -> Result<u32> {
    // SAFETY: A device needs neither operations nor data.
    let device = from_err_ptr(unsafe { bindings::alloc_dax(ptr::null_mut(), ptr::null()) })?;
    // SAFETY: The device was made above.
    let inode = unsafe { bindings::dax_inode(device) };
    // SAFETY: The device keeps its inode, whose number does not change.
    let number = unsafe { (*inode).i_rdev };
    // SAFETY: The device was made above.
    unsafe { bindings::kill_dax(device) };
    // SAFETY: alloc_dax() returned this reference.
    unsafe { bindings::put_dax(device) };
    Ok(number >> bindings::MINORBITS)
}

/// Return the number of contiguous bytes at `range`. DAX devices have no function that returns
/// their size.
///
/// # Safety
///
/// The device must be valid.
unsafe fn linear_size(range: &DaxRange) -> u64 {
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

/// Return the region of `size` bytes at `range`.
///
/// # Errors
///
/// See [`OpenError`].
///
/// # Safety
///
/// The owner in the lease must keep the device, and the memory mapped.
pub(super) unsafe fn region(
    range: DaxRange,
    size: u64,
    shown: Shown,
    tenure: &Tenure,
) -> Result<Region, OpenError> {
    let window = Window {
        // SAFETY: The caller passes a valid device.
        base: unsafe { map(&range, size) }?,
        size,
        io: false,
    };
    // SAFETY: The caller guarantees that the owner keeps the device and the mapping.
    Ok(unsafe { Region::new(window, MapMethod::Dax(range), shown, tenure) })
}

/// Result of [`direct_access`].
#[derive(Clone, Copy)]
struct Found {
    /// Number of contiguous pages, at least 1.
    pages: u64,
    /// Kernel address of the first page.
    address: NonNull<u8>,
    /// Page frame of the first page.
    frame: usize,
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
unsafe fn direct_access(range: &DaxRange, page: u64, count: u64) -> Result<Found> {
    let first = range.offset >> bindings::PAGE_SHIFT;
    let mut address = ptr::null_mut();
    let mut frame = 0;
    // SAFETY: This is paired with dax_read_unlock() below.
    let lock = unsafe { bindings::dax_read_lock() };
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
    // SAFETY: This is paired with dax_read_lock() above.
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

/// Return the address of the first of `size` bytes, which must be contiguous.
///
/// # Safety
///
/// The device must be valid.
unsafe fn map(range: &DaxRange, size: u64) -> Result<NonNull<u8>, OpenError> {
    let pages = size >> bindings::PAGE_SHIFT;
    let mut base: Option<NonNull<u8>> = None;
    let mut page = 0;
    while page < pages {
        let at = page << bindings::PAGE_SHIFT;
        // SAFETY: The caller passes a valid device.
        match (unsafe { direct_access(range, page, pages - page) }, base) {
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
            // A failed page is mapped like the others, but reads of it fail.
            (Err(error), Some(_)) if error == Error::from(Errno::HwPoison) => page += 1,
            (Err(error), _) => return Err(OpenError::Refused(at, error)),
        }
    }
    base.ok_or(OpenError::Empty)
}
