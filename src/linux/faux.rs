// SPDX-License-Identifier: GPL-2.0-only

//! Faux devices: devices without hardware.
//!
//! The interface of `kernel::faux` differs between 7.2 and 7.3, so this uses the C functions.

use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{error::to_result, prelude::*};

/// A device that represents the CPU.
///
/// # Invariants
///
/// The device is registered, and only this object can unregister it.
pub(super) struct FauxDevice(NonNull<bindings::faux_device>);

// SAFETY: A device may be unregistered by any thread.
unsafe impl Send for FauxDevice {}
// SAFETY: A shared reference only gives access to the pointer.
unsafe impl Sync for FauxDevice {}

impl FauxDevice {
    /// Register a device that can access all memory. Names on a bus must be unique.
    ///
    /// # Errors
    ///
    /// `ENODEV`; `EIO` if the device cannot access all memory.
    pub(super) fn new(name: &CStr) -> Result<Self> {
        let (name, none) = (name.as_char_ptr().cast(), ptr::null_mut());
        // SAFETY: The function copies the name. The device needs no parent and no operations.
        let made = unsafe { bindings::faux_device_create(name, none, ptr::null()) };
        // INVARIANT: The device was registered above.
        let device = FauxDevice(NonNull::new(made).ok_or(ENODEV)?);
        // Exporters may use the mask to allocate memory that the device can access.
        // SAFETY: By the type invariant the device is valid. Nothing else uses it yet.
        to_result(unsafe { bindings::dma_coerce_mask_and_coherent(device.as_raw(), u64::MAX) })?;
        Ok(device)
    }

    /// Return the generic part of the C object.
    pub(super) fn as_raw(&self) -> *mut bindings::device {
        // SAFETY: By the type invariant the device is valid.
        unsafe { &raw mut (*self.0.as_ptr()).dev }
    }
}

impl Drop for FauxDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the device is registered.
        unsafe { bindings::faux_device_destroy(self.0.as_ptr()) };
    }
}
