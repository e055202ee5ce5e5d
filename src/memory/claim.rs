// SPDX-License-Identifier: GPL-2.0-only

//! Claims on DAX devices, which the mounts of several images on one device share.
//!
//! A DAX device has one holder, to which it announces failures and its removal. The first mount
//! that uses a part of a device makes a claim and becomes the holder with it. Later mounts of other
//! parts join the claim; the last one gives it up. Each mount has its own lease, which knows its
//! part of the device. Parts do not overlap: two address spaces must not have the same pages.
//!
//! To become the holder of a DAX character device, the DAX core takes the lock of the device. Its
//! driver may hold that for as long as pages have users. So a mount claims no bytes first, without
//! `s_umount`, and joins this claim with its bytes when it has a superblock.

use super::lease::{Lease, Token};
use super::{poison, registry};
use crate::bindings;
use crate::linux::{global_mutex, Errno};
use core::ops::Range;
use core::ptr::{self, NonNull};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta},
};

global_mutex! {
    // Protects the list. Nobody waits under it for anything but memory, so nobody becomes a holder
    // under it: that takes the lock of a device.
    static CLAIMS: KVec<Claim> = KVec::new();
}

/// Interval at which a pending claim is looked at again.
const INTERVAL: Delta = Delta::from_millis(10);

/// Number of times that a pending claim is looked at before a mount fails.
const TRIES: u32 = 100;

/// A claim on a DAX device.
///
/// # Invariants
///
/// Unless `pending`, there is a reference to `device` for the claim. Unless `removed`, the claim
/// then is the holder of the device, with the address of `token` as holder data.
struct Claim {
    device: NonNull<bindings::dax_device>,
    token: Arc<Token>,
    /// The device of the fsdev driver, or null. It is only compared.
    fsdev: *mut bindings::device,
    /// Set until the claim is the holder, or has failed to be.
    pending: bool,
    /// Set before the device is removed, so that no mount joins the claim.
    closed: bool,
    /// Set when the device has announced its removal. The DAX core then removes the holder, and
    /// there may be another one.
    removed: bool,
    /// Parts of the device that mounts use, in bytes.
    parts: KVec<Range<u64>>,
}

// SAFETY: Any thread may use a DAX device and put references to it, and `fsdev` is only compared.
unsafe impl Send for Claim {}

impl Claim {
    /// Use the bytes of `range` for `lease`.
    ///
    /// # Errors
    ///
    /// `EIO` if the device is about to be removed; `EBUSY` if the claim is pending, or another
    /// mount uses some of the bytes; `ENOMEM`.
    fn join(&mut self, range: Range<u64>, lease: Option<&Lease>) -> Result<Part> {
        let overlaps = |part: &Range<u64>| part.start < range.end && range.start < part.end;
        if self.closed {
            return Err(EIO);
        }
        if self.pending || self.parts.iter().any(overlaps) {
            return Err(EBUSY);
        }
        self.parts.push(range.clone(), GFP_KERNEL)?;
        // Under the mutex, so that a removal finds the lease, or has closed the claim.
        if let Some(lease) = lease {
            lease.set_dax(self.device.as_ptr(), Arc::as_ptr(&self.token), &range);
            lease.set_fsdev(self.fsdev);
        }
        // INVARIANT: The range was added above.
        Ok(Part {
            device: self.device,
            token: self.token.clone(),
            range,
        })
    }
}

/// A part of a DAX device that a mount uses.
///
/// # Invariants
///
/// `range` is one of the parts of the claim with this token, whose device is `device`.
pub(super) struct Part {
    device: NonNull<bindings::dax_device>,
    token: Arc<Token>,
    range: Range<u64>,
}

// SAFETY: Any thread may use a DAX device and put references to it.
unsafe impl Send for Part {}
// SAFETY: A DAX device may be used by several threads at the same time.
unsafe impl Sync for Part {}

impl Part {
    const HOLDER: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(notify_failure),
    };

    /// Use the bytes of `range` of `device` for `lease`. `fsdev` is the device of the fsdev driver,
    /// or null. `hold` gets the device with the holder data and operations that it is passed.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device is about to be removed, or another mount uses some of the bytes; `EIO`
    /// if its removal has begun during the call; `ENOMEM`; the errors of `hold`.
    ///
    /// # Safety
    ///
    /// `device` must be valid. `hold` must return an error, or have made its argument the holder
    /// and have got a reference to the device.
    pub(super) unsafe fn get(
        device: NonNull<bindings::dax_device>,
        fsdev: *mut bindings::device,
        range: Range<u64>,
        lease: Option<&Lease>,
        hold: impl FnOnce(*mut kernel::ffi::c_void, &'static bindings::dax_holder_operations) -> Result,
    ) -> Result<Self> {
        let token = Arc::new(Token::new(), GFP_KERNEL)?;
        let mut tries = 0;
        let mut claims = loop {
            let mut claims = CLAIMS.lock();
            let known = claims
                .iter_mut()
                .find(|claim| claim.device == device && !claim.removed);
            match known {
                None => break claims,
                // Users of pages may delay the removal for as long as they like.
                Some(claim) if claim.closed => return Err(EBUSY),
                Some(claim) if claim.pending && tries < TRIES => {}
                Some(claim) => return claim.join(range, lease),
            }
            drop(claims);
            tries += 1;
            fsleep(INTERVAL);
        };
        let claim = Claim {
            device,
            token: token.clone(),
            fsdev,
            pending: true,
            closed: false,
            removed: false,
            parts: KVec::new(),
        };
        claims.push(claim, GFP_KERNEL)?;
        drop(claims);
        // fs_dax_get() takes the lock of the device, whose driver may hold it for as long as pages
        // have users. So this is without the mutex.
        let held = hold(Arc::as_ptr(&token).cast_mut().cast(), &Self::HOLDER);
        let mut claims = CLAIMS.lock();
        let at = claims
            .iter()
            .position(|claim| Arc::ptr_eq(&claim.token, &token));
        let Some(at) = at else {
            return Err(EIO);
        };
        if let Err(error) = held {
            let _ = claims.remove(at);
            return Err(error);
        }
        // INVARIANT: `hold` has made the token the holder and got a reference.
        claims[at].pending = false;
        let joined = claims[at].join(range, lease);
        if joined.is_err() {
            give_up(&mut claims, at);
        }
        joined
    }

    /// Use the bytes of `range` of the same device for `lease`.
    ///
    /// # Errors
    ///
    /// `EIO` if the device is about to be removed; `EBUSY` if another mount uses some of the bytes;
    /// `ENOMEM`.
    pub(super) fn join(&self, range: Range<u64>, lease: &Lease) -> Result<Self> {
        let mut claims = CLAIMS.lock();
        let claim = claims
            .iter_mut()
            .find(|claim| Arc::ptr_eq(&claim.token, &self.token));
        claim.ok_or(EIO)?.join(range, Some(lease))
    }

    /// Return the device, which lives as long as this.
    pub(super) fn device(&self) -> NonNull<bindings::dax_device> {
        self.device
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut claims = CLAIMS.lock();
        let Some(at) = claims
            .iter()
            .position(|claim| Arc::ptr_eq(&claim.token, &self.token))
        else {
            return;
        };
        let claim = &mut claims[at];
        if let Some(part) = claim.parts.iter().position(|part| *part == self.range) {
            let _ = claim.parts.remove(part);
        }
        if !claim.parts.is_empty() {
            return;
        }
        give_up(&mut claims, at);
    }
}

/// Give up the claim at index `at`, which has no parts.
///
/// The next mount must not find the old holder, and a removal not a holder without a claim, so the
/// caller holds the mutex.
fn give_up(claims: &mut KVec<Claim>, at: usize) {
    let Ok(claim) = claims.remove(at) else { return };
    if claims.is_empty() {
        // The module may be unloaded next.
        *claims = KVec::new();
    }
    let holder = match claim.removed {
        true => ptr::null(),
        false => Arc::as_ptr(&claim.token),
    };
    // SAFETY: By the type invariant there is a reference, and the token is the holder if it is
    // given.
    unsafe { bindings::fs_put_dax(claim.device.as_ptr(), holder.cast_mut().cast()) };
}

/// Let no mount join the claims on `fsdev`, a device of the fsdev driver that is about to be
/// removed.
pub(super) fn close(fsdev: *mut bindings::device) {
    for claim in CLAIMS.lock().iter_mut() {
        claim.closed |= claim.fsdev == fsdev;
    }
}

/// Handle the device's removal, or the failure of `length` bytes at `offset`.
///
/// The DAX core calls this under its read lock, so other devices cannot be removed meanwhile.
///
/// # Safety
///
/// As for `struct dax_holder_operations`.
unsafe extern "C" fn notify_failure(
    device: *mut bindings::dax_device,
    offset: u64,
    length: u64,
    flags: kernel::ffi::c_int,
) -> kernel::ffi::c_int {
    // The holder may be another filesystem's, so the pointer is compared but not dereferenced.
    // SAFETY: The DAX core passes a valid device.
    let holder = unsafe { bindings::dax_holder(device) }
        .cast::<Token>()
        .cast_const();
    let not_ours = Error::from(Errno::NotSupported).to_errno();
    if flags & bindings::MF_MEM_PRE_REMOVE != 0 {
        return if removed(device, holder) { 0 } else { not_ours };
    }
    let is_ours = |lease: &Lease| lease.holds(device, holder);
    if registry::find_by(is_ours).is_none() {
        return not_ours;
    }
    let failed = offset..offset.saturating_add(length);
    // No lease has the rest of a device with several images. Remember its failures, too.
    // SAFETY: The DAX core passes a valid device, and holds its read lock.
    unsafe { each_frame(device, failed.clone(), |_, frame| poison::mark(frame)) };
    registry::for_each(|lease| {
        if is_ours(lease) {
            let part = lease.part();
            let range = failed.start.max(part.start)..failed.end.min(part.end);
            // SAFETY: As above.
            unsafe {
                each_frame(device, range, |at, frame| {
                    lease.page_failed(at, frame, flags)
                });
            }
        }
    });
    0
}

/// Handle the removal of `device`, which `token` holds. Return false if that is no claim.
fn removed(device: *mut bindings::dax_device, token: *const Token) -> bool {
    // From now on no mount joins the claim.
    match CLAIMS
        .lock()
        .iter_mut()
        .find(|claim| ptr::eq(Arc::as_ptr(&claim.token), token))
    {
        Some(claim) => {
            claim.closed = true;
            claim.removed = true;
        }
        None => return false,
    }
    registry::for_each(|lease| {
        if lease.holds(device, token) {
            lease.revoke();
        }
    });
    // When this returns, the device is not alive any more, and its driver cannot be asked for
    // memory. So wait for those who are asking.
    registry::for_each(|lease| {
        if lease.holds(device, token) {
            lease.wait_for_readers();
            lease.forget_dax();
        }
    });
    true
}

/// Call `visit` with the offset on `device` and the page frame of each page of `range`. Stop where
/// the device has no memory.
///
/// # Safety
///
/// The device must be valid, and the caller hold the read lock of the DAX core.
unsafe fn each_frame(
    device: *mut bindings::dax_device,
    range: Range<u64>,
    visit: impl Fn(u64, usize),
) {
    let mut page = range.start >> bindings::PAGE_SHIFT;
    while page << bindings::PAGE_SHIFT < range.end {
        let mut frame = 0;
        // This access mode allows access to memory that has failed.
        // SAFETY: The caller passes a valid device, and holds the lock.
        let found = unsafe {
            bindings::dax_direct_access(
                device,
                page as usize,
                1,
                bindings::dax_access_mode_DAX_RECOVERY_WRITE,
                ptr::null_mut(),
                &mut frame,
            )
        };
        if found <= 0 {
            return;
        }
        visit(page << bindings::PAGE_SHIFT, frame);
        page += 1;
    }
}
