// SPDX-License-Identifier: GPL-2.0-only

//! Block devices that several mounts open, each for an image of its own.
//!
//! The block layer lets one holder claim a device any number of times. All these mounts have the
//! same holder, which is not a superblock. So it excludes others, which mount all of the device or
//! a partition of it, and is called when the device dies.

use super::registry;
use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{error::from_err_ptr, prelude::*};

/// The holder of all devices that are opened here. Only its address matters.
static HOLDER: u8 = 0;

static OPERATIONS: bindings::blk_holder_ops = bindings::blk_holder_ops {
    mark_dead: Some(mark_dead),
    ..pin_init::zeroed()
};

/// Revoke the leases of all mounts on a device that is dead.
///
/// # Safety
///
/// `bdev` must be valid, and `bd_holder_lock` held, which this releases.
unsafe extern "C" fn mark_dead(bdev: *mut bindings::block_device, _surprise: bool) {
    // SAFETY: The caller passes a valid device, whose number does not change.
    let number = unsafe { (*bdev).bd_dev };
    registry::for_each(|lease| {
        if lease.is_on_block(number) {
            lease.revoke();
        }
    });
    // SAFETY: The caller holds the mutex and expects it to be released.
    unsafe { bindings::bdev_holder_unlock(bdev) };
}

/// An open block device.
///
/// # Invariants
///
/// Owns the open file of a block device.
pub(super) struct BlockFile(NonNull<bindings::file>);

// SAFETY: Any thread may close a file.
unsafe impl Send for BlockFile {}
// SAFETY: No method changes the file.
unsafe impl Sync for BlockFile {}

impl BlockFile {
    /// Open the block device `number`, for one of the mounts that use parts of it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else has claimed it, `ENXIO` if there is none, `EPERM`, `ENOMEM`.
    pub(super) fn claim(number: bindings::dev_t) -> Result<Self> {
        let holder = (&raw const HOLDER).cast_mut().cast();
        let mode = bindings::BLK_OPEN_READ;
        // Nobody is kept from writing: images are added while others are mounted.
        // SAFETY: The holder and its operations are static.
        let file = unsafe { bindings::bdev_file_open_by_dev(number, mode, holder, &OPERATIONS) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(ENXIO)?;
        // INVARIANT: bdev_file_open_by_dev() returned an open file.
        Ok(BlockFile(file))
    }

    /// Return the device, which is open as long as this.
    pub(super) fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariant the file is open.
        unsafe { bindings::file_bdev(self.0.as_ptr()) }
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the file.
        unsafe { bindings::bdev_fput(self.0.as_ptr()) };
    }
}

/// A reference to the DAX device of a block device, without a claim.
///
/// # Invariants
///
/// Owns the reference.
pub(super) struct BdevDax(NonNull<bindings::dax_device>);

// SAFETY: Any thread may put a reference to a DAX device.
unsafe impl Send for BdevDax {}
// SAFETY: A DAX device may be used by several threads at the same time.
unsafe impl Sync for BdevDax {}

impl BdevDax {
    /// Get the DAX device of `bdev`, and the offset at which the block device starts there. Return
    /// `None` if it has none.
    ///
    /// # Safety
    ///
    /// `bdev` must be open.
    pub(super) unsafe fn get(bdev: *mut bindings::block_device) -> Option<(Self, u64)> {
        let (mut start, holder) = (0, ptr::null_mut());
        // SAFETY: The caller passes an open block device.
        let found = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut start, holder, ptr::null()) };
        // INVARIANT: fs_dax_get_by_bdev() returned a reference.
        NonNull::new(found).map(|found| (BdevDax(found), start))
    }

    /// Return the DAX device, which lives as long as this.
    pub(super) fn as_raw(&self) -> NonNull<bindings::dax_device> {
        self.0
    }
}

impl Drop for BdevDax {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::put_dax(self.0.as_ptr()) };
    }
}
