// SPDX-License-Identifier: GPL-2.0-only

//! Memory in the kernel's address space, which can go away, fail, and be written by others.

use super::{poison, CacheMode, Page, PAGE_SIZE};
use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::iov::IovIterDest;

/// Number of bytes of a destination that are faulted in at a time.
const PRESENT: usize = 2 << 20;

/// Number of bytes that are copied at a time from I/O memory, which cannot be copied to user space
/// directly.
const IO_PIECE: usize = 256;

/// Where memory is mapped in the kernel's address space while it is [`Mapped`].
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Address of the first byte.
    pub(crate) base: NonNull<u8>,
    /// Length in bytes. The rest of the last page is mapped, too.
    pub(crate) size: u64,
    /// Set if it must be read as I/O memory.
    pub(crate) io: bool,
}

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
    /// The device, which lives as long as the owner of the region's memory.
    pub(crate) device: NonNull<bindings::dax_device>,
    /// Offset of the first byte of the region in bytes.
    pub(crate) offset: u64,
}

/// Memory that the kernel and processes can map.
#[derive(Clone, Copy)]
pub(crate) struct Mappable {
    /// Where the kernel has mapped it.
    pub(crate) window: Window,
    /// How processes map it.
    pub(crate) method: MapMethod,
}

impl Mappable {
    /// Return `size` bytes of ordinary memory at `base`.
    pub(crate) fn new(base: NonNull<u8>, size: u64, method: MapMethod) -> Self {
        let io = false;
        let window = Window { base, size, io };
        Mappable { window, method }
    }
}

// SAFETY: These are numbers. Only `Mapped` uses the memory.
unsafe impl Send for Mappable {}
// SAFETY: As above.
unsafe impl Sync for Mappable {}

/// Memory that cannot go away while this exists.
///
/// # Invariants
///
/// While `_keeper` exists, the window is mapped, up to the end of its last page; memory of a DAX
/// device has contiguous frames with struct pages; pages that are mapped by
/// [`Pages`](MapMethod::Pages) are those of vmap(), each with a reference. What processes have
/// mapped is unmapped before the memory is used for anything else.
pub(crate) struct Mapped<'a, G> {
    memory: &'a Mappable,
    _keeper: G,
}

impl<'a, G> Mapped<'a, G> {
    /// Use `memory` while `keeper` exists.
    ///
    /// # Safety
    ///
    /// The caller must guarantee the invariants.
    #[inline]
    pub(crate) unsafe fn new(memory: &'a Mappable, keeper: G) -> Self {
        // INVARIANT: The caller guarantees them.
        Mapped {
            memory,
            _keeper: keeper,
        }
    }

    /// Return what keeps the memory.
    #[inline(always)]
    pub(crate) fn keeper(&self) -> &G {
        &self._keeper
    }

    /// Return the memory.
    #[inline(always)]
    pub(crate) fn memory(&self) -> &'a Mappable {
        self.memory
    }

    /// Return `length` bytes at `offset`, or `None` if the memory does not have them.
    // If this took a reference to a `self` in memory, a read would take 8 instructions more.
    #[inline(always)]
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Option<Bytes<'_>> {
        let window = &self.memory.window;
        let end = offset.checked_add(length as u64)?;
        // INVARIANT: The bytes are in the window, which is mapped while `self` exists.
        (end <= window.size).then(|| Bytes {
            from: window.base.as_ptr().wrapping_add(offset as usize),
            length,
            io: window.io,
            _memory: PhantomData,
        })
    }

    /// Return how many of `length` bytes at `offset` are before the first page that is known to
    /// have failed.
    #[inline(always)]
    pub(crate) fn intact(&self, offset: u64, length: u64) -> u64 {
        // SAFETY: By the type invariant the window is mapped.
        unsafe { intact(&self.memory.window, offset, length) }
    }

    /// Return the page frame at `offset`, if the memory has it.
    #[cfg(CONFIG_TRACEPOINTS)]
    pub(super) fn frame(&self, offset: u64) -> Option<usize> {
        let window = &self.memory.window;
        let is_in = offset < window.size.next_multiple_of(PAGE_SIZE);
        // SAFETY: The page is in the window, which is mapped by the type invariant.
        is_in.then(|| unsafe { window.frame(offset) })
    }

    /// Return the page at `offset`, if it is counted.
    pub(crate) fn page(&self, offset: u64) -> Option<Page<'_>> {
        let window = &self.memory.window;
        if offset >= window.size || !matches!(self.memory.method, MapMethod::Pages) {
            return None;
        }
        // SAFETY: By the type invariant the page is that of vmap(), and has a reference.
        Some(unsafe { Page::of_vmalloc(window.base.as_ptr().wrapping_add(offset as usize)) })
    }
}

/// Do what [`Mapped::intact`] does.
///
/// # Safety
///
/// The window must be mapped.
#[cold]
unsafe fn intact(window: &Window, offset: u64, length: u64) -> u64 {
    let pages = window.size.next_multiple_of(PAGE_SIZE);
    let end = offset.saturating_add(length).min(pages);
    let mut at = offset;
    while at < end {
        // SAFETY: The window is mapped up to the end of its last page.
        let frame = unsafe { window.frame(at) };
        if poison::frame_has_failed(frame) {
            return at - offset;
        }
        at = (at / PAGE_SIZE + 1) * PAGE_SIZE;
    }
    length
}

impl Window {
    /// Return the page frame at `offset`.
    ///
    /// # Safety
    ///
    /// The page must be in the window, which must be mapped, in the direct mapping or the vmalloc
    /// area.
    #[inline]
    pub(super) unsafe fn frame(&self, offset: u64) -> usize {
        let at = self.base.as_ptr().wrapping_add(offset as usize).cast();
        // SAFETY: This takes any address.
        if unsafe { bindings::is_vmalloc_addr(at) } {
            // SAFETY: The caller guarantees that the address is mapped.
            unsafe { bindings::vmalloc_to_pfn(at) }
        } else {
            // SAFETY: The caller guarantees that the address is in the direct mapping.
            unsafe { bindings::virt_to_pfn(at) }
        }
    }
}

/// Bytes of [`Mapped`] memory. Copies survive a machine check, and are mixtures if others write the
/// memory meanwhile.
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
            return self.copy_io_to(to);
        }
        let to = to.as_raw().cast();
        // SAFETY: This is paired with pagefault_enable() below.
        unsafe { bindings::pagefault_disable() };
        // SAFETY: The iterator is borrowed exclusively. By the type invariant the bytes are mapped.
        // The function expects concurrent writes and machine checks.
        let copied = unsafe { bindings::_copy_mc_to_iter(self.from.cast(), self.length, to) };
        // SAFETY: This is paired with pagefault_disable() above.
        unsafe { bindings::pagefault_enable() };
        copied
    }

    /// Do the same for I/O memory.
    #[inline(never)]
    fn copy_io_to(self, to: &mut IovIterDest<'_>) -> usize {
        let mut buffer = [0; IO_PIECE];
        let mut done = 0;
        while done < self.length {
            let length = IO_PIECE.min(self.length - done);
            let from = self.from.wrapping_add(done);
            // INVARIANT: This is a part of the bytes.
            let part = Bytes {
                from,
                length,
                ..self
            };
            let buffer = &mut buffer[..length];
            part.read(buffer);
            // INVARIANT: The buffer is ordinary memory, and is borrowed exclusively.
            let read = Bytes {
                from: buffer.as_ptr(),
                io: false,
                ..part
            };
            let copied = read.copy_to(to);
            done += copied;
            if copied < length {
                break;
            }
        }
        done
    }
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
