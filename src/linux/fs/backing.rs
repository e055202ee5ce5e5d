// SPDX-License-Identifier: GPL-2.0-only

//! Backing files, which memory areas refer to instead of the open file.
//!
//! cachestat(2) looks for shadow entries of reclaimed pages in any open file's address space
//! (`f_mapping`), mistakes DAX's entries for shadow entries, and dereferences part of a page frame
//! number. So we hide the address space through which a file is mapped: only a file without a
//! descriptor, which memory areas refer to (`vm_file`), leads to it.
//!
//! Once cachestat(2) skips DAX mappings, delete this file and use the address space directly.
//!
//! C headers: `include/linux/backing-file.h`, `include/linux/fs.h`.

use super::*;

/// Returns the file that memory areas of `file` have, with `mapping` as its address space. The open
/// file keeps the backing file.
///
/// Errors: `ENOMEM`, and the security module's errors.
///
/// # Safety
///
/// `file` must be an open file. Nothing else uses its private data, and its `release` is
/// [`release`]. `mapping` must be valid as long as the inode of `file`, and the same for each call.
pub(super) unsafe fn open(
    file: NonNull<bindings::file>,
    mapping: NonNull<bindings::address_space>,
) -> Result<NonNull<bindings::file>> {
    let raw = file.as_ptr();
    // SAFETY: The file is open. Its mode changes in bits that this does not look at.
    let mode = unsafe { Atomic::from_ptr(&raw mut (*raw).f_mode) };
    if mode.load(Relaxed) & bindings::FMODE_BACKING != 0 {
        // A stacking filesystem opened this file, so it has no descriptor.
        // SAFETY: The file is open. Other threads can only store the same address space.
        let place = unsafe { Atomic::from_ptr(&raw mut (*raw).f_mapping) };
        if place.load(Relaxed) != mapping.as_ptr() {
            place.store(mapping.as_ptr(), Relaxed);
        }
        return Ok(file);
    }
    // SAFETY: The file is open, and while it is, its private data are only accessed atomically.
    let stored = unsafe { Atomic::from_ptr((&raw mut (*raw).private_data).cast()) };
    if let Some(backing) = NonNull::new(stored.load(Acquire)) {
        return Ok(backing);
    }
    // SAFETY: The file is open. The caller guarantees that the address space is valid.
    let new = from_err_ptr(unsafe { bindings::open_backing_file(raw, mapping.as_ptr()) })?;
    let null = ptr::null_mut();
    match stored.cmpxchg(null, new, Full) {
        Ok(_) => NonNull::new(new).ok_or(ENOMEM),
        Err(other) => {
            // SAFETY: This is the only reference to the new file, which was not stored.
            unsafe { bindings::fput(new) };
            NonNull::new(other).ok_or(EIO)
        }
    }
}

/// Drops the backing file of an open file that is being closed.
///
/// # Safety
///
/// `file` must be a file that is being closed; only [`open`] uses its private data.
pub(super) unsafe extern "C" fn release(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> ffi::c_int {
    // SAFETY: Nothing else accesses a file that is being closed.
    let backing = unsafe { (*file).private_data };
    if !backing.is_null() {
        // SAFETY: The private data owns a reference to the backing file.
        unsafe { bindings::fput(backing.cast()) };
    }
    0
}
