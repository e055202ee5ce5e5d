// SPDX-License-Identifier: GPL-2.0-only

//! Holds on DAX devices, which the mounts of several images on one device share.
//!
//! The first mount that uses a part of a device gets a hold and becomes the device's holder, to
//! which it announces failures and its removal. Mounts of other parts join the hold, and the last
//! one gives it up. Parts do not overlap: two address spaces must not have the same pages.
//!
//! Becoming the holder of a DAX character device may take until nobody uses its pages. So do this
//! before the mount creates a superblock, and without any lock.

use super::lease::Lease;
use super::registry;
use crate::linux::bus::DeviceId;
use crate::linux::dax::{
    Device,
    Held,
    Holder,
    HolderId,
    Removed, //
};
use crate::linux::srcu;
use crate::prelude::*;

global_mutex! {
    // Protects the list. Do not wait under it for anything but memory. So do not become a holder
    // under it, which takes the lock of a device.
    static HOLDS: KVec<Hold> = KVec::new();
}

/// How long to wait for a pending hold.
const INTERVAL: Delta = Delta::from_millis(10);

/// How many times to wait before the mount fails.
const TRIES: u32 = 100;

/// Handles the announcements of devices.
pub(super) struct Announced;

/// A hold on a DAX device.
struct Hold {
    device: ARef<Device>,
    holder: HolderId,
    /// The device of the fsdev driver, if it is one.
    fsdev: Option<DeviceId>,
    /// The device with this holder; `None` while the hold is pending.
    held: Option<Held<Announced>>,
    /// Set before the device is removed, so that no mount joins the hold.
    closed: bool,
    /// The announcement of that, after which somebody else may become the holder.
    removed: Option<Removed>,
    /// Parts of the device that mounts use, in bytes.
    parts: KVec<Range<u64>>,
}

impl Hold {
    /// Uses the bytes of `range` for `lease`.
    ///
    /// Errors: `EIO` if the device is about to be removed; `EBUSY` if the hold is pending, or
    /// another mount uses some of the bytes; `ENOMEM`.
    fn join(&mut self, range: Range<u64>, lease: &Lease) -> Result<HeldPart> {
        let overlaps = |part: &Range<u64>| part.start < range.end && range.start < part.end;
        if self.closed {
            return Err(EIO);
        }
        if self.held.is_none() || self.parts.iter().any(overlaps) {
            return Err(EBUSY);
        }
        self.parts.push(range.clone(), GFP_KERNEL)?;
        // Under the mutex, so that a removal finds the lease, or has closed the hold.
        let mut uses = lease.uses.lock();
        uses.hold = Some(self.holder);
        uses.part = range.clone();
        uses.fsdev = self.fsdev;
        // INVARIANT: The range was added above.
        Ok(HeldPart {
            holder: self.holder,
            range,
        })
    }
}

/// A part of a DAX device that a mount uses.
///
/// # Invariants
///
/// `range` is one of the parts of the hold with this holder.
pub(super) struct HeldPart {
    holder: HolderId,
    range: Range<u64>,
}

impl HeldPart {
    /// Uses the bytes of `range` of `device` for `lease`. `fsdev` is the device of the fsdev
    /// driver, if it is one. `become_holder` makes what it is passed the holder of
    /// the device.
    ///
    /// Errors: `EBUSY` if the device is about to be removed while other mounts use it, or one of
    /// these uses some of the bytes; `EIO` if its removal has begun during the call; `ENOMEM`; the
    /// errors of `become_holder`.
    pub(super) fn get(
        device: &ARef<Device>,
        fsdev: Option<DeviceId>,
        range: Range<u64>,
        lease: &Lease,
        become_holder: impl FnOnce(HolderId) -> Result<Held<Announced>>,
    ) -> Result<Self> {
        let holder = HolderId::new();
        let mut tries = 0;
        let mut holds = loop {
            let mut holds = HOLDS.lock();
            let known = holds
                .iter_mut()
                .find(|hold| ptr::eq(&*hold.device, &**device) && hold.removed.is_none());
            match known {
                None => break holds,
                // Users of pages may delay the removal for as long as they like.
                Some(hold) if hold.closed => return Err(EBUSY),
                Some(hold) if hold.held.is_none() && tries < TRIES => {}
                Some(hold) => return hold.join(range, lease),
            }
            drop(holds);
            tries += 1;
            fsleep(INTERVAL);
        };
        let hold = Hold {
            device: device.clone(),
            holder,
            fsdev,
            held: None,
            closed: false,
            removed: None,
            parts: KVec::new(),
        };
        holds.push(hold, GFP_KERNEL)?;
        drop(holds);
        // fs_dax_get() takes the lock of the device. Its driver may hold it for as long as pages
        // have users. So this is without the mutex.
        let held = become_holder(holder);
        let mut holds = HOLDS.lock();
        let at = place_of(&holds, holder).ok_or(EIO)?;
        let joined = held.and_then(|held| {
            let hold = &mut holds[at];
            let held = hold.held.insert(held);
            if let Some(removed) = &hold.removed {
                held.forget_holder(removed);
            }
            hold.join(range, lease)
        });
        if joined.is_err() {
            give_up(&mut holds, at);
        }
        joined
    }
}

impl Drop for HeldPart {
    fn drop(&mut self) {
        let mut holds = HOLDS.lock();
        let Some(at) = place_of(&holds, self.holder) else {
            return;
        };
        let hold = &mut holds[at];
        if let Some(part) = hold.parts.iter().position(|part| *part == self.range) {
            let _ = hold.parts.remove(part);
        }
        if hold.parts.is_empty() {
            give_up(&mut holds, at);
        }
    }
}

/// Finds the hold of this holder.
fn place_of(holds: &[Hold], holder: HolderId) -> Option<usize> {
    holds.iter().position(|hold| hold.holder == holder)
}

/// Gives up the hold at index `at`, without parts.
///
/// The next mount must not find the old holder, and a removal not a holder without a hold, so the
/// caller holds the mutex.
fn give_up(holds: &mut KVec<Hold>, at: usize) {
    drop(holds.remove(at));
    if holds.is_empty() {
        // The module may be unloaded next.
        *holds = KVec::new();
    }
}

/// Keeps mounts from joining the holds on `fsdev`, a device of the fsdev driver that is about to be
/// removed.
pub(super) fn close(fsdev: DeviceId) {
    for hold in HOLDS.lock().iter_mut() {
        hold.closed |= hold.fsdev == Some(fsdev);
    }
}

/// Returns the part of the device that a lease uses by the hold with this holder.
fn part_of(lease: &Lease, holder: HolderId) -> Option<Range<u64>> {
    let uses = lease.uses.lock();
    (uses.hold == Some(holder)).then(|| uses.part.clone())
}

impl Holder for Announced {
    fn failed(device: &Device, holder: HolderId, bytes: Range<u64>, flags: ffi::c_int) -> bool {
        if registry::find_by(|uses| uses.hold == Some(holder)).is_none() {
            return false;
        }
        // No lease has the rest of a device with several images. Also remember its failures.
        device.each_frame(bytes.clone(), |_, frame| frame.mark());
        registry::for_each(|lease| {
            if let Some(part) = part_of(lease, holder) {
                let range = bytes.start.max(part.start)..bytes.end.min(part.end);
                device.each_frame(range, |at, frame| lease.page_failed(at, frame, flags));
            }
        });
        true
    }

    fn removed(removed: Removed) -> bool {
        let holder = removed.holder();
        // From now on no mount joins the hold.
        let mut holds = HOLDS.lock();
        let Some(at) = place_of(&holds, holder) else {
            return false;
        };
        let hold = &mut holds[at];
        hold.closed = true;
        if let Some(held) = &mut hold.held {
            held.forget_holder(&removed);
        }
        hold.removed = Some(removed);
        drop(holds);
        registry::revoke(|uses| uses.hold == Some(holder));
        // After this returns, the device is dead, and its driver must not be asked for memory. So
        // wait for the readers that are asking.
        srcu::wait();
        registry::for_each(|lease| {
            if part_of(lease, holder).is_some() {
                lease.uses.lock().hold = None;
            }
        });
        true
    }
}
