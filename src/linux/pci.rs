// SPDX-License-Identifier: GPL-2.0-only

//! The memory of PCI devices, and their removal.
//!
//! C headers: `include/linux/pci.h`, `include/linux/device/bus.h`.

use crate::bindings;
use core::marker::PhantomData;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// Return true if the `size` bytes at physical address `start` are in memory of a device that is
/// not being removed: a prefetchable region, reads of which have no side effects, of a kind of
/// device that has memory there.
pub(crate) fn is_memory(start: u64, size: u64) -> bool {
    // SAFETY: This compares the range with all devices, and holds a reference to each.
    unsafe { bindings::pci_range_is_memory(start, size) }
}

/// A PCI device.
#[repr(transparent)]
pub(crate) struct Device(Opaque<bindings::device>);

impl Device {
    /// Return true if the `size` bytes at physical address `start` are in a region of the device.
    pub(crate) fn has_range(&self, start: u64, size: u64) -> bool {
        // SAFETY: A reference to this type is one to a PCI device.
        unsafe { bindings::pci_device_has_range(self.0.get(), start, size) }
    }
}

/// Says what happens before a PCI device is removed.
pub(crate) trait Removal: 'static {
    /// Stop all use of the device, which loses its resources when this returns. Called under a lock
    /// of all PCI devices.
    fn removing(device: &Device);
}

/// A notifier of the removal of PCI devices. Dropping it unregisters the notifier.
///
/// # Invariants
///
/// The block is registered with the bus, and calls [`Self::notify`].
pub(crate) struct Notifier<T>(KBox<Opaque<bindings::notifier_block>>, PhantomData<T>);

// SAFETY: A notifier may be unregistered by any thread.
unsafe impl<T> Send for Notifier<T> {}
// SAFETY: No method takes a shared reference.
unsafe impl<T> Sync for Notifier<T> {}

impl<T: Removal> Notifier<T> {
    /// Register the notifier.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let block = bindings::notifier_block {
            notifier_call: Some(Self::notify),
            ..pin_init::zeroed()
        };
        let block = KBox::new(Opaque::new(block), GFP_KERNEL)?;
        let bus = &raw const bindings::pci_bus_type;
        // SAFETY: The bus is static. The box lives until `drop` unregisters the block.
        to_result(unsafe { bindings::bus_register_notifier(bus, block.get()) })?;
        // INVARIANT: The block was registered above.
        Ok(Notifier(block, PhantomData))
    }

    /// # Safety
    ///
    /// `device` must be a valid PCI device.
    unsafe extern "C" fn notify(
        _block: *mut bindings::notifier_block,
        action: kernel::ffi::c_ulong,
        device: *mut kernel::ffi::c_void,
    ) -> kernel::ffi::c_int {
        if action == bindings::BUS_NOTIFY_DEL_DEVICE {
            // SAFETY: The type is transparent over the C struct, and the caller passes a PCI
            // device.
            T::removing(unsafe { &*device.cast::<Device>() });
        }
        // NOTIFY_DONE
        0
    }
}

impl<T> Drop for Notifier<T> {
    fn drop(&mut self) {
        let bus = &raw const bindings::pci_bus_type;
        // SAFETY: By the type invariant the block is registered. This waits for its callback.
        unsafe { bindings::bus_unregister_notifier(bus, self.0.get()) };
    }
}
