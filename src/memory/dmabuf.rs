// SPDX-License-Identifier: GPL-2.0

//! A dma-buf: memory of a device, or of a heap that devices share.
//!
//! Follows `include/linux/dma-buf.h`. CPU access is begun once, at mount, and ended when the mount ends, because
//! processes may look at the memory through their mappings at any time in between.

use super::{Mapping, Region, Source};
use crate::bindings;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    seq_file::SeqFile,
};

/// A reference to a dma-buf.
///
/// # Invariants
///
/// Holds one reference.
pub(crate) struct DmaBuf(NonNull<bindings::dma_buf>);

// SAFETY: A dma-buf is counted by reference and may be used by any thread.
unsafe impl Send for DmaBuf {}
// SAFETY: As above.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// The dma-buf behind file descriptor `fd` of the calling process.
    ///
    /// # Errors
    ///
    /// `EBADF` when there is none, `EINVAL` when it is something else.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: May be called with any number; it checks what the descriptor is.
        let found = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: The reference was got just now.
        NonNull::new(found).map(DmaBuf).ok_or(EINVAL)
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours to give back.
        unsafe { bindings::dma_buf_put(self.0.as_ptr()) };
    }
}

/// A mapped dma-buf.
///
/// # Invariants
///
/// `map` is what dma_buf_vmap() filled in; CPU access has begun.
struct Mapped {
    map: bindings::iosys_map,
    buffer: DmaBuf,
}

// SAFETY: The mapping is bound to no thread.
unsafe impl Send for Mapped {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Mapped {}

// SAFETY: The mapping lives as long as the object.
unsafe impl Source for Mapped {
    fn show(&self, seq: &SeqFile) {
        kernel::seq_print!(seq, ",dmabuf");
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let buffer = self.buffer.0.as_ptr();
        // SAFETY: By the invariants. An error of the first call has no consequence for a reader.
        unsafe {
            bindings::dma_buf_end_cpu_access(buffer, bindings::dma_data_direction_DMA_FROM_DEVICE);
            bindings::dma_buf_vunmap_unlocked(buffer, &mut self.map);
        }
    }
}

/// Maps the whole of `buffer`.
///
/// # Errors
///
/// What the exporter says; many cannot map into the kernel's address space (`EINVAL`, `EOPNOTSUPP`).
pub(crate) fn open(buffer: DmaBuf) -> Result<Region> {
    let raw = buffer.0.as_ptr();
    let mut map = MaybeUninit::<bindings::iosys_map>::zeroed();
    // SAFETY: The dma-buf is referenced; the function takes its reservation lock.
    to_result(unsafe { bindings::dma_buf_vmap_unlocked(raw, map.as_mut_ptr()) })?;
    // SAFETY: Filled in just now.
    let mut map = unsafe { map.assume_init() };
    // SAFETY: The dma-buf is referenced.
    let begun = to_result(unsafe {
        bindings::dma_buf_begin_cpu_access(raw, bindings::dma_data_direction_DMA_FROM_DEVICE)
    });
    if let Err(error) = begun {
        // SAFETY: Mapped just now.
        unsafe { bindings::dma_buf_vunmap_unlocked(raw, &mut map) };
        return Err(error);
    }
    // SAFETY: The size of a dma-buf never changes.
    let size = unsafe { (*raw).size } as u64;
    // INVARIANT: Both happened just now.
    let mapped = Mapped { map, buffer };
    // SAFETY: Both members of the union are a pointer to the first byte.
    let base = unsafe { mapped.map.__bindgen_anon_1.vaddr };
    let mapping = Mapping {
        base: NonNull::new(base.cast()).ok_or(ENXIO)?,
        size,
        io: mapped.map.is_iomem,
    };
    let source = KBox::new(mapped, GFP_KERNEL)?;
    Ok(Region::without_dax(mapping, source))
}
