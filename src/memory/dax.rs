// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: persistent memory, virtio-pmem, CXL memory.
//!
//! The driver of the device owns the memory. It notifies us, as holder of the device, before the
//! memory goes away and when some of it fails. A reference to the page map keeps the driver from
//! removing the struct pages before their last user is gone.

use super::claim::Part;
use super::{fsdev, registry, Region, Tenure};
use crate::linux::block::{BlockDevice, OpenBlockDevice};
use crate::linux::bus::DeviceId;
use crate::linux::dax::{Device, DeviceMemory, Held, Node};
use crate::linux::fs::{refusal, Refusal};
use crate::linux::Errno;
use core::ops::Range;
use kernel::{
    fs::File,
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// Revoke the leases of all mounts on the block device `number`, which is dead.
fn revoke(number: u32) {
    registry::revoke(|uses| uses.block == Some(number));
}

/// Open the region of `range` of a device, `bdev`'s if that is given, until `keep` is dropped.
fn open<K: Send + Sync + 'static>(
    device: &ARef<Device>,
    range: Range<u64>,
    bdev: Option<&BlockDevice>,
    keep: K,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    let mut memory = DeviceMemory::new(device.clone(), range.clone(), keep);
    // This keeps the device alive, and so its driver.
    let alive = tenure.lease().memory.delay()?;
    let mapped = match range.is_empty() {
        true => Err(refusal!(EINVAL, "device is empty")),
        false => memory.map(bdev),
    };
    drop(alive);
    // The lease owns the device from now on, also after a failure.
    tenure.lease().open(KBox::new(memory, GFP_KERNEL)?)?;
    mapped?;
    Ok(Region::of_owner(tenure)?)
}

/// Return why a mount of a character device without DAX is refused.
fn no_fsdev() -> Refusal {
    refusal!(Errno::NotSupported, "no DAX device in fsdev mode")
        .remedy("bind it to the driver fsdev_dax (daxctl list shows its mode)")
}

/// Return the `part` of a device of `size` bytes, or all of it.
fn within(part: Option<Range<u64>>, size: u64) -> Result<Range<u64>, Refusal> {
    let part = part.unwrap_or(0..size);
    match part.end <= size {
        true => Ok(part),
        false => Err(refusal!(
            EINVAL,
            "the part ends after the device, which has {size:#x} bytes"
        )),
    }
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
    refusal!(EBUSY, "another mount has {what}, or {in_use}").remedy("unmount it")
}

/// Open the region of `part`, in bytes, of the block device `number`. Other mounts may use other
/// parts at the same time.
pub(crate) fn open_block_part(
    number: u32,
    part: Range<u64>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    /// Its address is the holder of all devices.
    static DIED: fn(u32) = revoke;
    tenure.lease().uses.lock().block = Some(number);
    let opened = OpenBlockDevice::open(number, &DIED);
    let opened = Arc::new(opened.map_err(|error| unclaimed(error, true))?, GFP_KERNEL)?;
    open_block(&opened, Some(part), opened.clone(), tenure)
}

/// Open the region of `part` of the open block device `bdev`, or of all of it. The lease keeps
/// `keep`.
pub(crate) fn open_block<K: Send + Sync + 'static>(
    bdev: &BlockDevice,
    part: Option<Range<u64>>,
    keep: K,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    let (device, start) = Device::of_block(bdev).ok_or_else(|| {
        refusal!(Errno::NotSupported, "device does not support DAX")
            .remedy("persistent memory must be in fsdax mode")
    })?;
    let is_part = part.is_some();
    let part = within(part, bdev.size())?;
    let range = start + part.start..start + part.end;
    let hold = |token| Held::of_block(bdev, token);
    let claim = Part::get(&device, None, range.clone(), Some(tenure.lease()), hold)
        .map_err(|error| unclaimed(error, is_part))?;
    open(&device, range, Some(bdev), (claim, keep), tenure)
}

/// A DAX character device that is open, whose holder is a claim.
pub(crate) struct CharDevice {
    /// A part without bytes.
    claim: Part,
    _node: Node,
}

impl CharDevice {
    /// Open the DAX character device `number`, whose device node `node` opens, and become its
    /// holder. This may wait for the users of pages, so no lock may be held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if there is none, or it has lost its driver; `EBUSY` if it has another holder,
    /// or is about to lose its driver while other mounts use it; the error of `node`, `ENOMEM`.
    pub(crate) fn open(
        number: u32,
        node: impl FnOnce() -> Result<ARef<File>>,
    ) -> Result<Self, Refusal> {
        if !Node::is_number(number)? {
            return Err(no_fsdev());
        }
        // For the number of a device that does not exist the DAX core would make an object without
        // a device. A node with such a number cannot be opened, and an open node keeps its device.
        let node = node().map_err(|error| match error {
            error if error == ENXIO => no_fsdev(),
            error => error.into(),
        })?;
        let node = Node::new(node, number)?.ok_or_else(no_fsdev)?;
        fsdev::watch(&node)?;
        let fsdev = Some(DeviceId::of(node.bus_device()));
        let claim = Part::get(node.device(), fsdev, 0..0, None, |token| {
            Held::of_node(&node, token)
        });
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
pub(crate) fn open_char(
    found: &CharDevice,
    part: Option<Range<u64>>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    let device = found.claim.device();
    let is_part = part.is_some();
    let range = within(part, device.linear_size())?;
    let claim = found.claim.join(range.clone(), tenure.lease());
    let claim = claim.map_err(|error| unclaimed(error, is_part))?;
    open(device, range, None, claim, tenure)
}
