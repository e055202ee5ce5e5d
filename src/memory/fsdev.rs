// SPDX-License-Identifier: GPL-2.0-only

//! Removal of DAX character devices in fsdev mode.
//!
//! Their driver announces a removal as all DAX devices do. After that it splits compound pages,
//! also those that processes use. Waiting for the users inside the announcement would block the
//! removal of all other DAX devices. So wait earlier: the driver core calls a notifier of the bus
//! before it unbinds the driver, under a lock of this device only.
//!
//! Follows `drivers/base/dd.c` and `drivers/dax/fsdev.c`.

use super::{claim, registry};
use crate::bindings;
use crate::linux::global_mutex;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{error::to_result, prelude::*, types::Opaque};

global_mutex! {
    // Serializes registrations. Nobody waits under it for an unbinding.
    static REGISTERING: () = ();
}

/// The bus that the notifier is registered with, or null.
static BUS: AtomicPtr<bindings::bus_type> = AtomicPtr::new(ptr::null_mut());

/// The notifier. The driver core owns it while it is registered.
struct Notifier(Opaque<bindings::notifier_block>);

// SAFETY: Only the driver core uses it, under its locks.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(Opaque::new(bindings::notifier_block {
    notifier_call: Some(unbinding),
    ..pin_init::zeroed()
}));

/// The registration of the notifier, once there is one. Dropping it unregisters the notifier.
pub(super) struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        let bus = BUS.swap(ptr::null_mut(), Ordering::AcqRel);
        if !bus.is_null() {
            // SAFETY: `watch` registered it with this bus, which belongs to the DAX core. This
            // module uses functions of that, so it stays loaded.
            unsafe { bindings::bus_unregister_notifier(bus, NOTIFIER.0.get()) };
        }
    }
}

/// Register the notifier with the bus of `device`, unless it is registered already.
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
        // SAFETY: The caller passes a valid device, whose bus does not change.
        let bus = unsafe { (*device).bus };
        // SAFETY: The bus of a device is valid, and the notifier is static.
        to_result(unsafe { bindings::bus_register_notifier(bus, NOTIFIER.0.get()) })?;
        BUS.store(bus.cast_mut(), Ordering::Release);
    }
    Ok(())
}

/// Before a device is unbound from its driver, wait for the users of its pages.
///
/// # Safety
///
/// `device` must be valid.
unsafe extern "C" fn unbinding(
    _notifier: *mut bindings::notifier_block,
    action: kernel::ffi::c_ulong,
    device: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    if action == bindings::BUS_NOTIFY_UNBIND_DRIVER {
        let device = device.cast();
        // A mount that has joined before has a lease now.
        claim::close(device);
        registry::for_each(|lease| {
            if lease.is_on_fsdev(device) {
                lease.revoke();
            }
        });
        // The device may be bound and mounted again while mounts of these leases exist.
        while let Some(lease) = registry::find_by(|lease| lease.is_on_fsdev(device)) {
            lease.revoke();
            lease.drain();
            lease.set_fsdev(ptr::null_mut());
        }
    }
    // NOTIFY_DONE
    0
}
