// SPDX-License-Identifier: GPL-2.0-only

//! Block devices (`include/linux/blkdev.h`).

use crate::linux::prelude::*;
use kernel::block::SECTOR_SHIFT;

/// Returns the number of the block device that `file` is, open for reading.
pub(crate) fn number_of(file: &File) -> Option<bindings::dev_t> {
    let file = file.as_ptr().cast::<bindings::file>();
    // SAFETY: The file is open. Its mode changes in bits that this does not look at, and an inode
    // keeps its type and number.
    unsafe {
        let is_open = (&raw const (*file).f_mode).read_volatile() & bindings::FMODE_READ != 0;
        let inode = (*file).f_inode;
        let is_block = (*inode).i_mode & bindings::S_IFMT == bindings::S_IFBLK;
        (is_open && is_block).then(|| (*inode).i_rdev)
    }
}

owned! {
    /// A block device that this module has opened.
    ///
    /// The block layer lets one holder claim a device repeatedly, so all our claims use the same.
    /// It cannot be a superblock: none exists yet, and several images on a device share it. It
    /// excludes other filesystems, and is notified when the device dies.
    pub(crate) struct BlockDevice(file, bdev_fput);
}

/// The block layer compares the address.
static OPERATIONS: bindings::blk_holder_ops = bindings::blk_holder_ops {
    mark_dead: Some(BlockDevice::mark_dead),
    ..pin_init::zeroed()
};

impl BlockDevice {
    /// Opens the block device `number` for reading. Unless it `is_shared` with writers, the kernel
    /// may be configured to exclude them. Calls `died` with its number when it dies. The address of
    /// `died` is the holder.
    ///
    /// Errors: `EBUSY` if another user has claimed it, `ENXIO` if it does not exist, `EPERM`,
    /// `ENOMEM`.
    pub(crate) fn open(
        number: bindings::dev_t,
        is_shared: bool,
        died: &'static fn(u32),
    ) -> Result<Self> {
        let holder = ptr::from_ref(died).cast_mut().cast();
        let table = &raw const OPERATIONS;
        let mode = if is_shared {
            bindings::BLK_OPEN_READ
        } else {
            bindings::BLK_OPEN_READ | bindings::BLK_OPEN_RESTRICT_WRITES
        };
        // SAFETY: The holder and its operations are static.
        let file = unsafe { bindings::bdev_file_open_by_dev(number, mode, holder, table) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(ENXIO)?;
        // INVARIANT: bdev_file_open_by_dev() returned an open file.
        Ok(BlockDevice(file))
    }

    pub(super) fn as_raw(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariant the file is open. It has the device as long.
        unsafe { bindings::file_bdev(self.0.as_ptr()) }
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: By the type invariant the device is open.
        unsafe { bindings::bdev_nr_bytes(self.as_raw()) as u64 }
    }

    /// Returns true if the driver offers DAX.
    pub(crate) fn has_dax(&self) -> bool {
        // SAFETY: By the type invariant the device is open.
        unsafe { bindings::bdev_has_dax(self.as_raw()) }
    }

    /// Returns true if the device starts and ends with whole pages of its disk.
    pub(crate) fn is_aligned(&self) -> bool {
        // SAFETY: By the type invariant the device is open.
        let start = unsafe { bindings::get_start_sect(self.as_raw()) } << SECTOR_SHIFT;
        (start | self.size()) % bindings::PAGE_SIZE == 0
    }

    /// Returns a number that changes when the driver lists bad blocks, if it has a list. The number
    /// lives as long as the driver's data.
    pub(super) fn bad_blocks(&self) -> Option<NonNull<Atomic<u32>>> {
        // SAFETY: By the type invariant the device is open, so it has a disk.
        NonNull::new(unsafe { bindings::disk_badblocks_sequence(self.as_raw()) }).map(NonNull::cast)
    }

    /// # Safety
    ///
    /// `bdev` must be valid and held by `open`, and `bd_holder_lock` be locked, which this unlocks.
    unsafe extern "C" fn mark_dead(bdev: *mut bindings::block_device, _surprise: bool) {
        // SAFETY: The caller passes a valid device. Its number does not change. The mutex keeps
        // the holder, the address that `open` has passed. The caller expects it to be released.
        unsafe {
            let died = *(*bdev).bd_holder.cast::<fn(u32)>();
            died((*bdev).bd_dev);
            bindings::mutex_unlock(&raw mut (*bdev).bd_holder_lock);
        }
    }
}
