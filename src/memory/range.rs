// SPDX-License-Identifier: GPL-2.0-only

//! Which ranges of physical addresses may be used, and requests for them.

use crate::bindings;
use crate::linux::fs::Refusal;
use crate::linux::global_mutex;
use core::ptr;
use kernel::{prelude::*, seq_file::SeqFile, sync::GlobalGuard};

global_mutex! {
    // Serializes requests for ranges and their mapping: two ranges whose descriptions fit into the
    // available memory need not fit together. Only memory, the lock of memory hotplug and the
    // console are waited for under it.
    static REQUESTING: () = ();
}

/// The turn to request and map a range. Until it is dropped, no other range is requested or mapped.
pub(super) struct Turn(#[allow(dead_code)] GlobalGuard<REQUESTING>);

impl Turn {
    /// Wait for the turn.
    pub(super) fn wait() -> Self {
        Turn(REQUESTING.lock())
    }
}

/// A range of physical addresses, in bytes.
///
/// # Invariants
///
/// It has whole pages, one at least, and ends at an address of this machine. The process that named
/// it may use physical addresses.
#[derive(Clone, Copy)]
pub(super) struct Range {
    start: u64,
    size: u64,
}

impl Range {
    /// Return the range of `size` bytes at `start`.
    ///
    /// # Errors
    ///
    /// `EPERM` if the process may not use physical addresses, or else `EINVAL`.
    pub(super) fn new(start: u64, size: u64) -> Result<Self, Refusal> {
        if !may_be_used() {
            return Err(Refusal::new(EPERM, fmt!("CAP_SYS_RAWIO is needed")));
        }
        // SAFETY: This may be called in the context of any process.
        if unsafe { bindings::security_locked_down(bindings::LOCKDOWN_DEV_MEM) } != 0 {
            return Err(Refusal::new(EPERM, fmt!("the kernel is locked down")));
        }
        if size == 0 || (start | size) & (bindings::PAGE_SIZE - 1) != 0 {
            return Err(unaligned());
        }
        // SAFETY: This reads a number.
        let end = unsafe { bindings::last_address() };
        if start.checked_add(size - 1).is_none_or(|last| last > end) {
            return Err(too_long());
        }
        // INVARIANT: This was checked above.
        Ok(Range { start, size })
    }

    /// Return the `part` of the range.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it does not have whole pages, one at least, or is not in the range.
    pub(super) fn part(&self, part: core::ops::Range<u64>) -> Result<Self, Refusal> {
        if part.is_empty() || (part.start | part.end) & (bindings::PAGE_SIZE - 1) != 0 {
            return Err(unaligned());
        }
        if part.end > self.size {
            return Err(too_long());
        }
        // INVARIANT: This was checked above.
        Ok(Range {
            start: self.start + part.start,
            size: part.end - part.start,
        })
    }

    /// Return the address of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Return the length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Return the address of the last byte.
    fn last(&self) -> u64 {
        self.start + (self.size - 1)
    }

    /// Return true if the whole range is in one resource with these flags.
    fn is_within(&self, flags: usize) -> bool {
        let mut found: Found = None;
        let argument = ptr::from_mut(&mut found).cast();
        let any = bindings::IORES_DESC_NONE as usize;
        let (start, last) = (self.start, self.last());
        // SAFETY: `visit` gets a pointer to a `Found`, and is not called after this returns.
        unsafe { bindings::walk_iomem_res_desc(any, flags, start, last, argument, Some(visit)) };
        // The walk clips resources to the range.
        found == Some((start, last))
    }

    /// Return true if the whole range is in one soft-reserved resource.
    fn is_soft_reserved(&self) -> bool {
        let mut found: Found = None;
        let argument = ptr::from_mut(&mut found).cast();
        let (start, last) = (self.start, self.last());
        // SAFETY: `visit` gets a pointer to a `Found`, and is not called after this returns.
        unsafe { bindings::walk_soft_reserve_res(start, last, argument, Some(visit)) };
        // The walk clips resources to the range.
        found == Some((start, last))
    }

    /// Return true if a part of the range is System RAM.
    fn has_ram(&self) -> bool {
        let any = bindings::IORES_DESC_NONE as usize;
        let (size, flags) = (self.size as usize, bindings::IORESOURCE_SYSTEM_RAM);
        // SAFETY: This takes any range.
        let found = unsafe { bindings::region_intersects(self.start, size, flags, any) };
        found != bindings::REGION_DISJOINT
    }

    /// Return true if the range is in memory of a PCI device that is not being removed: a
    /// prefetchable region, reads of which have no side effects, of a kind of device that has
    /// memory there.
    fn is_pci_memory(&self) -> bool {
        #[cfg(CONFIG_PCI)]
        // SAFETY: This takes any range.
        return unsafe { bindings::pci_range_is_memory(self.start, self.size) };
        #[cfg(not(CONFIG_PCI))]
        false
    }

    /// Return true if the range, which has no RAM in it, has struct pages.
    fn has_struct_pages(&self) -> bool {
        /// The smallest unit of memory that has struct pages.
        const STEP: u64 = 2 << 20;
        let mut at = self.start;
        while at < self.start + self.size {
            // SAFETY: This takes any number.
            if !unsafe { bindings::pfn_valid((at >> bindings::PAGE_SHIFT) as usize) } {
                return false;
            }
            at = (at | (STEP - 1)) + 1;
        }
        true
    }
}

/// The first and the last byte of a resource, if one was found.
type Found = Option<(u64, u64)>;

/// Store the first resource that a walk finds, and end the walk.
///
/// # Safety
///
/// `resource` must be valid, and `found` point to a [`Found`].
unsafe extern "C" fn visit(
    resource: *mut bindings::resource,
    found: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    // SAFETY: The walk passes a copy of a resource, which belongs to this call.
    let bounds = unsafe { ((*resource).start, (*resource).end) };
    // SAFETY: The caller of the walk passes a pointer to a `Found`.
    unsafe { *found.cast::<Found>() = Some(bounds) };
    1
}

fn unaligned() -> Refusal {
    Refusal::new(
        EINVAL,
        fmt!("address and size must be multiples of the page size, and not 0"),
    )
}

fn too_long() -> Refusal {
    Refusal::new(EINVAL, fmt!("the range ends after the last address"))
}

/// Return why a range is refused that may have registers in it.
pub(super) fn not_memory() -> Refusal {
    Refusal::new(
        EINVAL,
        fmt!(
            "the range is not memory: neither reserved at boot nor a prefetchable region of a PCI \
         device with memory, or not cached"
        ),
    )
    .remedy("see /proc/iomem")
}

/// A range that is requested from the kernel. Dropping it releases the range.
///
/// # Invariants
///
/// The range is requested.
pub(super) struct ClaimedRange {
    range: Range,
    /// Set if the range is memory of a PCI device, which may be removed.
    is_pci: bool,
}

impl ClaimedRange {
    /// Request `range`, which must be memory.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is System RAM or belongs to a driver, `EINVAL` if it is not memory.
    pub(super) fn new(range: Range, _turn: &Turn) -> Result<Self, Refusal> {
        let Range { start, size } = range;
        if range.has_ram() {
            return Err(Refusal::new(EBUSY, fmt!("the range is System RAM"))
                .remedy("reserve it at boot, with memmap=SIZE$ADDRESS"));
        }
        // On arm64, memory that the device tree or the firmware reserves has no descriptor. Unlike
        // registers it has struct pages.
        let reserved = cfg!(CONFIG_ARM64)
            && range.is_within(bindings::IORESOURCE_MEM)
            && range.has_struct_pages();
        let name = c"daxfs".as_char_ptr();
        // SAFETY: The name is static.
        let resource = unsafe { bindings::request_mem_region(start, size, name) };
        if resource.is_null() {
            return Err(Refusal::new(
                EBUSY,
                fmt!(
                "the range belongs to a driver, or memory of the previous mount is still in use"
            ),
            )
            .remedy("see /proc/iomem"));
        }
        // INVARIANT: The range was requested above.
        let mut claim = ClaimedRange {
            range,
            is_pci: false,
        };
        // SAFETY: By the type invariant the resource lives as long as `claim`, and does not change.
        let kind = unsafe { (*resource).desc };
        if !reserved && !claim.is_reserved(kind as u32) {
            claim.is_pci = range.is_pci_memory();
            if !claim.is_pci {
                return Err(not_memory());
            }
        }
        Ok(claim)
    }

    /// Return the range.
    pub(super) fn range(&self) -> Range {
        self.range
    }

    /// Return true if the range is memory of a PCI device, which may be removed.
    pub(super) fn is_pci(&self) -> bool {
        self.is_pci
    }

    /// Return true if the range is reserved memory, rather than of a device or a hole.
    ///
    /// `kind` is the descriptor of the requested resource, which is that of the innermost resource
    /// around it. The range contains no other resource, or it could not have been requested.
    fn is_reserved(&self, kind: u32) -> bool {
        match kind {
            // Reserved at boot, for example by memmap=SIZE$ADDRESS, or for a driver.
            bindings::IORES_DESC_RESERVED
            | bindings::IORES_DESC_SOFT_RESERVED
            | bindings::IORES_DESC_PERSISTENT_MEMORY
            | bindings::IORES_DESC_PERSISTENT_MEMORY_LEGACY => true,
            // A soft-reserved range is memory for a driver that is not loaded.
            bindings::IORES_DESC_NONE => self.range.is_soft_reserved(),
            _ => false,
        }
    }
}

impl Drop for ClaimedRange {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the range is requested.
        unsafe { bindings::release_mem_region(self.range.start, self.range.size) };
    }
}

/// Return true if the calling process may use physical addresses.
fn may_be_used() -> bool {
    // SAFETY: This may be called in the context of any process.
    unsafe { bindings::capable(bindings::CAP_SYS_RAWIO) }
}

/// Return true if the process that opened the file of `seq` may see physical addresses. Another one
/// may read it, with more capabilities or less. statmount(2) has no file, and asks for itself.
pub(super) fn may_be_shown(seq: &SeqFile) -> bool {
    let seq = ptr::from_ref(seq).cast::<bindings::seq_file>();
    // SAFETY: `SeqFile` is transparent over the C struct, whose file does not change.
    let file = unsafe { (*seq).file };
    if file.is_null() {
        return may_be_used();
    }
    // SAFETY: The file of a seq_file that is read is open. The namespace is static.
    unsafe {
        bindings::file_ns_capable(
            file,
            &raw mut bindings::init_user_ns,
            bindings::CAP_SYS_RAWIO,
        )
    }
}
