// SPDX-License-Identifier: GPL-2.0-only

//! Watches buses (`include/linux/device/bus.h`).

use crate::linux::prelude::*;
use kernel::device::Device;

/// Identifies a device while it exists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceId(usize);

impl DeviceId {
    /// Returns what identifies `device`.
    pub(crate) fn of(device: &Device) -> Self {
        DeviceId(as_raw(device) as usize)
    }
}

/// Returns the C object, over which `Device` is transparent.
pub(super) fn as_raw(device: &Device) -> *mut bindings::device {
    ptr::from_ref(device).cast_mut().cast()
}

/// A notifier block, with the function to call for one kind of event.
#[repr(C)]
struct Block {
    raw: Opaque<bindings::notifier_block>,
    event: usize,
    call: fn(&Device),
}

/// A notifier of a bus. Dropping it unregisters the notifier, and waits for calls.
///
/// # Invariants
///
/// The block is registered with the bus, which stays registered.
pub(crate) struct Notifier(KBox<Block>, NonNull<bindings::bus_type>);

// SAFETY: A notifier may be unregistered by any thread.
unsafe impl Send for Notifier {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Notifier {}

impl Notifier {
    /// Calls `call` for each `event` of `bus`.
    ///
    /// # Safety
    ///
    /// The bus must stay registered, and pass devices to its notifiers.
    pub(super) unsafe fn new(
        bus: *const bindings::bus_type,
        event: usize,
        call: fn(&Device),
    ) -> Result<Self> {
        let raw = bindings::notifier_block {
            notifier_call: Some(Self::notify),
            ..pin_init::zeroed()
        };
        let raw = Opaque::new(raw);
        let block = KBox::new(Block { raw, event, call }, GFP_KERNEL)?;
        let bus = NonNull::new(bus.cast_mut()).ok_or(ENODEV)?;
        // SAFETY: The bus is registered. The box lives until `drop` unregisters the block.
        to_result(unsafe { bindings::bus_register_notifier(bus.as_ptr(), block.raw.get()) })?;
        // INVARIANT: The block was registered above.
        Ok(Notifier(block, bus))
    }

    /// # Safety
    ///
    /// `block` must be the field of a [`Block`], and `device` a device to which the caller has a
    /// reference.
    unsafe extern "C" fn notify(
        block: *mut bindings::notifier_block,
        event: ffi::c_ulong,
        device: *mut ffi::c_void,
    ) -> ffi::c_int {
        // SAFETY: The field is the first one. The drop waits for this call.
        let block = unsafe { &*block.cast::<Block>() };
        if event == block.event {
            // SAFETY: The caller keeps its reference to the device during the call.
            (block.call)(unsafe { Device::from_raw(device.cast()) });
        }
        // NOTIFY_DONE
        0
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the block is registered. This waits for its callback.
        unsafe { bindings::bus_unregister_notifier(self.1.as_ptr(), self.0.raw.get()) };
    }
}
