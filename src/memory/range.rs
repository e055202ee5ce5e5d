// SPDX-License-Identifier: GPL-2.0-only

//! Which ranges of physical addresses may be used, and requests for them.
//!
//! Nothing that we could keep holds the memory of a PCI device. The driver core calls a notifier of
//! the bus before it removes the device, and the PCI core frees its resources after that. Both
//! happen under a lock of all PCI devices, where we must not wait without bound. So we map such
//! memory without struct pages, and nobody can pin it.

use super::registry;
use crate::linux::ioport::{
    self,
    Requested, //
};
use crate::linux::{
    pagemap,
    pci,
    security, //
};
use crate::prelude::*;
use kernel::{
    device::Device,
    sync::GlobalGuard, //
};

global_mutex! {
    // Serializes requests for ranges and their mapping: if the descriptions of each of two ranges
    // fit into the available memory, both together need not. Under it, wait only for memory, the
    // memory hotplug lock and the console.
    static REQUESTING: () = ();
}

/// The turn to request and map a range. Nobody else does until you drop it.
pub(super) struct RequestLock(#[allow(dead_code)] GlobalGuard<REQUESTING>);

impl RequestLock {
    /// Waits for the turn.
    pub(super) fn wait() -> Self {
        RequestLock(REQUESTING.lock())
    }
}

/// Checks that the process may use the `size` bytes at physical address `start`, and that they are
/// whole pages of this machine.
///
/// Errors: `EPERM` if the process may not use physical addresses, or else `EINVAL`.
pub(crate) fn check(start: u64, size: u64) -> Result<(), Refusal> {
    if !security::has_raw_io() {
        refuse!(EPERM => "CAP_SYS_RAWIO is needed");
    }
    if security::is_locked_down() {
        refuse!(EPERM => "the kernel is locked down");
    }
    if size == 0 || (start | size) % PAGE_SIZE as u64 != 0 {
        refuse!(EINVAL => "address and size must be multiples of the page size, and not 0");
    }
    let end = start.checked_add(size);
    if end.is_none_or(|end| end - 1 > ioport::last_address()) {
        refuse!(EINVAL => "the range ends after the last address");
    }
    Ok(())
}

/// A requested range, which is memory as far as we know.
pub(super) struct RequestedRange {
    pub(super) requested: Requested,
    /// Set if the range is memory of a PCI device, which may be removed.
    pub(super) is_pci: bool,
}

impl RequestedRange {
    /// Requests the `size` bytes at `start`, which must be memory.
    ///
    /// Errors: `EBUSY` if it is System RAM or belongs to a driver, `EINVAL` if it is not memory.
    pub(super) fn new(start: u64, size: u64, _turn: &RequestLock) -> Result<Self, Refusal> {
        // On arm64, memory that the device tree or the firmware reserves has no descriptor. Unlike
        // registers it has struct pages.
        let reserved = cfg!(CONFIG_ARM64)
            && ioport::is_in_one_resource(start, size)
            && pagemap::has_struct_pages(start, size);
        let requested = Requested::new(start, size, c"daxfs")?;
        let reserved = reserved || requested.is_reserved();
        let is_pci = !reserved && pci::is_memory(start, size);
        if reserved || is_pci {
            Ok(RequestedRange { requested, is_pci })
        } else {
            Err(not_memory())
        }
    }
}

/// Refuses a range that may contain registers.
pub(super) fn not_memory() -> Refusal {
    refusal!(EINVAL =>
        "the range is not memory: neither reserved at boot nor a prefetchable region of a PCI \
         device with memory, or not cached";
        "see /proc/iomem")
}

/// Releases the memory of a PCI device that is about to be removed.
pub(super) fn removing(device: &Device) {
    // Wait for requests in progress. Later ones find that the device is being removed.
    drop(RequestLock::wait());
    let is_there = |(start, size)| pci::has_range(device, start, size);
    while let Some(lease) = registry::find_by(|uses| uses.pci.is_some_and(is_there)) {
        lease.revoke();
        lease.drain();
        // Without struct pages, no page is in use now, so this releases the memory.
        lease.proceed();
        lease.uses.lock().pci = None;
    }
}
