// SPDX-License-Identifier: GPL-2.0-only

//! Memory in the kernel's address space, which can go away, fail, and be written by others.

use super::CacheMode;
use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::iov::IovIterDest;

/// Number of bytes of a destination that are faulted in at a time.
const PRESENT: usize = 2 << 20;

/// Number of bytes that are copied at a time from I/O memory, which cannot be copied to user space
/// directly.
const IO_PIECE: usize = 256;

/// How files of a region are mapped into processes.
#[derive(Clone, Copy)]
pub(crate) enum MapMethod {
    /// By the kernel's DAX code.
    Dax(DaxRange),
    /// As pages that are counted, and 2 MiB at once where they are contiguous. Only for memory that
    /// its owner cannot take away, move or reuse while we hold it.
    Pages,
    /// As page frames that are not counted, with these cache attributes. Direct I/O and ptrace(2)
    /// do not work on the mappings.
    Frames(CacheMode),
}

/// The start of a region on a DAX device.
#[derive(Clone, Copy)]
pub(crate) struct DaxRange {
    /// The device, which lives as long as the owner of the memory.
    pub(in crate::linux) device: NonNull<bindings::dax_device>,
    /// Offset of the first byte of the region in bytes.
    pub(crate) offset: u64,
}

/// Memory that the kernel and processes can map.
#[derive(Clone, Copy)]
pub(crate) struct Mappable {
    /// No other memory has this number.
    pub(in crate::linux) id: u64,
    /// Where the kernel has mapped the first byte.
    pub(in crate::linux) base: NonNull<u8>,
    /// Length in bytes. The rest of the last page is mapped, too.
    pub(crate) size: u64,
    /// Set if it must be read as I/O memory.
    pub(crate) io: bool,
    /// How processes map it.
    pub(crate) method: MapMethod,
}

impl Mappable {
    /// Return `size` bytes of ordinary memory at `base`.
    pub(crate) fn new(base: NonNull<u8>, size: u64, method: MapMethod) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Mappable {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            base,
            size,
            io: false,
            method,
        }
    }
}

// SAFETY: These are numbers. Only `Memory` uses them as addresses.
unsafe impl Send for Mappable {}
// SAFETY: As above.
unsafe impl Sync for Mappable {}

/// Bytes of [`Memory`](super::Memory). Copies survive a machine check, and are mixtures if others
/// write the memory at the same time.
///
/// # Invariants
///
/// `length` bytes at `from` are mapped for `'m`, as I/O memory if `io` is set.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'m> {
    from: *const u8,
    length: usize,
    io: bool,
    _memory: PhantomData<&'m ()>,
}

impl Bytes<'_> {
    /// # Safety
    ///
    /// The caller must guarantee the invariants.
    #[inline(always)]
    pub(super) unsafe fn new(from: *const u8, length: usize, io: bool) -> Self {
        // INVARIANT: The caller guarantees them.
        Bytes {
            from,
            length,
            io,
            _memory: PhantomData,
        }
    }

    /// Return the first `length` bytes, or all if there are fewer.
    #[inline]
    pub(crate) fn first(self, length: usize) -> Self {
        // INVARIANT: This is a part of the bytes.
        Bytes {
            length: length.min(self.length),
            ..self
        }
    }

    /// Copy the bytes to `into`, which has the same length. Return false if the memory fails; what
    /// is in `into` is unspecified then.
    #[inline(always)]
    pub(crate) fn read(self, into: &mut [u8]) -> bool {
        // Records and pieces of metadata are much shorter than 4 GiB.
        let Ok(length) = u32::try_from(self.length) else {
            return false;
        };
        if into.len() != self.length {
            return false;
        }
        let (to, from) = (into.as_mut_ptr().cast(), self.from.cast());
        if self.io {
            // SAFETY: By the type invariant the source is mapped. The destination has its length.
            unsafe { bindings::memcpy_fromio(to, from, self.length) };
            return true;
        }
        // SAFETY: As above. The function expects concurrent writes and machine checks.
        unsafe { bindings::copy_mc_to_kernel(to, from, length) == 0 }
    }

    /// Copy the bytes to `to`, as far as that is present. Return the number of bytes copied, which
    /// is also smaller if the memory fails.
    #[inline(always)]
    pub(crate) fn copy_to(self, to: &mut IovIterDest<'_>) -> usize {
        if self.io {
            // SAFETY: By the type invariant the bytes are mapped, as I/O memory.
            return unsafe { copy_io(self.from, self.length, to) };
        }
        let (from, to) = (self.from.cast(), to.as_raw().cast());
        // SAFETY: The iterator is borrowed exclusively. By the type invariant the bytes are mapped.
        // The function expects concurrent writes and machine checks.
        unsafe { bindings::copy_mc_to_iter_nofault(from, self.length, to) }
    }
}

/// Do what [`Bytes::copy_to`] does for `length` bytes of I/O memory at `from`. If this took a
/// [`Bytes`], a read would have to put it into memory.
///
/// # Safety
///
/// The bytes must be mapped.
#[inline(never)]
unsafe fn copy_io(from: *const u8, length: usize, to: &mut IovIterDest<'_>) -> usize {
    let mut buffer = [0; IO_PIECE];
    let mut done = 0;
    while done < length {
        let buffer = &mut buffer[..IO_PIECE.min(length - done)];
        let from = from.wrapping_add(done).cast();
        // SAFETY: The caller guarantees that the source is mapped. The buffer has this length.
        unsafe { bindings::memcpy_fromio(buffer.as_mut_ptr().cast(), from, buffer.len()) };
        // INVARIANT: The buffer is ordinary memory, and is borrowed.
        let bytes = Bytes {
            from: buffer.as_ptr(),
            length: buffer.len(),
            io: false,
            _memory: PhantomData,
        };
        let copied = bytes.copy_to(to);
        done += copied;
        if copied < buffer.len() {
            break;
        }
    }
    done
}

/// Fault in the next pages of a destination, at most `length` bytes. This may wait for anything.
/// Return false if none of the bytes can be written.
pub(crate) fn fault_in(to: &mut IovIterDest<'_>, length: usize) -> bool {
    let length = length.min(PRESENT);
    let to = to.as_raw().cast();
    // SAFETY: The iterator is borrowed exclusively.
    let missing = unsafe { bindings::fault_in_iov_iter_writeable(to, length) };
    missing < length
}
