// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices (`struct dax_device`).

use crate::linux::block::BlockDevice;
use crate::linux::mm::poison::Frame;
use crate::linux::prelude::*;

/// A DAX device, present or removed.
#[repr(transparent)]
pub(crate) struct Device(Opaque<bindings::dax_device>);

// SAFETY: Any thread may put a reference to a DAX device.
unsafe impl Send for Device {}
// SAFETY: A DAX device may be used by several threads at the same time.
unsafe impl Sync for Device {}

// SAFETY: The count is in the device's inode.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: There is a reference to the device, and so to its inode.
        unsafe { bindings::ihold(self.inode()) };
    }

    unsafe fn dec_ref(device: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::put_dax(device.cast().as_ptr()) };
    }
}

/// Calls `inside` under the read lock of the DAX core, which delays the removal of all devices.
fn locked<R>(inside: impl FnOnce() -> R) -> R {
    // SAFETY: Any context may take the lock, even while holding it. It is released below.
    let lock = unsafe { bindings::dax_read_lock() };
    let result = inside();
    // SAFETY: The lock was taken above.
    unsafe { bindings::dax_read_unlock(lock) };
    result
}

/// Which memory [`Device::direct_access`] may return.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// No page that is known to have failed.
    Good = bindings::DAX_ACCESS as isize,
    Any = bindings::DAX_RECOVERY_WRITE as isize,
}

/// The location of a device's memory.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Number of contiguous pages, at least 1.
    pub(super) pages: u64,
    /// Kernel address of the first page.
    pub(super) address: NonNull<u8>,
    /// Page frame of the first page.
    pub(super) frame: usize,
}

impl Device {
    /// # Safety
    ///
    /// `device` must be valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(device: *mut bindings::dax_device) -> &'a Self {
        // SAFETY: The type is transparent over the C struct.
        unsafe { &*device.cast() }
    }

    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// `device` must be null, or come with a reference that the caller gives up.
    pub(super) unsafe fn take(device: *mut bindings::dax_device) -> Option<ARef<Self>> {
        let device = NonNull::new(device.cast())?;
        // SAFETY: The caller gives up a reference.
        Some(unsafe { ARef::from_raw(device) })
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dax_device {
        self.0.get()
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: The device is valid.
        unsafe { bindings::dax_inode(self.as_raw()) }
    }

    /// Looks up the DAX device of `bdev`, and the offset at which the block device starts there.
    /// Returns `None` if it has none.
    pub(crate) fn of_block(bdev: &BlockDevice) -> Option<(ARef<Self>, u64)> {
        let (mut start, holder) = (0, ptr::null_mut());
        let bdev = bdev.as_raw();
        // SAFETY: The block device is open.
        let found = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut start, holder, ptr::null()) };
        // SAFETY: The function returns a reference, or null.
        Some((unsafe { Self::take(found) }?, start))
    }

    /// Returns how many bytes are contiguous, starting with the first; 0 if the device is gone. No
    /// function returns the size of a DAX device.
    pub(crate) fn linear_size(&self) -> u64 {
        let (mut low, mut high) = (0, 1 << (u64::BITS - 1 - bindings::PAGE_SHIFT));
        // `low` pages are contiguous, `high` pages are not.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.direct_access(0, middle, Mode::Good) {
                Ok(found) if found.pages >= middle => low = middle,
                _ => high = middle,
            }
        }
        low << bindings::PAGE_SHIFT
    }

    /// Calls `visit` with the offset and the page frame of each page of `range`, in bytes. Stop
    /// where the device has no memory.
    pub(crate) fn each_frame(&self, range: core::ops::Range<u64>, visit: impl Fn(u64, Frame<'_>)) {
        let pages = range.start >> bindings::PAGE_SHIFT..range.end.div_ceil(bindings::PAGE_SIZE);
        locked(|| {
            for page in pages {
                let Ok(found) = self.direct_access(page, 1, Mode::Any) else {
                    return;
                };
                // SAFETY: The driver keeps the struct pages while the lock is held.
                let frame = unsafe { Frame::new(found.frame) };
                visit(page << bindings::PAGE_SHIFT, frame);
            }
        });
    }

    /// Asks for `count` pages, starting with page `first`. The memory may go away after this.
    ///
    /// Errors: `ENXIO` if the device is gone, `EHWPOISON` if one of the pages is known to have
    /// failed, `ERANGE` if the first one is after the end of the device.
    pub(super) fn direct_access(&self, first: u64, count: u64, mode: Mode) -> Result<Found> {
        let (mut address, mut frame) = (ptr::null_mut(), 0);
        let (first, count) = (first as usize, count as isize);
        let (device, mode) = (self.as_raw(), mode as bindings::dax_access_mode);
        // SAFETY: The device is valid, and the lock keeps its driver.
        let found = locked(|| unsafe {
            bindings::dax_direct_access(device, first, count, mode, &mut address, &mut frame)
        });
        if found < 0 {
            return Err(Error::from_errno(found as ffi::c_int));
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
}

/// Creates a DAX device, kills it, and returns its major number. Killing a device waits for the
/// callbacks of all devices.
pub(crate) fn make_and_kill() -> Result<u32> {
    // SAFETY: A device needs neither operations nor data.
    let device = from_err_ptr(unsafe { bindings::alloc_dax(ptr::null_mut(), ptr::null()) })?;
    // SAFETY: alloc_dax() returns a reference.
    let device = unsafe { Device::take(device) }.ok_or(ENOMEM)?;
    // SAFETY: The device was made above, and nothing else kills it.
    unsafe { bindings::kill_dax(device.as_raw()) };
    // SAFETY: The device keeps its inode. Its number does not change.
    Ok(unsafe { (*device.inode()).i_rdev } >> bindings::MINORBITS)
}
