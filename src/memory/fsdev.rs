// SPDX-License-Identifier: GPL-2.0

//! Removal of DAX character devices in fsdev mode.
//!
//! Their driver announces a removal as all DAX devices do, and as soon as that returns it takes compound pages apart,
//! also those that processes use. Waiting inside the announcement would keep every DAX device of the machine from being
//! removed. So wait earlier: the driver core announces an unbinding to a notifier of the bus before the driver learns of
//! it. The unbinding process holds the device's lock then, and nothing that another device needs.
//!
//! Follows `drivers/base/dd.c` and `drivers/dax/fsdev.c`.

use super::registry;
use crate::bindings;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{error::to_result, prelude::*, sync::global_lock, types::Opaque};

global_lock! {
    // SAFETY: Initialized in `Watch::new`, before the first mount.
    //
    // Serialises registrations; nobody waits under it for an unbinding.
    unsafe(uninit) static REGISTERING: Mutex<()> = ();
}

/// The bus that the notifier is registered with; null as long as it is not.
static BUS: AtomicPtr<bindings::bus_type> = AtomicPtr::new(ptr::null_mut());

/// The notifier, which belongs to the driver core while it is registered.
struct Notifier(Opaque<bindings::notifier_block>);

// SAFETY: Only the driver core uses it, under its locks.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(Opaque::new(bindings::notifier_block {
    notifier_call: Some(unbinding),
    ..pin_init::zeroed()
}));

/// The notifier's registration, if it comes to that. Dropping it ends it.
pub(super) struct Watch(());

impl Watch {
    /// To be called once.
    pub(super) fn new() -> Self {
        // SAFETY: Called once.
        unsafe { REGISTERING.init() };
        Watch(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let bus = BUS.swap(ptr::null_mut(), Ordering::AcqRel);
        if !bus.is_null() {
            // SAFETY: Registered with that bus in `watch`. The bus belongs to the DAX core, whose functions this module uses.
            unsafe { bindings::bus_unregister_notifier(bus, NOTIFIER.0.get()) };
        }
    }
}

/// Watch the bus of `device`, unless it is watched already.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// `device` must be valid, and a device of the DAX bus.
pub(super) unsafe fn watch(device: *mut bindings::device) -> Result {
    let _registering = REGISTERING.lock();
    if BUS.load(Ordering::Acquire).is_null() {
        // SAFETY: By the contract; a device does not change its bus.
        let bus = unsafe { (*device).bus };
        // SAFETY: The bus is valid, and the notifier static.
        to_result(unsafe { bindings::bus_register_notifier(bus, NOTIFIER.0.get()) })?;
        BUS.store(bus.cast_mut(), Ordering::Release);
    }
    Ok(())
}

/// Before a device is unbound from its driver, wait for the users of its pages.
///
/// # Safety
///
/// As for a notifier of a bus: `device` must be valid.
unsafe extern "C" fn unbinding(
    _notifier: *mut bindings::notifier_block,
    action: kernel::ffi::c_ulong,
    device: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    if action == bindings::DAXFS_BUS_NOTIFY_UNBIND_DRIVER {
        if let Some(lease) = registry::find_by(|lease| lease.is_on_fsdev(device.cast())) {
            lease.revoke();
            lease.wait_for_readers();
            lease.drain();
            // It may be bound and mounted again, also while the lease's mount is still there.
            lease.set_fsdev(ptr::null_mut());
        }
    }
    // NOTIFY_DONE
    0
}
