// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks that are found again by a key.
//!
//! sync(2) and others wait for each superblock from the moment it is in the VFS's list until it is
//! born, and for its `s_umount` later. So a mount reserves the key, opens the source, and only then
//! makes the superblock. get_tree_bdev() and get_tree_keyed() fill one that exists already.

use super::{
    context::Key,
    Context,
    Operations,
    Refusal,
    Registration, //
};
use super::{
    SuperBlock,
    SuperKind,
    VTable, //
};
use crate::bindings;
use core::ptr;
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

/// Finds or makes the superblock for the context `fc`, and sets the context's root.
///
/// # Errors
///
/// `EINTR` if a signal kills the process first, the errors of `T` and of sget_fc().
///
/// # Safety
///
/// `fc` must be the `context`, of a filesystem type of `T`, with its mutex held and without a root.
pub(super) unsafe fn get_tree<T: Operations>(
    fc: *mut bindings::fs_context,
    options: &T::Options,
    context: &Context,
) -> Result<(), Refusal> {
    // SAFETY: The context keeps its type registered.
    let registration = unsafe { Registration::<T>::from_raw((*fc).fs_type) };
    loop {
        let (kind, found) = T::super_kind(options, context)?;
        let key = match kind {
            // No part has this length.
            SuperKind::BlockDevice(number) => Some(Key([u64::from(number) << 1, 0, 0])),
            SuperKind::Keyed(key) => Some(key),
            SuperKind::New => None,
        };
        // After a failure the key is dropped after the data.
        let (known, reserved) = registration.find_or_reserve(key)?;
        let data = match known {
            0 => {
                let data = T::open(registration, options, found, context)?;
                Some(KBox::new(data, GFP_KERNEL)?)
            }
            _ => None,
        };
        // SAFETY: The caller passes a valid context. The functions look up the number or the
        // address, and return a superblock with a reference and its lock.
        let sb = from_err_ptr(unsafe {
            match kind {
                SuperKind::BlockDevice(number) => bindings::sget_dev(fc, number),
                _ => {
                    (*fc).sget_key = known as *mut _;
                    bindings::sget_fc(fc, Some(is_wanted), Some(bindings::set_anon_super_fc))
                }
            }
        })?;
        // SAFETY: As above.
        let is_new = unsafe { (*sb).s_root.is_null() };
        let done = match data {
            Some(data) if is_new => {
                // SAFETY: The superblock is new and has a number.
                let filled = unsafe { VTable::<T>::fill(sb, data) };
                Some(filled.map_err(Into::into))
            }
            // SAFETY: A superblock that has a root was filled, and it has a reference.
            None if !is_new && registration.has_key(sb as usize, key) => unsafe {
                reuse::<T>(sb, options, context)
            },
            // The superblock that was known is gone, and another one has its address or number.
            _ => None,
        };
        if let Some(Ok(())) = done {
            // SAFETY: The superblock has a root, and a reference.
            unsafe { (*fc).root = bindings::dget((*sb).s_root) };
            if let Some(key) = reserved {
                key.give_to(sb as usize);
            }
            return Ok(());
        }
        // SAFETY: The reference and the lock are those that were returned above.
        unsafe { bindings::deactivate_locked_super(sb) };
        if let Some(result) = done {
            return result;
        }
    }
}

/// Checks that `sb` may be mounted once more. Returns `None` if its memory is gone.
///
/// # Safety
///
/// `sb` must be a filled superblock of type `T`, with a reference, and its `s_umount` locked.
unsafe fn reuse<T: Operations>(
    sb: *mut bindings::super_block,
    options: &T::Options,
    context: &Context,
) -> Option<Result<(), Refusal>> {
    // SAFETY: The caller passes such a superblock and keeps its type.
    let (this, registration) = unsafe {
        let registration = Registration::<T>::from_raw((*sb).s_type);
        (SuperBlock::<T>::from_raw(sb), registration)
    };
    if T::is_gone(this) {
        // It may be there again. The mounts of the old memory keep their superblock, which new
        // mounts do not find.
        // SAFETY: The lock of the superblock is held.
        unsafe { (*sb).s_iflags |= bindings::SB_I_RETIRED };
        drop(registration.take_key(sb as usize));
        T::retire(this);
        return None;
    }
    // SAFETY: The lock is held.
    unsafe { bindings::up_write(&raw mut (*sb).s_umount) };
    let result = T::reuse(this, options, context);
    // SAFETY: The reference keeps the superblock. No lock is held.
    unsafe { bindings::down_write(&raw mut (*sb).s_umount) };
    // The memory may have gone during the checks.
    (!T::is_gone(this)).then_some(result)
}

/// Returns 1 if `sb` is the superblock that the context asks for.
///
/// # Safety
///
/// The context must be valid.
unsafe extern "C" fn is_wanted(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> kernel::ffi::c_int {
    // SAFETY: The caller passes a valid context.
    let wanted = unsafe { (*fc).sget_key };
    ptr::eq(sb.cast(), wanted).into()
}
