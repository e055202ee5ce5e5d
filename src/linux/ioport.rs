// SPDX-License-Identifier: GPL-2.0-only

//! Ranges of physical addresses, as /proc/iomem shows them (`include/linux/ioport.h`).

use super::fs::*;
use crate::linux::prelude::*;

/// Returns the last physical address of this machine.
pub(crate) fn last_address() -> u64 {
    // SAFETY: This reads a number that does not change.
    unsafe { bindings::last_address() }
}

/// Returns true if all of the `size` bytes at `start` are in one resource (`IORESOURCE_MEM`).
pub(crate) fn is_in_one_resource(start: u64, size: u64) -> bool {
    // SAFETY: This compares the range with all resources, under their lock.
    unsafe { bindings::is_in_one_resource(start, start.wrapping_add(size).wrapping_sub(1)) }
}

/// A range of physical addresses that we requested from the kernel. Drop it to release the range.
///
/// # Invariants
///
/// The range is requested. No part of it is System RAM.
pub(crate) struct Requested {
    start: u64,
    size: u64,
    is_reserved: bool,
}

impl Requested {
    /// Requests the `size` bytes at `start`. /proc/iomem shows the `name`.
    ///
    /// Errors: `EBUSY` if some of it is System RAM, or it is requested already; `EINVAL` if it is
    /// not inside one resource.
    pub(crate) fn new(start: u64, size: u64, name: &'static CStr) -> Result<Self, Refusal> {
        let any = bindings::IORES_DESC_NONE as usize;
        let ram = bindings::IORESOURCE_SYSTEM_RAM;
        // SAFETY: This compares the range with all resources, under their lock.
        let found = unsafe { bindings::region_intersects(start, size as usize, ram, any) };
        if found != bindings::REGION_DISJOINT {
            let part = if found == bindings::REGION_MIXED {
                "a part of "
            } else {
                ""
            };
            refuse!(EBUSY => "{part}the range is System RAM";
                "reserve it at boot, with memmap=SIZE$ADDRESS");
        }
        // SAFETY: The name is static.
        let resource = unsafe {
            bindings::__request_region(
                &raw mut bindings::iomem_resource,
                start,
                size,
                name.as_char_ptr(),
                0,
            )
        };
        if resource.is_null() && !is_in_one_resource(start, size) {
            refuse!(EINVAL => "the range is not inside one range of /proc/iomem";
                "name a part of one that is reserved");
        }
        if resource.is_null() {
            refuse!(EBUSY =>
                "the range belongs to a driver, or memory of the previous mount is still in use";
                "see /proc/iomem");
        }
        // The range inherits the descriptor of the innermost resource around it. It contains no
        // other one, or it could not have been requested.
        // SAFETY: The resource lives until the range is released, and does not change.
        let is_reserved = match unsafe { (*resource).desc } as u32 {
            bindings::IORES_DESC_RESERVED
            | bindings::IORES_DESC_SOFT_RESERVED
            | bindings::IORES_DESC_PERSISTENT_MEMORY
            | bindings::IORES_DESC_PERSISTENT_MEMORY_LEGACY => true,
            // It may be memory of a driver that is not loaded.
            // SAFETY: This compares the range with all resources, under their lock.
            bindings::IORES_DESC_NONE => unsafe {
                bindings::is_soft_reserved(start, start + (size - 1))
            },
            _ => false,
        };
        // INVARIANT: The range was requested above, and has no System RAM.
        Ok(Requested {
            start,
            size,
            is_reserved,
        })
    }

    /// Returns the address of the first byte.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns true if it is memory that is reserved, by its resource: for example by
    /// memmap=SIZE$ADDRESS, or for a driver.
    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the range is requested.
        unsafe {
            bindings::__release_region(&raw mut bindings::iomem_resource, self.start, self.size)
        };
    }
}
