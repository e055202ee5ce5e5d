// SPDX-License-Identifier: GPL-2.0-only

//! Ranges of physical addresses that are mapped into the kernel, with struct pages or without
//! (`include/linux/memremap.h`, `include/linux/io.h`).

use super::ioport::Requested;
use super::mm::{
    cache_mode,
    poison::{
        has_page,
        Frame, //
    },
    CacheMode,
    DaxRange,
    MapMethod,
    Mappable,
    Owner, //
};
use crate::linux::prelude::*;

/// Returns true if `bytes` are at most half of the memory that is available to the kernel. While
/// describing a range, the kernel may use all available memory before it fails.
fn fit(bytes: u64) -> bool {
    // SAFETY: This reads counters.
    let available = unsafe { bindings::available_pages() } as u64;
    bytes >> bindings::PAGE_SHIFT <= available / 2
}

/// Returns true if the `size` bytes at physical address `start`, which have no RAM in them, have
/// struct pages.
pub(crate) fn has_struct_pages(start: u64, size: u64) -> bool {
    /// The kernel creates struct pages for multiples of this size.
    const STEP: u64 = 2 << 20;
    let mut units = (start & !(STEP - 1)..start + size).step_by(STEP as usize);
    units.all(|at| has_page((at >> bindings::PAGE_SHIFT) as usize))
}

/// Called when memory of an [`OwnDax`] fails. The flags are memory_failure()'s.
pub(crate) type PageFailed = dyn Fn(Frame<'_>, ffi::c_int) + Send + Sync;

/// A requested range with struct pages, and the DAX device that we created for it.
pub(crate) struct OwnDax(Pin<KBox<Mapped>>);

/// The content of an [`OwnDax`], to which the kernel keeps pointers.
///
/// # Invariants
///
/// * If `memory.base` is not null, memremap_pages() has mapped the range of `map` there.
/// * If `device` is not null, it is a DAX device for `memory`, which is mapped then.
#[repr(C)]
struct Mapped {
    map: Opaque<bindings::dev_pagemap>,
    memory: bindings::daxfs_range,
    device: *mut bindings::dax_device,
    failed: KBox<PageFailed>,
    range: Option<Requested>,
    /// The page map and the DAX device have addresses of this.
    _pinned: PhantomPinned,
}

// SAFETY: A range may be unmapped, and a DAX device killed, by any thread.
unsafe impl Send for Mapped {}
// SAFETY: Nothing reachable through a shared reference changes. A DAX device may be used by several
// threads at the same time.
unsafe impl Sync for Mapped {}

impl Mapped {
    const PAGES: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        memory_failure: Some(Self::memory_failure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `map` must be the field of a `Mapped`, and the frames in its range.
    unsafe extern "C" fn memory_failure(
        map: *mut bindings::dev_pagemap,
        frame: usize,
        count: usize,
        flags: ffi::c_int,
    ) -> ffi::c_int {
        // SAFETY: The field is the first one. The drop, in memunmap_pages(), waits for this call.
        let failed = unsafe { &(*map.cast::<Self>()).failed };
        for frame in frame..frame.saturating_add(count) {
            // SAFETY: The caller passes frames of the range; the drop removes their struct pages.
            failed(unsafe { Frame::new(frame) }, flags);
        }
        0
    }
}

impl OwnDax {
    /// Creates struct pages and a device for `range`. Calls `failed` when some of the memory fails.
    ///
    /// Errors: `range`, if the kernel cannot do that, or if the pages would take more than half of
    /// its memory.
    pub(crate) fn new(range: Requested, failed: KBox<PageFailed>) -> Result<Self, Requested> {
        let (start, size) = (range.start(), range.size());
        // SAFETY: This computes a number.
        let align = unsafe { bindings::memremap_compat_align() } as u64;
        if (start | size) & (align - 1) != 0 {
            return Err(range);
        }
        if !fit((size >> bindings::PAGE_SHIFT) * size_of::<bindings::page>() as u64) {
            pr_warn!("phys={start:#x}: too little memory for struct pages of this range\n");
            return Err(range);
        }
        let map = bindings::dev_pagemap {
            ops: &Mapped::PAGES,
            ..bindings::dev_pagemap::default()
        };
        let own = Mapped {
            map: Opaque::new(map),
            memory: bindings::daxfs_range {
                base: ptr::null_mut(),
                frame: (start >> bindings::PAGE_SHIFT) as usize,
                pages: (size >> bindings::PAGE_SHIFT) as usize,
            },
            device: ptr::null_mut(),
            failed,
            range: None,
            _pinned: PhantomPinned,
        };
        let Ok(mut own) = KBox::new(own, GFP_KERNEL) else {
            return Err(range);
        };
        // SAFETY: The box's content does not move. The range is requested, and has no RAM in it.
        let base = from_err_ptr(unsafe { bindings::memremap_range(own.map.get(), start, size) });
        // INVARIANT: The range was mapped above, or the pointer is null.
        own.memory.base = base.unwrap_or(ptr::null_mut());
        if !own.memory.base.is_null() {
            // SAFETY: The box lives until `drop` has killed the device.
            let device = from_err_ptr(unsafe { bindings::alloc_range_dax(&mut own.memory) });
            // INVARIANT: The device was made above, or the pointer is null.
            own.device = device.unwrap_or(ptr::null_mut());
        }
        if own.device.is_null() {
            // The pages go before the range is used otherwise.
            drop(own);
            return Err(range);
        }
        own.range = Some(range);
        Ok(OwnDax(KBox::into_pin(own)))
    }

    /// Returns page frame `frame`, if it is in the range.
    pub(crate) fn frame(&self, frame: usize) -> Option<Frame<'_>> {
        let within = frame.checked_sub(self.0.memory.frame)?;
        // SAFETY: The struct pages stay as long as this is borrowed.
        (within < self.0.memory.pages).then(|| unsafe { Frame::new(frame) })
    }
}

// SAFETY: Only the drop kills the device and unmaps the range.
unsafe impl Owner for OwnDax {
    fn mappable(&self) -> Option<Mappable> {
        let (device, offset) = (NonNull::new(self.0.device)?, 0);
        let method = MapMethod::Dax(DaxRange { device, offset });
        let size = self.0.range.as_ref()?.size();
        Some(Mappable::new(
            NonNull::new(self.0.memory.base.cast())?,
            size,
            method,
        ))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device is valid, with the reference that alloc_dax()
        // returned, and the range is mapped. Killing it waits for `direct_access`. The owner of
        // memory is dropped after the last user of a page. The range is released after this.
        unsafe {
            if !self.device.is_null() {
                bindings::kill_dax(self.device);
                bindings::put_dax(self.device);
            }
            if !self.memory.base.is_null() {
                bindings::memunmap_pages(self.map.get());
            }
        }
    }
}

/// A requested range, mapped without struct pages.
///
/// # Invariants
///
/// memremap() has mapped the range at the address.
pub(crate) struct Frames(NonNull<u8>, Requested);

// SAFETY: The range may be unmapped by any thread.
unsafe impl Send for Frames {}
// SAFETY: Nothing reachable through a shared reference changes.
unsafe impl Sync for Frames {}

impl Frames {
    /// Maps `range`.
    ///
    /// Errors: `ENOMEM`, even if only its page tables would fill more than half of the available
    /// memory; `EOPNOTSUPP` if processes would map it as encrypted, and the kernel does not.
    pub(crate) fn new(range: Requested) -> Result<Self> {
        let (start, size) = (range.start(), range.size());
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
        let frames = Frames(NonNull::new(base.cast()).ok_or(ENOMEM)?, range);
        frames.mode(0).ok_or(Errno::NotSupported)?;
        Ok(frames)
    }

    /// Returns how the processor caches byte `offset`, see [`cache_mode::mode`].
    fn mode(&self, offset: u64) -> Option<CacheMode> {
        let base = self.0.map_addr(|base| base.saturating_add(offset as usize));
        // SAFETY: By the type invariant the byte is mapped.
        unsafe { cache_mode::mode(base, 1, false) }
    }

    /// Returns true if the processor caches the first and the last byte, as far as is known. It
    /// does not cache registers, which firmware reserves like memory.
    pub(crate) fn is_cached(&self) -> bool {
        let is_cached = |offset| self.mode(offset) == Some(CacheMode::WriteBack);
        is_cached(0) && is_cached(self.1.size() - 1)
    }
}

// SAFETY: Only the drop unmaps the range.
unsafe impl Owner for Frames {
    fn mappable(&self) -> Option<Mappable> {
        let method = MapMethod::Frames(CacheMode::WriteBack);
        Some(Mappable::new(self.0, self.1.size(), method))
    }

    fn has_frame(&self, frame: usize) -> Option<bool> {
        let first = (self.1.start() >> bindings::PAGE_SHIFT) as usize;
        let pages = (self.1.size() >> bindings::PAGE_SHIFT) as usize;
        Some((first..first + pages).contains(&frame))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: By the type invariant memremap() returned this. The range is released after this.
        unsafe { bindings::memunmap(self.0.as_ptr().cast()) };
    }
}
