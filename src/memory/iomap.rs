// SPDX-License-Identifier: GPL-2.0-only

//! What the kernel's DAX code asks about extents (`struct iomap_ops`).

use super::space::Info;
use super::MapMethod;
use crate::bindings;
use core::ptr;
use kernel::prelude::*;

/// `struct iomap_ops` of extents on DAX devices.
const IOMAP: bindings::iomap_ops = bindings::iomap_ops {
    iomap_begin: Some(iomap_begin),
    ..pin_init::zeroed()
};

/// Describe the whole extent.
///
/// # Safety
///
/// `inode` must be the internal inode of an extent, and `iomap` valid for writing.
unsafe extern "C" fn iomap_begin(
    inode: *mut bindings::inode,
    _position: bindings::loff_t,
    _length: bindings::loff_t,
    _flags: kernel::ffi::c_uint,
    iomap: *mut bindings::iomap,
    _source: *mut bindings::iomap,
) -> kernel::ffi::c_int {
    // SAFETY: The caller passes the inode of an extent, which a fault keeps.
    let info = unsafe { Info::of(inode) };
    let MapMethod::Dax(range) = info.method else {
        return EIO.to_errno();
    };
    // SAFETY: The DAX code passes an iomap that belongs to this fault.
    let iomap = unsafe { &mut *iomap };
    iomap.type_ = bindings::IOMAP_MAPPED;
    iomap.addr = range.offset + info.offset;
    iomap.offset = 0;
    iomap.length = info.length;
    iomap.dax_dev = range.device.as_ptr();
    0
}

/// Handle a fault for an entry of `order` by the kernel's DAX code.
///
/// # Safety
///
/// `vmf` must be a fault on a mapping of an extent on a DAX device, whose memory must be kept.
pub(super) unsafe fn dax_iomap_fault(
    vmf: *mut bindings::vm_fault,
    order: u32,
) -> bindings::vm_fault_t {
    let null = ptr::null_mut();
    // SAFETY: The caller passes a fault on an extent, whose address space is a DAX one.
    unsafe { bindings::dax_iomap_fault(vmf, order, null, null.cast(), &IOMAP) }
}
