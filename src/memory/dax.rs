// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! The driver of the device owns the memory. It notifies us, as holder of the device, before the
//! memory goes away and when some of it fails. A reference to the page map keeps the driver from
//! removing the struct pages before their last user is gone.
//!
//! Follows `include/linux/dax.h` and `include/linux/memremap.h`.

use super::block::{BdevDax, BlockFile};
use super::claim::Part;
use super::direct::{direct_access, empty, linear_size, map, refused};
use super::{fsdev, DaxRange, MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::linux::fs::{BlockDevice, Refusal};
use crate::linux::Errno;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    error::{from_err_ptr, to_result},
    fs::File,
    prelude::*,
    sync::aref::ARef,
};

/// A reference to the page map of a driver, which keeps its struct pages.
///
/// # Invariants
///
/// Owns a reference.
struct PageMap(NonNull<bindings::dev_pagemap>);

// SAFETY: References to page maps may be put by any thread.
unsafe impl Send for PageMap {}
// SAFETY: Nothing that a shared reference gives access to changes.
unsafe impl Sync for PageMap {}

impl PageMap {
    /// Get the page map that contains page frame `frame`.
    fn of(frame: usize) -> Option<Self> {
        // SAFETY: This takes any number.
        let found = unsafe { bindings::get_dev_pagemap(frame) };
        // INVARIANT: get_dev_pagemap() returned a reference.
        NonNull::new(found).map(PageMap)
    }

    /// Return true if the driver of the part's device created it, rather than the driver of a
    /// device that it is stacked on.
    fn belongs_to(&self, part: &Part) -> bool {
        // SAFETY: By the type invariant the map is valid.
        let owner = unsafe { (*self.0.as_ptr()).owner };
        // SAFETY: The part keeps the device.
        let driver = unsafe { bindings::dax_get_private(part.device().as_ptr()) };
        !owner.is_null() && owner == driver
    }
}

impl Drop for PageMap {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::put_dev_pagemap(self.0.as_ptr()) };
    }
}

/// A part of a DAX device that a mount uses. Fields are dropped in this order.
struct Device {
    part: Part,
    pages: Option<PageMap>,
    /// The block device, unless the superblock has it.
    _block: Option<BlockFile>,
}

// SAFETY: `pages` keeps the struct pages and the driver's mapping of the memory.
unsafe impl Owner for Device {
    fn release(&mut self) {
        self.pages = None;
    }
}

impl Device {
    /// Open a region of `size` bytes at `offset` of the device, or of all contiguous bytes.
    fn open(mut self, offset: u64, size: Option<u64>, tenure: &Tenure) -> Result<Region, Refusal> {
        let range = DaxRange {
            device: self.part.device(),
            offset,
        };
        let lease = tenure.lease();
        // A reader keeps the device alive, and so its driver.
        let reader = lease.read()?;
        // SAFETY: The part keeps the device.
        let size = size.unwrap_or_else(|| unsafe { linear_size(&range) });
        // SAFETY: The part keeps the device.
        let first = unsafe { direct_access(&range, 0, 1) };
        let stacked = first.as_ref().is_ok_and(|found| {
            self.pages = PageMap::of(found.frame);
            let pages = self.pages.as_ref();
            !pages.is_some_and(|pages| pages.belongs_to(&self.part))
        });
        // The lease owns the device from now on.
        lease.open(KBox::new(self, GFP_KERNEL)?)?;
        if size == 0 {
            return Err(empty());
        }
        first.map_err(|error| refused(0, error))?;
        if stacked {
            return Err(Refusal::new(
                Errno::NotSupported,
                fmt!("stacked DAX devices are not supported"),
            )
            .remedy("mount the pmem device below it"));
        }
        // SAFETY: The owner in the lease is the device, which keeps the memory mapped.
        let region = unsafe { region(range, size, Shown::Nothing, tenure) };
        drop(reader);
        region
    }
}

/// Return why a mount of a character device without DAX is refused.
fn no_fsdev() -> Refusal {
    Refusal::new(Errno::NotSupported, fmt!("no DAX device in fsdev mode"))
        .remedy("bind it to the driver fsdev_dax (daxctl list shows its mode)")
}

/// Return why a part is refused that ends after the device, which has `size` bytes.
fn beyond(size: u64) -> Refusal {
    Refusal::new(
        EINVAL,
        fmt!("the part ends after the device, which has {size:#x} bytes"),
    )
}

/// Return why a device cannot be claimed, or if `is_part`, a part of it.
fn unclaimed(error: Error, is_part: bool) -> Refusal {
    if error != EBUSY {
        return error.into();
    }
    let what = match is_part {
        true => "some of these bytes",
        false => "the device",
    };
    let in_use = "memory of the previous mount is still in use";
    Refusal::new(EBUSY, fmt!("another mount has {what}, or {in_use}")).remedy("unmount it")
}

/// Open the region of block device `bdev`, which the superblock has opened.
///
/// # Errors
///
/// Any reason to refuse the mount.
pub(crate) fn open_block(bdev: &BlockDevice, tenure: &Tenure) -> Result<Region, Refusal> {
    // SAFETY: The block device is open.
    unsafe { open_bdev(bdev.as_raw(), None, None, tenure) }
}

/// Open the region of `part`, in bytes, of the block device `number`. Other mounts may use other
/// parts at the same time.
///
/// # Errors
///
/// Any reason to refuse the mount.
pub(crate) fn open_block_part(
    number: bindings::dev_t,
    part: Range<u64>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    tenure.lease().set_block(number);
    let file = BlockFile::claim(number).map_err(|error| unclaimed(error, true))?;
    let bdev = file.bdev();
    // SAFETY: The file is open, and the owner in the lease keeps it.
    unsafe { open_bdev(bdev, Some(file), Some(part), tenure) }
}

/// Open the region of `part` of a block device, or of all of it.
///
/// # Safety
///
/// `bdev` must be open, by `file` if there is one.
unsafe fn open_bdev(
    bdev: *mut bindings::block_device,
    file: Option<BlockFile>,
    part: Option<Range<u64>>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    // SAFETY: The caller passes an open block device.
    let (found, start) = unsafe { BdevDax::get(bdev) }.ok_or_else(|| {
        Refusal::new(Errno::NotSupported, fmt!("device does not support DAX"))
            .remedy("persistent memory must be in fsdax mode")
    })?;
    // SAFETY: The caller passes an open block device.
    let size = unsafe { bindings::bdev_nr_bytes(bdev) };
    let is_part = part.is_some();
    let part = part.unwrap_or(0..size);
    if part.end > size {
        return Err(beyond(size));
    }
    let range = start + part.start..start + part.end;
    let hold = |holder, operations: &'static _| {
        let mut start = 0;
        // SAFETY: The block device is open. The holder lives until the claim removes it.
        let held = unsafe { bindings::fs_dax_get_by_bdev(bdev, &mut start, holder, operations) };
        match held.is_null() {
            true => Err(EBUSY),
            false => Ok(()),
        }
    };
    // SAFETY: `found` keeps the device. fs_dax_get_by_bdev() gets a reference and sets the holder.
    let claimed = unsafe {
        Part::get(
            found.as_raw(),
            ptr::null_mut(),
            range.clone(),
            Some(tenure.lease()),
            hold,
        )
    }
    .map_err(|error| unclaimed(error, is_part))?;
    // The driver waits for readers before its list goes away.
    let reader = tenure.lease().read()?;
    // SAFETY: The block device is open, and has a disk.
    if let Some(number) = NonNull::new(unsafe { bindings::disk_badblocks_sequence(bdev) }) {
        // SAFETY: The driver of the device has the list, and stays until the lease is revoked and
        // has no readers.
        unsafe { tenure.lease().set_list(number) };
    }
    drop(reader);
    let device = Device {
        part: claimed,
        pages: None,
        _block: file,
    };
    device.open(range.start, Some(range.end - range.start), tenure)
}

/// A DAX character device that is open, whose holder is a claim.
pub(crate) struct CharDevice {
    /// A part without bytes.
    claim: Part,
    _node: ARef<File>,
}

impl CharDevice {
    /// Open the DAX character device `number`, whose device node `node` opens, and become its
    /// holder. This may wait for the users of pages, so no lock may be held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if there is none, `EBUSY` if it has another holder or is about to be removed,
    /// the error of `node`, `ENOMEM`.
    pub(crate) fn open(
        number: bindings::dev_t,
        node: impl FnOnce() -> Result<ARef<File>>,
    ) -> Result<Self, Refusal> {
        if number >> bindings::MINORBITS != major()? {
            return Err(no_fsdev());
        }
        // For the number of a device that does not exist the DAX core would make an object without
        // a device. A node with such a number cannot be opened, and an open node keeps its device.
        let node = node().map_err(|error| match error {
            error if error == ENXIO => no_fsdev(),
            error => error.into(),
        })?;
        // SAFETY: An open file has an inode.
        let inode = unsafe { (*node.as_ptr().cast::<bindings::file>()).f_inode };
        // SAFETY: The open file keeps the inode.
        if unsafe { (*inode).i_rdev } != number {
            return Err(no_fsdev());
        }
        // SAFETY: The inode belongs to an open character device of the DAX bus. The parent of such
        // a device is a `struct device`.
        let fsdev = unsafe { bindings::cdev_parent(inode) };
        // SAFETY: The device is one of the DAX bus, and the open file keeps it.
        unsafe { fsdev::watch(fsdev) }?;
        // SAFETY: The open file keeps the device with that number.
        let device = NonNull::new(unsafe { bindings::dax_dev_get(number) }).ok_or(ENOMEM)?;
        let hold = |holder, operations: &'static _| {
            // A second reference is got on success.
            // SAFETY: The device is valid. The holder lives until the claim removes it.
            to_result(unsafe { bindings::fs_dax_get(device.as_ptr(), holder, operations) })
        };
        // SAFETY: There is a reference to the device. fs_dax_get() gets another one and sets the
        // holder.
        let claim = unsafe { Part::get(device, fsdev, 0..0, None, hold) };
        // SAFETY: dax_dev_get() returned this reference.
        unsafe { bindings::put_dax(device.as_ptr()) };
        let claim = claim.map_err(|error| {
            if error == ENODEV || error == Errno::NotSupported.into() {
                return no_fsdev();
            }
            unclaimed(error, false)
        })?;
        Ok(CharDevice { claim, _node: node })
    }
}

/// Open the region of `part`, in bytes, of a DAX character device, or of all of it.
///
/// # Errors
///
/// Any reason to refuse the mount.
pub(crate) fn open_char(
    found: &CharDevice,
    part: Option<Range<u64>>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    if let Some(part) = &part {
        let all = DaxRange {
            device: found.claim.device(),
            offset: 0,
        };
        // SAFETY: `found` keeps the device.
        let size = unsafe { linear_size(&all) };
        if part.end > size {
            return Err(beyond(size));
        }
    }
    let range = part.clone().unwrap_or(0..u64::MAX);
    let claimed = found.claim.join(range, tenure.lease());
    let device = Device {
        part: claimed.map_err(|error| unclaimed(error, part.is_some()))?,
        pages: None,
        _block: None,
    };
    match part {
        Some(part) => device.open(part.start, Some(part.end - part.start), tenure),
        None => device.open(0, None, tenure),
    }
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

/// Return the region of `size` bytes at `range`.
///
/// # Errors
///
/// Any reason to refuse the mount.
///
/// # Safety
///
/// The owner in the lease must keep the device, and the memory mapped.
pub(super) unsafe fn region(
    range: DaxRange,
    size: u64,
    shown: Shown,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    let window = Window {
        // SAFETY: The caller passes a valid device.
        base: unsafe { map(&range, size) }?,
        size,
        io: false,
    };
    // SAFETY: The caller guarantees that the owner keeps the device and the mapping.
    Ok(unsafe { Region::new(window, MapMethod::Dax(range), shown, tenure) })
}
