// SPDX-License-Identifier: GPL-2.0-only

//! Removal of DAX character devices in fsdev mode.
//!
//! Their driver announces a removal as all DAX devices do. After that it splits compound pages,
//! also those that processes use. Waiting for the users inside the announcement would block the
//! removal of all other DAX devices. So wait earlier: the driver core calls a notifier of the bus
//! before it unbinds the driver, under a lock of this device only.
//!
//! Follows `drivers/base/dd.c` and `drivers/dax/fsdev.c`.

use super::lease::Uses;
use super::{
    hold,
    registry, //
};
use crate::linux::bus::{
    DeviceId,
    Notifier, //
};
use crate::linux::dax::Node;
use crate::linux::global_mutex;
use kernel::{
    device::Device,
    prelude::*, //
};

global_mutex! {
    // The notifier of the bus, once there was a device. Do not wait under it for an unbinding.
    static NOTIFIER: Option<Notifier> = None;
}

/// Registers the notifier with the bus of `node`, unless it is registered already.
pub(super) fn watch(node: &Node) -> Result {
    let mut notifier = NOTIFIER.lock();
    if notifier.is_none() {
        *notifier = Some(node.watch_bus(unbinding)?);
    }
    Ok(())
}

/// Unregisters the notifier.
pub(super) fn unwatch() {
    let notifier = NOTIFIER.lock().take();
    drop(notifier);
}

/// Waits for the users of a device's pages before the device is unbound from its driver.
fn unbinding(device: &Device) {
    let device = DeviceId::of(device);
    // A mount that has joined before has a lease now.
    hold::close(device);
    let is_on_it = |uses: &Uses| uses.fsdev == Some(device);
    registry::revoke(is_on_it);
    // The device may be bound and mounted again while mounts of these leases exist.
    while let Some(lease) = registry::find_by(is_on_it) {
        lease.revoke();
        lease.drain();
        lease.uses.lock().fsdev = None;
    }
}
