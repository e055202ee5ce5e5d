// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! The device's driver owns the memory. Because we hold the device, the driver notifies us before
//! the memory goes away and when some of it fails. A reference to the page map keeps the driver
//! from removing the struct pages before their last user is gone.
//!
//! The driver of a character device in fsdev mode announces a removal as all DAX devices do. After
//! that it splits compound pages, also those that processes use. Waiting for the users inside the
//! announcement would block the removal of all other DAX devices. So wait earlier: the driver core
//! calls a notifier of the bus before it unbinds the driver, under a lock of this device only. This
//! follows `drivers/base/dd.c` and `drivers/dax/fsdev.c`.

use super::hold::{
    self,
    HeldPart, //
};
use super::lease::Uses;
use super::{
    registry,
    LeaseRef,
    Region, //
};
use crate::linux::block::BlockDevice;
use crate::linux::bus::{
    DeviceId,
    Notifier, //
};
use crate::linux::dax::{
    Device,
    DeviceMemory,
    Held,
    Node, //
};
use crate::linux::srcu;
use crate::prelude::*;
use kernel::device;

/// Revokes all leases on the block device `number`, which died.
fn revoke(number: u32) {
    registry::revoke(|uses| uses.block == Some(number));
}

/// Opens the region of the `hold`, the bytes of `range` of a device, `bdev`'s if that is given.
fn open(
    device: ARef<Device>,
    range: Range<u64>,
    bdev: Option<&BlockDevice>,
    hold: HeldPart,
    lease_ref: &LeaseRef,
) -> Result<Region, Refusal> {
    let is_empty = range.is_empty();
    let mut memory = DeviceMemory::new(device, range, hold);
    // This keeps the device alive, and so its driver.
    let alive = srcu::enter();
    if lease_ref.lease().memory.is_revoked() {
        return Err(not_held(EIO));
    }
    if is_empty {
        refuse!(EINVAL => "device is empty");
    }
    memory.map(bdev)?;
    drop(alive);
    lease_ref.lease().open(KBox::new(memory, GFP_KERNEL)?)?;
    Ok(Region::of_owner(lease_ref)?)
}

/// Refuses a character device without DAX.
fn no_fsdev() -> Refusal {
    refusal!(Errno::NotSupported => "no DAX device in fsdev mode";
        "bind it to the driver fsdev_dax (daxctl list shows its mode)")
}

/// Explains why `bdev` offers no DAX device.
fn no_dax(bdev: &BlockDevice) -> Refusal {
    if !bdev.has_dax() {
        return refusal!(Errno::NotSupported => "device does not support DAX";
            "persistent memory must be in fsdax mode");
    }
    if !bdev.is_aligned() {
        return refusal!(EINVAL => "the partition does not consist of whole pages";
            "let it start and end at multiples of 2 MiB");
    }
    not_held(ENODEV)
}

/// Refuses a `part` that does not end within a device of `size` bytes.
fn check_end(part: &Range<u64>, size: u64) -> Result<(), Refusal> {
    if part.end <= size {
        Ok(())
    } else {
        Err(refusal!(EINVAL => "the part ends after the device, which has {size:#x} bytes"))
    }
}

/// Explains why we cannot hold bytes of a device.
fn not_held(error: Error) -> Refusal {
    match error {
        EBUSY => {
            let in_use = "memory of the previous mount is still in use";
            refusal!(EBUSY => "another mount has some of these bytes, or {in_use}"; "unmount it")
        }
        EIO | ENODEV | ENXIO => {
            refusal!(error => "the device was removed"; "mount it when it is back")
        }
        error => error.into(),
    }
}

/// Opens the region of `part`, in bytes, of the block device `number`, or of all of it. Keeps the
/// device open until the superblock is gone: nothing else gets its number before.
pub(crate) fn open_block(
    number: u32,
    part: Option<Range<u64>>,
    lease_ref: &LeaseRef,
) -> Result<(Region, BlockDevice), Refusal> {
    /// Its address is the holder of all devices.
    static DIED: fn(u32) = revoke;
    lease_ref.lease().uses.lock().block = Some(number);
    let bdev = BlockDevice::open(number, part.is_some(), &DIED).map_err(|error| match error {
        EBUSY => refusal!(EBUSY => "another mount or program has claimed the device";
            "unmount it, or stop the program"),
        error => not_held(error),
    })?;
    let (device, start) = Device::of_block(&bdev).ok_or_else(|| no_dax(&bdev))?;
    let part = part.unwrap_or(0..bdev.size());
    check_end(&part, bdev.size())?;
    let range = start + part.start..start + part.end;
    let hold = |holder| Held::of_block(&bdev, holder);
    let held =
        HeldPart::get(&device, None, range.clone(), lease_ref.lease(), hold).map_err(not_held)?;
    let region = open(device, range, Some(&bdev), held, lease_ref)?;
    Ok((region, bdev))
}

/// Opens the region of `part`, in bytes, of the DAX character device `number`; its device node
/// `node` opens, or of all of it. This may wait for the users of pages.
///
/// Errors: `EOPNOTSUPP` if there is none, or it has lost its driver; `EBUSY` if it has another
/// holder, or is about to lose its driver while other mounts use it; the error of `node`, `ENOMEM`.
pub(crate) fn open_char(
    number: u32,
    node: impl FnOnce() -> Result<ARef<File>>,
    part: Option<Range<u64>>,
    lease_ref: &LeaseRef,
) -> Result<Region, Refusal> {
    if !Node::is_number(number)? {
        return Err(no_fsdev());
    }
    // For the number of a device that does not exist the DAX core would make an object without
    // a device. A node with such a number cannot be opened, and an open node keeps its device.
    let node = node().map_err(|error| match error {
        ENXIO => no_fsdev(),
        error => error.into(),
    })?;
    let node = Node::new(node, number)?.ok_or_else(no_fsdev)?;
    watch(&node)?;
    let fsdev = Some(DeviceId::of(node.bus_device()));
    let device = node.device();
    // Only a held device has the driver that knows its size.
    let bytes = part.clone().unwrap_or(0..u64::MAX);
    let held = HeldPart::get(device, fsdev, bytes, lease_ref.lease(), |holder| {
        Held::of_node(&node, holder)
    });
    let held = held.map_err(|error| match error {
        ENODEV => no_fsdev(),
        error if error == Errno::NotSupported.into() => no_fsdev(),
        error => not_held(error),
    })?;
    let size = device.linear_size();
    let part = part.unwrap_or(0..size);
    // Without a size the device has lost its driver.
    if size > 0 {
        check_end(&part, size)?;
    }
    open(device.clone(), part, None, held, lease_ref)
}

global_mutex! {
    // The notifier of the bus, once there was a device. Do not wait under it for an unbinding.
    static NOTIFIER: Option<Notifier> = None;
}

/// Registers the notifier with the bus of `node`, unless it is registered already.
fn watch(node: &Node) -> Result {
    let mut notifier = NOTIFIER.lock();
    if notifier.is_none() {
        *notifier = Some(node.watch_bus(unbinding)?);
    }
    Ok(())
}

/// Unregisters the notifier.
pub(super) fn unwatch() {
    let notifier = NOTIFIER.lock().take();
    drop(notifier);
}

/// Waits for the users of a device's pages before the device is unbound from its driver.
fn unbinding(device: &device::Device) {
    let device = DeviceId::of(device);
    // A mount that has joined before has a lease now.
    hold::close(device);
    let is_on_it = |uses: &Uses| uses.fsdev == Some(device);
    registry::revoke(is_on_it);
    // The device may be bound and mounted again while mounts of these leases exist.
    while let Some(lease) = registry::find_by(is_on_it) {
        lease.revoke();
        lease.drain();
        lease.uses.lock().fsdev = None;
    }
}
