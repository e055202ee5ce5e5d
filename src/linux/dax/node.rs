// SPDX-License-Identifier: GPL-2.0-only

//! DAX character devices, and their bus.

use super::device::{
    make_and_kill,
    Device, //
};
use crate::linux::bus;
use crate::linux::prelude::*;
use kernel::device;

/// An open DAX character device.
///
/// # Invariants
///
/// The file is open, and is such a device. Its inode has a character device, with a parent on the
/// DAX bus, and to which `device` belongs.
pub(crate) struct Node {
    file: ARef<File>,
    device: ARef<Device>,
}

impl Node {
    /// Returns true if `number` may belong to a DAX character device.
    pub(crate) fn is_number(number: bindings::dev_t) -> Result<bool> {
        /// The major number of DAX character devices; 0 until it is known.
        static MAJOR: Atomic<u32> = Atomic::new(0);
        if MAJOR.load(Relaxed) == 0 {
            MAJOR.store(make_and_kill()?, Relaxed);
        }
        Ok(number >> bindings::MINORBITS == MAJOR.load(Relaxed))
    }

    /// Returns `file` as a node if it is the DAX character device `number`, open for reading.
    pub(crate) fn new(file: ARef<File>, number: bindings::dev_t) -> Result<Option<Self>> {
        let raw = file.as_ptr().cast::<bindings::file>();
        // SAFETY: The mode of an open file does not change in the bit that matters. The file keeps
        // its inode. Its type and number do not change.
        let (f_mode, mode, found) = unsafe {
            let inode = (*raw).f_inode;
            ((*raw).f_mode, (*inode).i_mode, (*inode).i_rdev)
        };
        let opened = f_mode & bindings::FMODE_READ != 0;
        let is_char = mode & bindings::S_IFMT == bindings::S_IFCHR;
        if !opened || !is_char || found != number || !Self::is_number(number)? {
            return Ok(None);
        }
        // SAFETY: The function looks the number up, and returns a reference, or null.
        let device = unsafe { Device::take(bindings::dax_dev_get(number)) }.ok_or(ENOMEM)?;
        // INVARIANT: The DAX core has this major number, and opens only devices of its bus. The
        // open file keeps the device; otherwise dax_dev_get() would make an object for its number
        // without one.
        Ok(Some(Node { file, device }))
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: An open file has an inode, which does not change.
        unsafe { (*self.file.as_ptr().cast::<bindings::file>()).f_inode }
    }

    /// Returns the device of the DAX bus.
    pub(crate) fn bus_device(&self) -> &device::Device {
        // SAFETY: By the type invariant the inode has a character device with such a parent. The
        // open file keeps the backing file.
        unsafe { device::Device::from_raw(bindings::cdev_parent(self.inode()).cast()) }
    }

    /// Returns the DAX device.
    pub(crate) fn device(&self) -> &ARef<Device> {
        &self.device
    }

    /// Calls `unbinding` before a device of the DAX bus is unbound from its driver, under the lock
    /// of the device.
    pub(crate) fn watch_bus(&self, unbinding: fn(&device::Device)) -> Result<bus::Notifier> {
        // SAFETY: The node keeps the device. Its bus does not change and belongs to the DAX core.
        // This module uses functions of that, so it stays loaded.
        unsafe {
            let bus = (*bus::as_raw(self.bus_device())).bus;
            bus::Notifier::new(bus, bindings::BUS_NOTIFY_UNBIND_DRIVER, unbinding)
        }
    }
}
