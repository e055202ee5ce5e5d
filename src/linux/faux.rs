// SPDX-License-Identifier: GPL-2.0-only

//! Faux devices: devices without hardware.
//!
//! The interface of `kernel::faux` differs between 7.2 and 7.3, so this uses the C functions.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, prelude::*};

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
        let name = name.as_char_ptr();
        // SAFETY: The name is a NUL-terminated string, which the function copies.
        let made = from_err_ptr(unsafe { bindings::faux_device_for_dma(name) })?;
        // INVARIANT: The device was registered above.
        Ok(FauxDevice(NonNull::new(made).ok_or(ENODEV)?))
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
