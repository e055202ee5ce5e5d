// SPDX-License-Identifier: GPL-2.0-only

//! A reserved range of physical addresses.
//!
//! The range gets struct pages and its own DAX device, so that direct I/O, ptrace(2) and pinning
//! work on mappings. If the kernel cannot make struct pages for it (on x86-64 it must be aligned to
//! 2 MiB), or if they would take more than half of the available memory, the range is mapped
//! without them. So is memory of a PCI device, which may be removed: nothing can pin it then.

use super::lease::Lease;
use super::range::{not_memory, ClaimedRange, Range, Turn};
use super::{cache, dax, poison, DaxRange, MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::linux::fs::Refusal;
use crate::linux::mm::CacheMode;
use core::mem::{offset_of, size_of, ManuallyDrop};
use core::ptr::{self, NonNull};
use kernel::{error::from_err_ptr, prelude::*, sync::Arc};

/// Return true if `bytes` are at most half of the memory that is available to the kernel. When it
/// describes a range, the kernel takes all the memory that it can get before it fails.
fn fit(bytes: u64) -> bool {
    // SAFETY: This returns a number.
    let available = unsafe { bindings::si_mem_available() }.max(0) as u64;
    // The kernel does not use movable memory for itself.
    // SAFETY: This returns a number.
    let available = available.min(unsafe { bindings::nr_free_buffer_pages() } as u64);
    bytes >> bindings::PAGE_SHIFT <= available / 2
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
        let (lease, start) = unsafe { (&(*this).lease, (*this).claim.range().start()) };
        for frame in frame..frame.saturating_add(count) {
            poison::record(frame);
            let offset = ((frame as u64) << bindings::PAGE_SHIFT) - start;
            lease.page_failed(offset, frame, flags);
        }
        0
    }

    /// Make struct pages for `claim`, or return it if that is not possible.
    fn new(
        claim: ClaimedRange,
        lease: &Arc<Lease>,
        _turn: &Turn,
    ) -> Result<KBox<Self>, ClaimedRange> {
        let (start, size) = (claim.range().start(), claim.range().size());
        if claim.is_pci() {
            lease.set_range(start, size);
            return Err(claim);
        }
        // SAFETY: This returns a number.
        let align = unsafe { bindings::memremap_compat_align() } as u64;
        if (start | size) & (align - 1) != 0 {
            return Err(claim);
        }
        if !fit((size >> bindings::PAGE_SHIFT) * size_of::<bindings::page>() as u64) {
            pr_warn!("phys={start:#x}: too little memory for struct pages of this range\n");
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
    let (start, size) = (pages.claim.range().start(), pages.claim.range().size());
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
    claim: ClaimedRange,
}

impl Frames {
    /// Map `claim`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if its page tables would take more than half of the available memory.
    fn new(claim: ClaimedRange, _turn: &Turn) -> Result<Self> {
        let (start, size) = (claim.range().start(), claim.range().size());
        let mapped_by = match (start | size) % bindings::PMD_SIZE {
            0 => bindings::PMD_SIZE,
            _ => bindings::PAGE_SIZE,
        };
        if !fit(size / mapped_by * size_of::<bindings::pte_t>() as u64) {
            pr_warn!("phys={start:#x}: too little memory for page tables of this range\n");
            return Err(ENOMEM);
        }
        // SAFETY: The range is requested, and has no RAM in it.
        let base = unsafe { bindings::memremap(start, size as usize, bindings::MEMREMAP_WB) };
        // INVARIANT: The range was mapped above.
        Ok(Frames {
            base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
            claim,
        })
    }

    /// Return true if the range is memory: of a PCI device, or a reserved range whose first and
    /// last byte the processor caches, as far as is known. It does not cache registers, which
    /// firmware reserves like memory.
    fn is_memory(&self) -> bool {
        let is_cached = |offset: u64| {
            let window = Window {
                base: self
                    .base
                    .map_addr(|base| base.saturating_add(offset as usize)),
                size: 1,
                io: false,
            };
            // SAFETY: By the type invariant the byte is mapped.
            matches!(unsafe { cache::mode(&window) }, Ok(CacheMode::WriteBack))
        };
        self.claim.is_pci() || is_cached(0) && is_cached(self.claim.range().size() - 1)
    }
}

// SAFETY: The range may be unmapped by any thread.
unsafe impl Send for Frames {}
// SAFETY: Nothing that a shared reference gives access to changes, but for the memory itself, which
// others may write at any time.
unsafe impl Sync for Frames {}

// SAFETY: Only `release` and the drop unmap the range.
unsafe impl Owner for Option<Frames> {
    fn release(&mut self) {
        *self = None;
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: By the type invariant memremap() returned this.
        unsafe { bindings::memunmap(self.base.as_ptr().cast()) };
    }
}

/// Check that the calling process may use the `size` bytes at physical address `start`.
///
/// # Errors
///
/// `EPERM` if it may not use physical addresses, or else `EINVAL`.
pub(crate) fn check(start: u64, size: u64) -> Result<(), Refusal> {
    Range::new(start, size).map(drop)
}

/// Open a region: the `part` of the `size` bytes at physical address `start`, or all of them.
/// Mounts show all.
///
/// # Errors
///
/// Any reason to refuse the mount.
pub(crate) fn open(
    start: u64,
    size: u64,
    part: Option<core::ops::Range<u64>>,
    tenure: &Tenure,
) -> Result<Region, Refusal> {
    let lease = tenure.lease();
    let shown = Shown::Phys { start, size };
    let range = Range::new(start, size)?.part(part.unwrap_or(0..size))?;
    let size = range.size();
    let turn = Turn::wait();
    // Look at the attributes of the start before all of it is mapped.
    let head = range.part(0..size.min(bindings::PMD_SIZE))?;
    if !Frames::new(ClaimedRange::new(head, &turn)?, &turn)?.is_memory() {
        return Err(not_memory());
    }
    let claim = ClaimedRange::new(range, &turn)?;
    let claim = match Pages::new(claim, lease, &turn) {
        Ok(pages) => {
            drop(turn);
            let own = OwnDax::new(pages)?;
            let range = DaxRange {
                device: own.device,
                offset: 0,
            };
            lease.open(KBox::new(own, GFP_KERNEL)?)?;
            // SAFETY: The owner in the lease is the device, which keeps the memory mapped.
            return unsafe { dax::region(range, size, shown, tenure) };
        }
        Err(claim) => claim,
    };
    pr_info!(
        "phys={:#x}: no struct pages for this range: \
         no direct I/O and no ptrace on mappings\n",
        range.start()
    );
    let frames = Frames::new(claim, &turn)?;
    let window = Window {
        base: frames.base,
        size,
        io: false,
    };
    lease.open(KBox::new(Some(frames), GFP_KERNEL)?)?;
    // The removal of a PCI device waits for the turn, and then finds the owner.
    drop(turn);
    let method = MapMethod::Frames(CacheMode::WriteBack);
    // SAFETY: The owner in the lease is `frames`, which keeps the range mapped.
    Ok(unsafe { Region::new(window, method, shown, tenure) })
}
