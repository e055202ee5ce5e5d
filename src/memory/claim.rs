// SPDX-License-Identifier: GPL-2.0-only

//! Claims on DAX devices, which the mounts of several images on one device share.
//!
//! The first mount that uses a part of a device makes a claim and becomes the device's holder, to
//! which it announces failures and its removal. Mounts of other parts join the claim, and the last
//! one gives it up. Parts do not overlap: two address spaces must not have the same pages.
//!
//! Becoming the holder of a DAX character device may take as long as its pages have users. A mount
//! has no superblock yet then, and holds no lock.

use super::lease::Lease;
use super::registry;
use crate::linux::bus::DeviceId;
use crate::linux::dax::{Device, Held, Holder, HolderId, Removed};
use crate::linux::global_mutex;
use core::ops::Range;
use core::ptr;
use kernel::{
    prelude::*,
    sync::{aref::ARef, Arc},
    time::{delay::fsleep, Delta},
};

global_mutex! {
    // Protects the list. Do not wait under it for anything but memory. So do not become a holder
    // under it, which takes the lock of a device.
    static CLAIMS: KVec<Claim> = KVec::new();
}

/// Interval at which a pending claim is looked at again.
const INTERVAL: Delta = Delta::from_millis(10);

/// Number of times that a pending claim is looked at before a mount fails.
const TRIES: u32 = 100;

/// The holder of a claimed device. It has a size, so that no two have the same address.
pub(super) struct Token(#[allow(dead_code)] u8);

/// A claim on a DAX device.
struct Claim {
    device: ARef<Device>,
    token: Arc<Token>,
    /// The device of the fsdev driver, if it is one.
    fsdev: Option<DeviceId>,
    /// The token's hold on the device; `None` while the claim is pending.
    held: Option<Held<Token>>,
    /// Set before the device is removed, so that no mount joins the claim.
    closed: bool,
    /// The announcement of that, after which the device may have another holder.
    removed: Option<Removed>,
    /// Parts of the device that mounts use, in bytes.
    parts: KVec<Range<u64>>,
}

impl Claim {
    /// Uses the bytes of `range` for `lease`.
    ///
    /// # Errors
    ///
    /// `EIO` if the device is about to be removed; `EBUSY` if the claim is pending, or another
    /// mount uses some of the bytes; `ENOMEM`.
    fn join(&mut self, range: Range<u64>, lease: &Lease) -> Result<Part> {
        let overlaps = |part: &Range<u64>| part.start < range.end && range.start < part.end;
        if self.closed {
            return Err(EIO);
        }
        if self.held.is_none() || self.parts.iter().any(overlaps) {
            return Err(EBUSY);
        }
        self.parts.push(range.clone(), GFP_KERNEL)?;
        // Under the mutex, so that a removal finds the lease, or has closed the claim.
        let mut uses = lease.uses.lock();
        uses.claim = Some(HolderId::of(&self.token));
        uses.part = range.clone();
        uses.fsdev = self.fsdev;
        // INVARIANT: The range was added above.
        Ok(Part {
            token: self.token.clone(),
            range,
        })
    }
}

/// A part of a DAX device that a mount uses.
///
/// # Invariants
///
/// `range` is one of the parts of the claim with this token.
pub(super) struct Part {
    token: Arc<Token>,
    range: Range<u64>,
}

impl Part {
    /// Uses the bytes of `range` of `device` for `lease`. `fsdev` is the device of the fsdev
    /// driver, if it is one. `hold` makes the token that it is passed the holder of the device.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device is about to be removed while other mounts use it, or one of these uses
    /// some of the bytes; `EIO` if its removal has begun during the call; `ENOMEM`; the errors of
    /// `hold`.
    pub(super) fn get(
        device: &ARef<Device>,
        fsdev: Option<DeviceId>,
        range: Range<u64>,
        lease: &Lease,
        hold: impl FnOnce(Arc<Token>) -> Result<Held<Token>>,
    ) -> Result<Self> {
        let token = Arc::new(Token(0), GFP_KERNEL)?;
        let mut tries = 0;
        let mut claims = loop {
            let mut claims = CLAIMS.lock();
            let known = claims
                .iter_mut()
                .find(|claim| ptr::eq(&*claim.device, &**device) && claim.removed.is_none());
            match known {
                None => break claims,
                // Users of pages may delay the removal for as long as they like.
                Some(claim) if claim.closed => return Err(EBUSY),
                Some(claim) if claim.held.is_none() && tries < TRIES => {}
                Some(claim) => return claim.join(range, lease),
            }
            drop(claims);
            tries += 1;
            fsleep(INTERVAL);
        };
        let claim = Claim {
            device: device.clone(),
            token: token.clone(),
            fsdev,
            held: None,
            closed: false,
            removed: None,
            parts: KVec::new(),
        };
        claims.push(claim, GFP_KERNEL)?;
        drop(claims);
        // fs_dax_get() takes the lock of the device, whose driver may hold it for as long as pages
        // have users. So this is without the mutex.
        let held = hold(token.clone());
        let mut claims = CLAIMS.lock();
        let at = place_of(&claims, HolderId::of(&token)).ok_or(EIO)?;
        let joined = held.and_then(|held| {
            let claim = &mut claims[at];
            let held = claim.held.insert(held);
            if let Some(removed) = &claim.removed {
                held.forget_holder(removed);
            }
            claim.join(range, lease)
        });
        if joined.is_err() {
            give_up(&mut claims, at);
        }
        joined
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut claims = CLAIMS.lock();
        let Some(at) = place_of(&claims, HolderId::of(&self.token)) else {
            return;
        };
        let claim = &mut claims[at];
        if let Some(part) = claim.parts.iter().position(|part| *part == self.range) {
            let _ = claim.parts.remove(part);
        }
        if claim.parts.is_empty() {
            give_up(&mut claims, at);
        }
    }
}

/// Returns the index of the claim with this holder, if there is one.
fn place_of(claims: &[Claim], holder: HolderId) -> Option<usize> {
    claims
        .iter()
        .position(|claim| HolderId::of(&claim.token) == holder)
}

/// Gives up the claim at index `at`, which has no parts.
///
/// The next mount must not find the old holder, and a removal not a holder without a claim, so the
/// caller holds the mutex.
fn give_up(claims: &mut KVec<Claim>, at: usize) {
    drop(claims.remove(at));
    if claims.is_empty() {
        // The module may be unloaded next.
        *claims = KVec::new();
    }
}

/// Lets no mount join the claims on `fsdev`, a device of the fsdev driver that is about to be
/// removed.
pub(super) fn close(fsdev: DeviceId) {
    for claim in CLAIMS.lock().iter_mut() {
        claim.closed |= claim.fsdev == Some(fsdev);
    }
}

/// Returns the part of the device that a lease uses by the claim with this holder.
fn part_of(lease: &Lease, holder: HolderId) -> Option<Range<u64>> {
    let uses = lease.uses.lock();
    (uses.claim == Some(holder)).then(|| uses.part.clone())
}

impl Holder for Token {
    fn failed(
        device: &Device,
        holder: HolderId,
        bytes: Range<u64>,
        flags: kernel::ffi::c_int,
    ) -> bool {
        if registry::find_by(|uses| uses.claim == Some(holder)).is_none() {
            return false;
        }
        // No lease has the rest of a device with several images. Remember its failures, too.
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
        // From now on no mount joins the claim.
        let mut claims = CLAIMS.lock();
        let Some(at) = place_of(&claims, holder) else {
            return false;
        };
        let claim = &mut claims[at];
        claim.closed = true;
        if let Some(held) = &mut claim.held {
            held.forget_holder(&removed);
        }
        claim.removed = Some(removed);
        drop(claims);
        registry::revoke(|uses| uses.claim == Some(holder));
        // After this returns, the device is dead, and its driver must not be asked for memory. So
        // wait for the readers that are asking.
        registry::for_each(|lease| {
            if part_of(lease, holder).is_some() {
                lease.memory.wait();
                lease.uses.lock().claim = None;
            }
        });
        true
    }
}
