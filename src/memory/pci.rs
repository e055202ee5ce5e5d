// SPDX-License-Identifier: GPL-2.0-only

//! Removal of PCI devices whose memory is mounted by `phys=`.
//!
//! The memory of a PCI device goes away with the device, and no reference to it keeps the device.
//! The driver core calls a notifier of the bus before it removes the device, and the PCI core frees
//! its resources after that. Both happen under a lock of all PCI devices, so do not wait without
//! bound: such memory is mapped without struct pages, so that it cannot be pinned.
//!
//! Follows `drivers/pci/remove.c`.

use super::range::Turn;
use super::registry;
use crate::linux::pci::{Device, Removal};

/// Releases the memory of devices that are removed.
pub(super) struct Release;

impl Removal for Release {
    fn removing(device: &Device) {
        // Wait for requests in progress. Later ones find that the device is being removed.
        drop(Turn::wait());
        let is_there = |(start, size)| device.has_range(start, size);
        while let Some(lease) = registry::find_by(|uses| uses.pci.is_some_and(is_there)) {
            lease.revoke();
            lease.drain();
            // Without struct pages, no page is in use now, so this releases the memory.
            lease.proceed();
            lease.uses.lock().pci = None;
        }
    }
}
