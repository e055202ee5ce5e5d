// SPDX-License-Identifier: GPL-2.0-only

//! Holders of DAX devices (`struct dax_holder_operations`).

use super::{
    device::Device,
    node::Node, //
};
use crate::linux::block::BlockDevice;
use crate::linux::prelude::*;

/// Identifies a holder. No object is at this address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HolderId(usize);

impl HolderId {
    pub(crate) fn new() -> Self {
        static NEXT: Atomic<usize> = Atomic::new(1);
        HolderId(NEXT.fetch_add(1, Relaxed))
    }

    fn as_ptr(self) -> *mut ffi::c_void {
        ptr::without_provenance_mut(self.0)
    }
}

/// How a holder handles the failure or removal of its device.
///
/// The DAX core calls the methods under its read lock, which delays the removal of other devices.
/// `holder` may belong to another filesystem by now. Return false then.
pub(crate) trait Holder: Send + Sync + Sized + 'static {
    /// Handles the failure of bytes of the device. `flags` are memory_failure()'s.
    fn failed(device: &Device, holder: HolderId, bytes: Range<u64>, flags: ffi::c_int) -> bool;

    /// Handles the removal of the device. After this, don't request memory from its driver.
    fn removed(removed: Removed) -> bool;
}

/// Announces the removal of this holder's device.
pub(crate) struct Removed(HolderId);

impl Removed {
    pub(crate) fn holder(&self) -> HolderId {
        self.0
    }
}

/// A device with a holder, whose announcements `T` handles.
///
/// # Invariants
///
/// Owns a reference to `device`. Its holder is `holder` unless it has been removed.
pub(crate) struct Held<T> {
    device: NonNull<bindings::dax_device>,
    holder: Option<HolderId>,
    _handler: PhantomData<T>,
}

// SAFETY: Any thread may put a reference to a DAX device.
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: No method takes a shared reference.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<T: Holder> Held<T> {
    const OPERATIONS: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    /// Sets `holder` as the holder of `bdev`'s DAX device.
    ///
    /// Errors: `EBUSY` if the device has a holder, `ENODEV` if it is missing.
    pub(crate) fn of_block(bdev: &BlockDevice, holder: HolderId) -> Result<Self> {
        let (raw, mut start) = (bdev.as_raw(), 0);
        // SAFETY: The block device is open. `drop` or the DAX core removes the holder.
        let held = unsafe {
            let (holder, table) = (holder.as_ptr(), &Self::OPERATIONS);
            bindings::fs_dax_get_by_bdev(raw, &mut start, holder, table)
        };
        let device = NonNull::new(held).ok_or_else(|| match Device::of_block(bdev) {
            Some(_) => EBUSY,
            None => ENODEV,
        })?;
        // INVARIANT: The function has got a reference and has set the holder.
        Ok(Held {
            device,
            holder: Some(holder),
            _handler: PhantomData,
        })
    }

    /// Sets `holder` as the holder of `node`'s device. Takes the device's lock.
    ///
    /// Errors: `EBUSY` if it has a holder, `ENODEV` if it is gone, `EOPNOTSUPP` if its driver is
    /// not fsdev.
    pub(crate) fn of_node(node: &Node, holder: HolderId) -> Result<Self> {
        let device = node.device().as_raw();
        // SAFETY: By the invariant of `Node` the device is on the DAX bus. `drop` or the DAX core
        // removes the holder.
        to_result(unsafe { bindings::fs_dax_get(device, holder.as_ptr(), &Self::OPERATIONS) })?;
        // INVARIANT: The function has got a reference and has set the holder.
        Ok(Held {
            device: NonNull::new(device).ok_or(ENODEV)?,
            holder: Some(holder),
            _handler: PhantomData,
        })
    }

    /// # Safety
    ///
    /// As for `struct dax_holder_operations`.
    unsafe extern "C" fn notify_failure(
        device: *mut bindings::dax_device,
        offset: u64,
        length: u64,
        flags: ffi::c_int,
    ) -> ffi::c_int {
        // SAFETY: The DAX core passes a valid device. The holder is not dereferenced.
        let (holder, device) = unsafe { (bindings::dax_holder(device), Device::from_raw(device)) };
        let holder = HolderId(holder as usize);
        let handled = match flags & bindings::MF_MEM_PRE_REMOVE {
            0 => T::failed(device, holder, offset..offset.saturating_add(length), flags),
            _ => T::removed(Removed(holder)),
        };
        if handled {
            0
        } else {
            Error::from(Errno::NotSupported).to_errno()
        }
    }
}

impl<T> Held<T> {
    /// Records the removal of the device, if `removed` announces it. The DAX core then
    /// removes the holder, and there may be another one.
    pub(crate) fn forget_holder(&mut self, removed: &Removed) {
        self.holder.take_if(|holder| *holder == removed.0);
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let holder = self.holder.map_or(ptr::null_mut(), HolderId::as_ptr);
        // SAFETY: By the type invariant this owns a reference, and the holder, if given, is the
        // device's.
        unsafe { bindings::fs_put_dax(self.device.as_ptr(), holder) };
    }
}
