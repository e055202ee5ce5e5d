// SPDX-License-Identifier: GPL-2.0-only

//! Describing address spaces to the kernel's DAX code.
//!
//! Kernels differ in how they call this, so `helpers.c` hands it to them.

use super::{MapMethod, Space};
use crate::bindings;
use kernel::prelude::*;

/// Describe the whole space.
///
/// # Safety
///
/// `inode` must be the internal inode of a space, and `iomap` valid for writing.
#[no_mangle]
unsafe extern "C" fn daxfs_iomap_begin(
    inode: *mut bindings::inode,
    _position: bindings::loff_t,
    _length: bindings::loff_t,
    _flags: kernel::ffi::c_uint,
    iomap: *mut bindings::iomap,
    _source: *mut bindings::iomap,
) -> kernel::ffi::c_int {
    // SAFETY: The caller passes the inode of a space, which a fault keeps, and an iomap that
    // belongs to the fault.
    let (space, iomap) = unsafe { (Space::of(inode), &mut *iomap) };
    let MapMethod::Dax(range) = space.memory.method() else {
        return EIO.to_errno();
    };
    iomap.type_ = bindings::IOMAP_MAPPED;
    iomap.addr = range.offset + space.offset;
    iomap.offset = 0;
    iomap.length = space.length;
    iomap.dax_dev = range.device.as_ptr();
    0
}
