// SPDX-License-Identifier: GPL-2.0

//! A reserved range of physical addresses.
//!
//! The range gets struct pages and a DAX device of its own, so that mappings work with direct I/O, ptrace and
//! pinning. Where the kernel cannot make struct pages for it (it takes an alignment of 2 MiB on x86-64), the range
//! is mapped without.

use super::lease::Lease;
use super::{dax, poison, CacheMode, DaxRange, Files, Mapping, Region, Shown, Source};
use crate::bindings;
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use kernel::{error::from_err_ptr, prelude::*, sync::Arc};

/// Why a range cannot be had.
pub(crate) enum OpenError {
    /// `CAP_SYS_RAWIO` is missing.
    NotPermitted,
    /// The kernel is locked down.
    LockedDown,
    /// Address or size is no multiple of the page size, or the size is 0.
    Unaligned,
    /// The end is no address of this machine.
    Overflow,
    /// The range is, or overlaps, the system's own memory.
    SystemRam,
    /// Not all of the range is memory.
    Registers,
    /// A driver has claimed the range, or a part of it.
    Busy,
    /// Something else.
    Other(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Other(error)
    }
}

impl From<dax::OpenError> for OpenError {
    fn from(error: dax::OpenError) -> Self {
        match error {
            dax::OpenError::Refused(_, error) | dax::OpenError::Other(error) => {
                OpenError::Other(error)
            }
            // Our own device has none of the other troubles.
            _ => OpenError::Other(ENXIO),
        }
    }
}

/// What kinds of resources there are to look at.
enum Resources {
    Memory,
    Prefetchable,
    SoftReserved,
}

/// Where a range lies, in bytes.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    size: u64,
}

impl Range {
    /// Returns whether a walk of `resources` finds one that has all of the range.
    fn is_within(&self, resources: Resources) -> bool {
        let last = self.start + (self.size - 1);
        let mut found: Found = None;
        let argument = ptr::from_mut(&mut found).cast();
        // Calls by name: kCFI has another type for a C function that takes a function than Rust has.
        // SAFETY: The visitor gets what it expects. Neither outlives the call.
        unsafe {
            match resources {
                Resources::Memory => {
                    bindings::daxfs_helper_walk_memory(self.start, last, argument, Some(visit))
                }
                Resources::Prefetchable => bindings::daxfs_helper_walk_prefetchable(
                    self.start,
                    last,
                    argument,
                    Some(visit),
                ),
                Resources::SoftReserved => {
                    bindings::walk_soft_reserve_res(self.start, last, argument, Some(visit))
                }
            }
        };
        // The walk cuts resources to the range.
        found == Some((self.start, last))
    }

    /// Returns whether the range, which has no RAM in it, has struct pages.
    fn has_struct_pages(&self) -> bool {
        /// The smallest piece of memory that gets struct pages.
        const STEP: u64 = 2 << 20;
        let mut at = self.start;
        while at < self.start + self.size {
            // SAFETY: May be called with any number.
            if !unsafe { bindings::daxfs_helper_frame_valid(at >> bindings::DAXFS_PAGE_SHIFT) } {
                return false;
            }
            at = (at | (STEP - 1)) + 1;
        }
        true
    }
}

/// The first and the last byte of a resource, once one was found.
type Found = Option<(u64, u64)>;

/// Notes the first resource that a walk comes to, and ends the walk.
///
/// # Safety
///
/// As the C function type has it; `found` must point to a [`Found`].
unsafe extern "C" fn visit(
    resource: *mut bindings::resource,
    found: *mut kernel::ffi::c_void,
) -> kernel::ffi::c_int {
    // SAFETY: By the contract this is a copy of a resource, which only this call uses.
    let bounds = unsafe { ((*resource).start, (*resource).end) };
    // SAFETY: By the contract.
    unsafe { *found.cast::<Found>() = Some(bounds) };
    1
}

/// A range that we have claimed.
///
/// # Invariants
///
/// The range is requested in our name.
struct Claim(Range);

impl Claim {
    /// Claims `range` after checking that it may be.
    fn new(range: Range) -> Result<Self, OpenError> {
        // SAFETY: Asks about the calling task and the system.
        unsafe {
            if !bindings::daxfs_helper_may_map_physical() {
                return Err(OpenError::NotPermitted);
            }
            if bindings::daxfs_helper_locked_down() {
                return Err(OpenError::LockedDown);
            }
        }
        let Range { start, size } = range;
        if size == 0 || (start | size) & (bindings::DAXFS_PAGE_SIZE - 1) != 0 {
            return Err(OpenError::Unaligned);
        }
        let fits = start.checked_add(size - 1).is_some_and(|last| {
            // SAFETY: Looks at a number.
            unsafe { bindings::daxfs_helper_physical_valid(last) }
        });
        if !fits {
            return Err(OpenError::Overflow);
        }
        // SAFETY: Looks at the kernel's list of resources.
        if unsafe { bindings::daxfs_helper_is_ram(start, size) } {
            return Err(OpenError::SystemRam);
        }
        // Memory that the device tree or the firmware keeps from the kernel has no descriptor on arm64. Unlike
        // registers it has struct pages.
        let kept =
            cfg!(CONFIG_ARM64) && range.is_within(Resources::Memory) && range.has_struct_pages();
        // SAFETY: Adds to the kernel's list of resources, with a constant name.
        let resource = unsafe { bindings::daxfs_helper_claim(start, size) };
        if resource.is_null() {
            return Err(OpenError::Busy);
        }
        // INVARIANT: Requested just now.
        let claim = Claim(range);
        // SAFETY: By the invariant the resource is ours, and nobody changes it.
        let kind = unsafe { (*resource).desc };
        if !kept && !claim.is_memory(kind as u32) {
            return Err(OpenError::Registers);
        }
        Ok(claim)
    }

    /// Returns whether the range is memory, rather than a device's registers or a hole.
    ///
    /// `kind` is the descriptor of our resource, which has that of the innermost resource around it. The range holds
    /// no part of another resource: it could not have been claimed then.
    fn is_memory(&self, kind: u32) -> bool {
        match kind {
            // Reserved at boot, as by memmap=SIZE$ADDRESS, or for a driver.
            bindings::IORES_DESC_RESERVED
            | bindings::IORES_DESC_SOFT_RESERVED
            | bindings::IORES_DESC_PERSISTENT_MEMORY
            | bindings::IORES_DESC_PERSISTENT_MEMORY_LEGACY => true,
            bindings::IORES_DESC_NONE => {
                // Reading a prefetchable region of a device has no side effects.
                self.0.is_within(Resources::Prefetchable)
                    // Reserved for a driver that has not come yet.
                    || self.0.is_within(Resources::SoftReserved)
            }
            _ => false,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is ours to release.
        unsafe { bindings::daxfs_helper_unclaim(self.0.start, self.0.size) };
    }
}

/// A claimed range with struct pages.
///
/// # Invariants
///
/// `pages` describes what memremap_pages() has mapped at `base`. Pinned in memory by its box.
struct Pages {
    pages: bindings::dev_pagemap,
    base: NonNull<u8>,
    claim: Claim,
    lease: Arc<Lease>,
}

// SAFETY: The mapping is bound to no thread.
unsafe impl Send for Pages {}
// SAFETY: A shared reference gives access to nothing that changes.
unsafe impl Sync for Pages {}

impl Pages {
    const OPERATIONS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        memory_failure: Some(Self::memory_failure),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    /// Handle the failure of `count` page frames from `frame` on.
    ///
    /// # Safety
    ///
    /// As for `struct dev_pagemap_ops`.
    unsafe extern "C" fn memory_failure(
        pages: *mut bindings::dev_pagemap,
        frame: usize,
        count: usize,
        flags: kernel::ffi::c_int,
    ) -> kernel::ffi::c_int {
        let this = pages
            .wrapping_byte_sub(offset_of!(Pages, pages))
            .cast::<Pages>();
        // SAFETY: The description is inside of a `Pages`, whose frames these are; memunmap_pages(), and with it the end
        // of the object, waits for this call.
        let (lease, start) = unsafe { (&(*this).lease, (*this).claim.0.start) };
        for frame in frame..frame.saturating_add(count) {
            poison::record(frame);
            let offset = ((frame as u64) << bindings::DAXFS_PAGE_SHIFT) - start;
            lease.page_failed(offset, frame, flags);
        }
        0
    }

    /// Make struct pages for `claim`, or give it back if that cannot be done.
    fn new(claim: Claim, lease: &Arc<Lease>) -> Result<KBox<Self>, Claim> {
        let Range { start, size } = claim.0;
        // SAFETY: Looks at a number.
        if (start | size) & (unsafe { bindings::memremap_compat_align() } as u64 - 1) != 0 {
            return Err(claim);
        }
        // SAFETY: Zero is a valid value of every member.
        let mut pages: bindings::dev_pagemap = unsafe { core::mem::zeroed() };
        pages.type_ = bindings::memory_type_MEMORY_DEVICE_FS_DAX;
        pages.nr_range = 1;
        pages.ops = &Self::OPERATIONS;
        // SAFETY: The union's only member of a fixed size, and zero so far.
        let range = unsafe { pages.__bindgen_anon_1.range.as_mut() };
        range.start = start;
        range.end = start + size - 1;
        let Ok(place) = KBox::<Self>::new_uninit(GFP_KERNEL) else {
            return Err(claim);
        };
        // INVARIANT: Not yet, but nothing sees it before the call below.
        let mut place = place.write(Pages {
            pages,
            base: NonNull::dangling(),
            claim,
            lease: lease.clone(),
        });
        // SAFETY: The description is complete and stays where it is; the range is claimed and no RAM.
        let mapped = from_err_ptr(unsafe {
            bindings::memremap_pages(
                &mut place.pages,
                bindings::daxfs_helper_physical_node(start),
            )
        });
        match mapped.ok().and_then(|base| NonNull::new(base.cast())) {
            Some(base) => {
                place.base = base;
                // The struct pages are new, the memory is not.
                let shift = bindings::DAXFS_PAGE_SHIFT;
                poison::mark_recorded((start >> shift) as usize, (size >> shift) as usize);
                Ok(place)
            }
            None => {
                // Nothing was mapped, so there is nothing to unmap.
                let place = core::mem::ManuallyDrop::new(KBox::into_inner(place));
                // SAFETY: Each is read once, and what it was read from is forgotten.
                unsafe {
                    drop(ptr::read(&place.lease));
                    Err(ptr::read(&place.claim))
                }
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the invariant. The lease has seen the last user of a page. The claim is released after this.
        unsafe { bindings::memunmap_pages(&mut self.pages) };
    }
}

/// A DAX device of our own over a range with struct pages.
///
/// # Invariants
///
/// `device` was made by alloc_dax() with `_pages` as its private data.
struct OwnDax {
    device: NonNull<bindings::dax_device>,
    _pages: KBox<Pages>,
}

// SAFETY: As for `Pages`; the device is counted by reference.
unsafe impl Send for OwnDax {}
// SAFETY: As above.
unsafe impl Sync for OwnDax {}

// SAFETY: The pages live as long as the object.
unsafe impl Source for OwnDax {}

// The contracts of the C functions are those of `struct dax_operations`.
#[allow(clippy::missing_safety_doc)]
impl OwnDax {
    const OPERATIONS: bindings::dax_operations = bindings::dax_operations {
        direct_access: Some(bindings::daxfs_helper_direct_access),
        zero_page_range: Some(Self::zero_page_range),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    fn new(pages: KBox<Pages>) -> Result<Self> {
        let private: *const Pages = &*pages;
        // SAFETY: The box outlives the device: see `drop`. The table is static.
        let device = from_err_ptr(unsafe {
            bindings::alloc_dax(private.cast_mut().cast(), &Self::OPERATIONS)
        })?;
        // INVARIANT: Made just now.
        Ok(OwnDax {
            device: NonNull::new(device).ok_or(ENOMEM)?,
            _pages: pages,
        })
    }

    /// Required by the DAX core, never called on a read-only filesystem.
    unsafe extern "C" fn zero_page_range(
        _device: *mut bindings::dax_device,
        _page: usize,
        _count: usize,
    ) -> kernel::ffi::c_int {
        EROFS.to_errno()
    }
}

/// Serves `direct_access` of our DAX devices, by way of a function in C that has the type that kCFI expects.
///
/// # Safety
///
/// `device` must be one of ours and alive; `address` and `frame` must be null or valid for writes.
#[no_mangle]
unsafe extern "C" fn daxfs_direct_access(
    device: *mut bindings::dax_device,
    page: usize,
    count: isize,
    address: *mut *mut kernel::ffi::c_void,
    frame: *mut usize,
) -> isize {
    // SAFETY: The DAX core calls this on our device while it is alive, with places to fill or null.
    unsafe {
        let pages = bindings::dax_get_private(device).cast::<Pages>();
        if pages.is_null() {
            return ENXIO.to_errno() as isize;
        }
        let Range { start, size } = (*pages).claim.0;
        let offset = (page as u64) << bindings::DAXFS_PAGE_SHIFT;
        if offset >= size {
            return ERANGE.to_errno() as isize;
        }
        if !address.is_null() {
            let base = (*pages).base.as_ptr();
            *address = base.wrapping_add(offset as usize).cast();
        }
        if !frame.is_null() {
            *frame = ((start + offset) >> bindings::DAXFS_PAGE_SHIFT) as usize;
        }
        let left = (size - offset) >> bindings::DAXFS_PAGE_SHIFT;
        count.min(left as isize)
    }
}

impl Drop for OwnDax {
    fn drop(&mut self) {
        // SAFETY: By the invariant; the first call waits until nobody is in `direct_access`, the second gives
        // back the reference that alloc_dax() got. The pages are unmapped behind this.
        unsafe {
            bindings::kill_dax(self.device.as_ptr());
            bindings::put_dax(self.device.as_ptr());
        }
    }
}

/// A claimed range without struct pages.
///
/// # Invariants
///
/// memremap() has mapped the range at `base`.
struct Frames {
    base: NonNull<u8>,
    _claim: Claim,
}

// SAFETY: The mapping is bound to no thread.
unsafe impl Send for Frames {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Frames {}

// SAFETY: The mapping lives as long as the object.
unsafe impl Source for Frames {}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::memunmap(self.base.as_ptr().cast()) };
    }
}

/// Return whether the calling process may know physical addresses.
pub(super) fn may_be_known() -> bool {
    // SAFETY: Asks about the calling task.
    unsafe { bindings::daxfs_helper_may_map_physical() }
}

/// Map `size` bytes from physical address `start` on.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open(start: u64, size: u64, lease: &Arc<Lease>) -> Result<Region, OpenError> {
    let shown = Shown::Phys { start, size };
    let claim = Claim::new(Range { start, size })?;
    let claim = match Pages::new(claim, lease) {
        Ok(pages) => {
            let own = OwnDax::new(pages)?;
            let range = DaxRange {
                device: own.device,
                offset: 0,
            };
            lease.open(KBox::new(own, GFP_KERNEL).map_err(Error::from)?);
            return Ok(dax::region(range, size, shown, lease.clone())?);
        }
        Err(claim) => claim,
    };
    pr_info!("phys={start:#x}: no struct pages for this range: no direct I/O and no ptrace on mappings\n");
    // SAFETY: The range is claimed and no RAM.
    let base = unsafe { bindings::memremap(start, size as usize, bindings::DAXFS_MEMREMAP_WB) };
    // INVARIANT: Mapped just now.
    let frames = Frames {
        base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
        _claim: claim,
    };
    let mapping = Mapping {
        base: frames.base,
        size,
        io: false,
    };
    lease.open(KBox::new(frames, GFP_KERNEL).map_err(Error::from)?);
    Ok(Region::new(
        mapping,
        Files::Frames {
            io: false,
            cache: CacheMode::WriteBack,
        },
        shown,
        lease.clone(),
    ))
}
