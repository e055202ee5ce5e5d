// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks without a block device that are found again by a key.
//!
//! get_tree_keyed() compares `s_fs_info`, which has another use here.

use super::context::{self, Key};
use super::{Operations, Registration, SuperBlock, VTable};
use crate::bindings;
use kernel::{
    error::{from_err_ptr, from_result, to_result},
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// Interval at which a superblock that is being released is looked at again.
const INTERVAL: Delta = Delta::from_millis(1);

/// Find or make the superblock with the key of the context `fc`, and set the context's root.
///
/// # Errors
///
/// `EINTR` if a signal kills the process, and the errors of sget_fc() and of filling the
/// superblock.
///
/// # Safety
///
/// `fc` must be a context of a filesystem type of `T` with a key, whose mutex is held.
pub(super) unsafe fn get_tree<T: Operations>(fc: *mut bindings::fs_context) -> Result {
    let sb = loop {
        // SAFETY: The caller passes a valid context. The functions are for contexts of `T`.
        let found = unsafe { bindings::sget_fc(fc, Some(test::<T>), Some(set::<T>)) };
        let sb = match from_err_ptr(found) {
            Err(error) if error == EAGAIN => {
                if crate::linux::fatal_signal_pending() {
                    return Err(EINTR);
                }
                // No lock is held, and the other superblock has no users left.
                fsleep(INTERVAL);
                continue;
            }
            found => found?,
        };
        // SAFETY: sget_fc() returns a superblock with a reference and its lock.
        let is_filled = unsafe { !(*sb).s_root.is_null() };
        // SAFETY: As above. `fill` succeeded on it, or it would have no root.
        if !is_filled || !T::is_gone(unsafe { SuperBlock::<T>::from_raw(sb) }) {
            break sb;
        }
        // The device may be there again. The mounts of the old one keep their superblock, which new
        // mounts do not find.
        // SAFETY: The context keeps its type. The reference is the one that sget_fc() returned.
        unsafe {
            Registration::<T>::from_raw((*fc).fs_type).forget_key(sb);
            bindings::deactivate_locked_super(sb);
        }
    };
    // SAFETY: The superblock has a reference, and its lock is held. If it has no root, it is new,
    // and the context is its context. The caller holds the mutex of that.
    unsafe {
        if (*sb).s_root.is_null() {
            let filled = VTable::<T>::fill(sb, fc);
            if filled != 0 {
                bindings::deactivate_locked_super(sb);
                return to_result(filled);
            }
            (*sb).s_flags |= bindings::SB_ACTIVE;
        }
        (*fc).root = bindings::dget((*sb).s_root);
    }
    Ok(())
}

/// Return the filesystem type and the key of a context.
///
/// # Safety
///
/// As for [`get_tree`], for `'a`.
unsafe fn parts<'a, T: Operations>(
    fc: *mut bindings::fs_context,
) -> Result<(&'a Registration<T>, Key)> {
    // SAFETY: The caller passes a context, which keeps its type, and holds its mutex.
    let (registration, (_, private)) = unsafe {
        (
            Registration::<T>::from_raw((*fc).fs_type),
            context::parts::<T>(fc),
        )
    };
    Ok((registration, private.key.ok_or(EINVAL)?))
}

/// Return 1 if `sb` has the key of the context.
///
/// # Safety
///
/// As for [`get_tree`], and `sb` is a superblock of the type of `fc`.
unsafe extern "C" fn test<T: Operations>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> kernel::ffi::c_int {
    // SAFETY: The caller guarantees what `parts` requires.
    let Ok((registration, key)) = (unsafe { parts::<T>(fc) }) else {
        return 0;
    };
    let keys = registration.keys.lock();
    keys.binary_search(&(sb as usize, key)).is_ok().into()
}

/// Give the new superblock `sb` the key of the context, and a device number. Fail with `EAGAIN` if
/// another superblock with the key, which sget_fc() already ignores, is not released yet.
///
/// # Safety
///
/// As for [`test`]. `sb_lock` is held.
unsafe extern "C" fn set<T: Operations>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> kernel::ffi::c_int {
    from_result(|| {
        // SAFETY: The caller guarantees what `parts` requires.
        let (registration, key) = unsafe { parts::<T>(fc) }?;
        let mut keys = registration.keys.lock();
        if keys.iter().any(|entry| entry.1 == key) {
            return Err(EAGAIN);
        }
        keys.reserve(1, GFP_ATOMIC)?;
        // SAFETY: The caller passes a new superblock.
        to_result(unsafe { bindings::set_anon_super_fc(sb, fc) })?;
        let place = keys.partition_point(|entry| entry.0 < sb as usize);
        // There is room.
        let _ = keys.insert_within_capacity(place, (sb as usize, key));
        Ok(0)
    })
}
