// SPDX-License-Identifier: GPL-2.0-only

//! Removal of PCI devices whose memory is mounted by `phys=`.
//!
//! The memory of a PCI device goes away with the device, and no reference to it keeps the device.
//! The driver core calls a notifier of the bus before it removes the device, and the PCI core frees
//! its resources after that. Both happen under a lock of all PCI devices, so nothing unbounded may
//! be waited for: such memory is mapped without struct pages, so that nobody can pin it.
//!
//! Follows `drivers/pci/remove.c`.

use super::range::Turn;
use super::registry;
use crate::bindings;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// The notifier. The driver core owns it while it is registered.
struct Notifier(Opaque<bindings::notifier_block>);

// SAFETY: Only the driver core uses it, under its locks.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(Opaque::new(bindings::notifier_block {
    notifier_call: Some(removing),
    ..pin_init::zeroed()
}));

/// The registration of the notifier. Dropping it unregisters the notifier.
pub(super) struct Watch(());

impl Watch {
    /// Register the notifier with the bus.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn start() -> Result<Self> {
        // SAFETY: The bus is static, and so is the notifier, which `drop` unregisters.
        to_result(unsafe {
            bindings::bus_register_notifier(&raw const bindings::pci_bus_type, NOTIFIER.0.get())
        })?;
        Ok(Watch(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: `start` registered the notifier with this bus.
        unsafe {
            bindings::bus_unregister_notifier(&raw const bindings::pci_bus_type, NOTIFIER.0.get())
        };
    }
}

/// Before a device is removed, stop all use of its memory, and release it.
///
/// # Safety
///
/// `device` must be a valid PCI device.
unsafe extern "C" fn removing(
    _notifier: *mut bindings::notifier_block,
    action: kernel::ffi::c_ulong,
    device: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    if action == bindings::BUS_NOTIFY_DEL_DEVICE {
        // Wait for requests in progress. Later ones find that the device is being removed.
        drop(Turn::wait());
        let is_there = |start, size| {
            // SAFETY: The caller passes a valid PCI device.
            unsafe { bindings::pci_device_has_range(device.cast(), start, size) }
        };
        while let Some(lease) = registry::find_by(|lease| lease.is_in_range(is_there)) {
            lease.revoke();
            lease.drain();
            // Without struct pages, no page is in use now, so this releases the memory.
            lease.proceed();
            lease.set_range(0, 0);
        }
    }
    // NOTIFY_DONE
    0
}
