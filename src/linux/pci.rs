// SPDX-License-Identifier: GPL-2.0-only

//! The memory of PCI devices, and their removal (`include/linux/pci.h`).

use super::bus::{
    as_raw,
    Notifier, //
};
use crate::linux::prelude::*;
use kernel::device::Device;

/// Returns true if the `size` bytes at physical address `start` are in memory of a device that is
/// not being removed: a prefetchable region (reads have no side effects) of a kind of
/// device that has memory there.
pub(crate) fn is_memory(start: u64, size: u64) -> bool {
    // SAFETY: This compares the range with all devices, and holds a reference to each.
    unsafe { bindings::pci_range_is_memory(start, size) }
}

/// Returns true if `device` is a PCI device with the `size` bytes at physical address `start`.
pub(crate) fn has_range(device: &Device, start: u64, size: u64) -> bool {
    // SAFETY: The device is valid, and is compared only if it is a PCI device.
    unsafe { bindings::pci_device_has_range(as_raw(device), start, size) }
}

/// Calls `removing` before a PCI device is removed, under a lock of all PCI devices. The device
/// loses its resources when that returns. Returns `None` if the kernel knows no PCI devices.
pub(crate) fn watch_removals(removing: fn(&Device)) -> Result<Option<Notifier>> {
    // SAFETY: This returns an address.
    let bus = unsafe { bindings::pci_bus() };
    if bus.is_null() {
        return Ok(None);
    }
    // SAFETY: The bus is static, and its notifiers get devices.
    unsafe { Notifier::new(bus, bindings::BUS_NOTIFY_DEL_DEVICE, removing) }.map(Some)
}
