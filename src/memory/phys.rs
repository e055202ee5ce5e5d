// SPDX-License-Identifier: GPL-2.0-only

//! A reserved range of physical addresses.
//!
//! The range gets struct pages and its own DAX device, so that direct I/O, ptrace(2) and pinning
//! work on mappings. If the kernel cannot make struct pages for it (on x86-64 it must be aligned to
//! 2 MiB), the range is mapped without them.

use super::lease::Lease;
use super::{dax, poison, DaxRange, MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::vfs::CacheMode;
use core::mem::{offset_of, ManuallyDrop};
use core::ptr::{self, NonNull};
use kernel::{error::from_err_ptr, prelude::*, sync::Arc};

/// Reasons why a range cannot be opened.
pub(crate) enum OpenError {
    /// `CAP_SYS_RAWIO` is missing.
    NotPermitted,
    /// The kernel is locked down.
    LockedDown,
    /// The address or the size is not a multiple of the page size, or the size is 0.
    Unaligned,
    /// The end is not a physical address of this machine.
    Overflow,
    /// The range overlaps System RAM.
    SystemRam,
    /// The range is not memory.
    Registers,
    /// A driver has claimed a part of the range.
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
            // The other errors cannot happen with our own device.
            _ => OpenError::Other(ENXIO),
        }
    }
}

/// A range of physical addresses, in bytes.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    size: u64,
}

impl Range {
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

/// A range that is requested from the kernel. Dropping it releases the range.
///
/// # Invariants
///
/// The range is requested.
struct ClaimedRange(Range);

impl ClaimedRange {
    /// Request `range` after checking that it may be used.
    fn new(range: Range) -> Result<Self, OpenError> {
        if !may_be_known() {
            return Err(OpenError::NotPermitted);
        }
        // SAFETY: This may be called in the context of any process.
        if unsafe { bindings::security_locked_down(bindings::LOCKDOWN_DEV_MEM) } != 0 {
            return Err(OpenError::LockedDown);
        }
        let Range { start, size } = range;
        if size == 0 || (start | size) & (bindings::PAGE_SIZE - 1) != 0 {
            return Err(OpenError::Unaligned);
        }
        // SAFETY: This reads a number.
        let end = unsafe { bindings::last_address() };
        if start.checked_add(size - 1).is_none_or(|last| last > end) {
            return Err(OpenError::Overflow);
        }
        if range.has_ram() {
            return Err(OpenError::SystemRam);
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
            return Err(OpenError::Busy);
        }
        // INVARIANT: The range was requested above.
        let claim = ClaimedRange(range);
        // SAFETY: By the type invariant the resource lives as long as `claim`, and does not change.
        let kind = unsafe { (*resource).desc };
        if !reserved && !claim.is_memory(kind as u32) {
            return Err(OpenError::Registers);
        }
        Ok(claim)
    }

    /// Return true if the range is memory, rather than registers of a device or a hole.
    ///
    /// `kind` is the descriptor of the requested resource, which is that of the innermost resource
    /// around it. The range contains no other resource, or it could not have been requested.
    fn is_memory(&self, kind: u32) -> bool {
        match kind {
            // Reserved at boot, for example by memmap=SIZE$ADDRESS, or for a driver.
            bindings::IORES_DESC_RESERVED
            | bindings::IORES_DESC_SOFT_RESERVED
            | bindings::IORES_DESC_PERSISTENT_MEMORY
            | bindings::IORES_DESC_PERSISTENT_MEMORY_LEGACY => true,
            bindings::IORES_DESC_NONE => {
                // Reads of a prefetchable region of a device have no side effects. A soft-reserved
                // range is memory for a driver that is not loaded.
                let prefetchable = bindings::IORESOURCE_MEM | bindings::IORESOURCE_PREFETCH;
                self.0.is_within(prefetchable) || self.0.is_soft_reserved()
            }
            _ => false,
        }
    }
}

impl Drop for ClaimedRange {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the range is requested.
        unsafe { bindings::release_mem_region(self.0.start, self.0.size) };
    }
}

/// A claimed range with struct pages.
///
/// # Invariants
///
/// memremap_pages() has mapped the range of `pages` at `base`. The object does not move.
struct Pages {
    pages: bindings::dev_pagemap,
    base: NonNull<u8>,
    claim: ClaimedRange,
    lease: Arc<Lease>,
}

// SAFETY: The range may be unmapped by any thread.
unsafe impl Send for Pages {}
// SAFETY: Nothing that a shared reference gives access to changes.
unsafe impl Sync for Pages {}

impl Pages {
    const OPERATIONS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        memory_failure: Some(Self::memory_failure),
        ..pin_init::zeroed()
    };

    /// Handle the failure of `count` page frames, starting with `frame`.
    ///
    /// # Safety
    ///
    /// `pages` must be the field of a `Pages`, and the frames in its range.
    unsafe extern "C" fn memory_failure(
        pages: *mut bindings::dev_pagemap,
        frame: usize,
        count: usize,
        flags: kernel::ffi::c_int,
    ) -> kernel::ffi::c_int {
        let this = pages
            .wrapping_byte_sub(offset_of!(Pages, pages))
            .cast::<Pages>();
        // SAFETY: The caller passes the field of a `Pages`. Its drop, in memunmap_pages(), waits
        // for this call.
        let (lease, start) = unsafe { (&(*this).lease, (*this).claim.0.start) };
        for frame in frame..frame.saturating_add(count) {
            poison::record(frame);
            let offset = ((frame as u64) << bindings::PAGE_SHIFT) - start;
            lease.page_failed(offset, frame, flags);
        }
        0
    }

    /// Make struct pages for `claim`, or return it if that is not possible.
    fn new(claim: ClaimedRange, lease: &Arc<Lease>) -> Result<KBox<Self>, ClaimedRange> {
        let Range { start, size } = claim.0;
        // SAFETY: This returns a number.
        let align = unsafe { bindings::memremap_compat_align() } as u64;
        if (start | size) & (align - 1) != 0 {
            return Err(claim);
        }
        let mut pages = bindings::dev_pagemap {
            type_: bindings::memory_type_MEMORY_DEVICE_FS_DAX,
            nr_range: 1,
            ops: &Self::OPERATIONS,
            ..bindings::dev_pagemap::default()
        };
        // SAFETY: With one range, this is the union's live member. It is initialized with zeros.
        let range = unsafe { pages.__bindgen_anon_1.range.as_mut() };
        range.start = start;
        range.end = start + size - 1;
        let Ok(place) = KBox::<Self>::new_uninit(GFP_KERNEL) else {
            return Err(claim);
        };
        // INVARIANT: The range is mapped below, and the object is not used or dropped before that.
        let mut place = place.write(Pages {
            pages,
            base: NonNull::dangling(),
            claim,
            lease: lease.clone(),
        });
        // SAFETY: This takes any address.
        let node = unsafe { bindings::phys_to_target_node(start) };
        // SAFETY: The description is complete, and the box does not move. The range is requested,
        // and has no RAM in it.
        let mapped = from_err_ptr(unsafe { bindings::memremap_pages(&mut place.pages, node) });
        match mapped.ok().and_then(|base| NonNull::new(base.cast())) {
            Some(base) => {
                place.base = base;
                // The struct pages are new, so mark those whose memory has failed before.
                let shift = bindings::PAGE_SHIFT;
                poison::mark_recorded((start >> shift) as usize, (size >> shift) as usize);
                Ok(place)
            }
            None => {
                // Nothing was mapped, so `drop`, which unmaps the range, must not run.
                let place = ManuallyDrop::new(KBox::into_inner(place));
                // SAFETY: The field is read once, and not dropped.
                drop(unsafe { ptr::read(&place.lease) });
                // SAFETY: The field is read once, and not dropped.
                Err(unsafe { ptr::read(&place.claim) })
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the range is mapped. The lease has waited for the last user
        // of a page. The range is released after this.
        unsafe { bindings::memunmap_pages(&mut self.pages) };
    }
}

/// Our own DAX device, of a range with struct pages.
///
/// # Invariants
///
/// alloc_dax() has made `device`, with `_pages` as its private data.
struct OwnDax {
    device: NonNull<bindings::dax_device>,
    _pages: KBox<Pages>,
}

// SAFETY: `Pages` is `Send`, and a DAX device may be killed by any thread.
unsafe impl Send for OwnDax {}
// SAFETY: `Pages` is `Sync`, and a DAX device may be used by several threads at the same time.
unsafe impl Sync for OwnDax {}

// SAFETY: Only the drop kills the device and unmaps the range.
unsafe impl Owner for OwnDax {}

impl OwnDax {
    const OPERATIONS: bindings::dax_operations = bindings::dax_operations {
        direct_access: Some(bindings::dax_operation_direct_access),
        zero_page_range: Some(Self::zero_page_range),
        ..pin_init::zeroed()
    };

    fn new(pages: KBox<Pages>) -> Result<Self> {
        let private: *const Pages = &*pages;
        // SAFETY: The box lives until `drop` has killed the device. The table is static.
        let device = from_err_ptr(unsafe {
            bindings::alloc_dax(private.cast_mut().cast(), &Self::OPERATIONS)
        })?;
        // INVARIANT: The device was made above.
        Ok(OwnDax {
            device: NonNull::new(device).ok_or(ENOMEM)?,
            _pages: pages,
        })
    }

    /// Refuse to write. The DAX core requires this function, but does not call it for a read-only
    /// filesystem.
    ///
    /// # Safety
    ///
    /// None.
    unsafe extern "C" fn zero_page_range(
        _device: *mut bindings::dax_device,
        _page: usize,
        _count: usize,
    ) -> kernel::ffi::c_int {
        EROFS.to_errno()
    }
}

/// Return the number of pages from `page` on, at most `count`, and the address and the frame of the
/// first one. This is `direct_access` of `struct dax_operations` without the mode. That is an enum,
/// and kCFI includes it in a type that Rust cannot name, so a shim in C calls this.
///
/// # Safety
///
/// `device` must be that of an `OwnDax`, and `address` and `frame` null or valid for writing.
#[no_mangle]
unsafe extern "C" fn daxfs_direct_access(
    device: *mut bindings::dax_device,
    page: usize,
    count: isize,
    address: *mut *mut kernel::ffi::c_void,
    frame: *mut usize,
) -> isize {
    // SAFETY: The caller passes a valid device.
    let pages = unsafe { bindings::dax_get_private(device) }.cast::<Pages>();
    // SAFETY: The private data of a live device is a box that `drop` frees after killing it.
    let Some(pages) = (unsafe { pages.as_ref() }) else {
        return ENXIO.to_errno() as isize;
    };
    let Range { start, size } = pages.claim.0;
    let offset = (page as u64) << bindings::PAGE_SHIFT;
    if offset >= size {
        return ERANGE.to_errno() as isize;
    }
    if !address.is_null() {
        let at = pages.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: The caller passes a place that is valid for writing.
        unsafe { *address = at.cast() };
    }
    if !frame.is_null() {
        // SAFETY: The caller passes a place that is valid for writing.
        unsafe { *frame = ((start + offset) >> bindings::PAGE_SHIFT) as usize };
    }
    let left = (size - offset) >> bindings::PAGE_SHIFT;
    count.min(left as isize)
}

impl Drop for OwnDax {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the device is valid. This waits for `direct_access`.
        unsafe { bindings::kill_dax(self.device.as_ptr()) };
        // SAFETY: This is the reference that alloc_dax() returned. The range is unmapped after
        // this.
        unsafe { bindings::put_dax(self.device.as_ptr()) };
    }
}

/// A claimed range without struct pages.
///
/// # Invariants
///
/// memremap() has mapped the range at `base`.
struct Frames {
    base: NonNull<u8>,
    _claim: ClaimedRange,
}

// SAFETY: The range may be unmapped by any thread.
unsafe impl Send for Frames {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Frames {}

// SAFETY: Only the drop unmaps the range.
unsafe impl Owner for Frames {}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: By the type invariant memremap() returned this.
        unsafe { bindings::memunmap(self.base.as_ptr().cast()) };
    }
}

/// Return true if the calling process may use and see physical addresses.
pub(super) fn may_be_known() -> bool {
    // SAFETY: This may be called in the context of any process.
    unsafe { bindings::capable(bindings::CAP_SYS_RAWIO) }
}

/// Open the region of `size` bytes at physical address `start`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open(start: u64, size: u64, tenure: &Tenure) -> Result<Region, OpenError> {
    let lease = tenure.lease();
    let shown = Shown::Phys { start, size };
    let claim = ClaimedRange::new(Range { start, size })?;
    let claim = match Pages::new(claim, lease) {
        Ok(pages) => {
            let own = OwnDax::new(pages)?;
            let range = DaxRange {
                device: own.device,
                offset: 0,
            };
            lease.open(KBox::new(own, GFP_KERNEL).map_err(Error::from)?)?;
            // SAFETY: The owner in the lease is the device, which keeps the memory mapped.
            return Ok(unsafe { dax::region(range, size, shown, tenure) }?);
        }
        Err(claim) => claim,
    };
    pr_info!(
        "phys={start:#x}: no struct pages for this range: \
         no direct I/O and no ptrace on mappings\n"
    );
    // SAFETY: The range is requested, and has no RAM in it.
    let base = unsafe { bindings::memremap(start, size as usize, bindings::MEMREMAP_WB) };
    // INVARIANT: The range was mapped above.
    let frames = Frames {
        base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
        _claim: claim,
    };
    let window = Window {
        base: frames.base,
        size,
        io: false,
    };
    lease.open(KBox::new(frames, GFP_KERNEL).map_err(Error::from)?)?;
    let method = MapMethod::Frames(CacheMode::WriteBack);
    // SAFETY: The owner in the lease is `frames`, which keeps the range mapped.
    Ok(unsafe { Region::new(window, method, shown, tenure) })
}
