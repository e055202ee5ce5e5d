// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is mapped into the kernel's address space.

use super::{
    poison::{
        self,
        Frame, //
    },
    CacheMode,
    Page,
    PAGE_SIZE, //
};
use crate::linux::prelude::*;

/// How many bytes to copy at a time from I/O memory, which we cannot copy to user space directly.
const IO_PIECE: usize = 256;

/// How many bytes of a destination to fault in at a time.
const PRESENT: usize = 2 << 20;

/// How files of a region are mapped into processes.
#[derive(Clone, Copy)]
#[cfg_attr(not(CONFIG_DAXFS_FS_MEMFD), allow(dead_code))]
pub(crate) enum MapMethod {
    /// By the kernel's DAX code.
    Dax(DaxRange),
    /// As counted pages, 2 MiB at a time where they are contiguous. Only for memory that its owner
    /// cannot reclaim, move or reuse while we hold it.
    Pages,
    /// As uncounted page frames, with these cache attributes. Direct I/O and ptrace(2) do not work
    /// on the mappings.
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
    pub(in crate::linux) size: u64,
    /// Set if it must be read as I/O memory.
    pub(crate) io: bool,
    pub(in crate::linux) method: MapMethod,
}

impl Mappable {
    /// Returns `size` bytes of ordinary memory at `base`.
    pub(crate) fn new(base: NonNull<u8>, size: u64, method: MapMethod) -> Self {
        static NEXT: Atomic<u64> = Atomic::new(0);
        Mappable {
            id: NEXT.fetch_add(1, Relaxed),
            base,
            size,
            io: false,
            method,
        }
    }

    /// Returns the length in bytes. The rest of the last page is also mapped.
    #[inline(always)]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how processes map it.
    #[inline(always)]
    pub(crate) fn method(&self) -> MapMethod {
        self.method
    }
}

// SAFETY: Only `Memory` and faults on it use the addresses, while the memory is mapped.
unsafe impl Send for Mappable {}
// SAFETY: As above.
unsafe impl Sync for Mappable {}

/// Faults in the next pages of a destination, at most `length` bytes. This may wait for anything.
/// Returns false if none of the bytes can be written.
pub(crate) fn fault_in(to: &mut IovIterDest<'_>, length: usize) -> bool {
    let length = length.min(PRESENT);
    let to = to.as_raw().cast();
    // SAFETY: The iterator is borrowed exclusively.
    let missing = unsafe { bindings::fault_in_iov_iter_writeable(to, length) };
    missing < length
}

/// Owner of mapped memory. Drop it to release the memory.
///
/// # Safety
///
/// Until the object is dropped:
///
/// * The memory that [`Self::mappable`] returns is mapped, up to the end of its last page.
///   Processes may map the memory by the method.
/// * Memory of a DAX device has contiguous frames with struct pages, and the device lives. Pages
///   that are mapped by [`Pages`](super::MapMethod::Pages) are vmap()'s, each with a reference.
///   They are whole folios, but for the last one, whose pages follow one another and stay together.
/// * The number of [`Self::bad_blocks`] is valid.
pub(crate) unsafe trait Owner: Send + Sync {
    /// Returns the memory, if it is mapped.
    fn mappable(&self) -> Option<Mappable>;

    /// Returns a number that changes when more of the memory is known to have failed, and its value
    /// before the memory was checked.
    fn bad_blocks(&self) -> Option<(NonNull<Atomic<u32>>, u32)> {
        None
    }

    /// Marks the pages that are known to have failed.
    fn mark_failed(&self) {}

    /// Returns the file that has the memory, at the same offsets, if a file has it.
    fn file(&self) -> Option<&File> {
        None
    }

    /// Returns true if the memory has page frame `frame`, or `None` if each page must be checked.
    fn has_frame(&self, _frame: usize) -> Option<bool> {
        None
    }
}

/// Mapped memory. A [`Space`](super::Space) that processes may map keeps a reference to it.
///
/// Copies of it survive a machine check, and are mixtures if others write the memory at the same
/// time.
///
/// # Invariants
///
/// `mappable` is the memory that `owner` has mapped. `number` belongs to its bad
/// blocks, or to [`NO_LIST`].
pub(crate) struct Memory {
    mappable: Mappable,
    number: NonNull<Atomic<u32>>,
    /// The number when the owner was last asked.
    seen: Atomic<u32>,
    /// Set if a page may have failed, so that pages must be checked.
    failed: Atomic<bool>,
    owner: KBox<dyn Owner>,
}

/// The number of a list of bad blocks that does not exist.
static NO_LIST: Atomic<u32> = Atomic::new(0);

// SAFETY: An owner may be sent to another thread.
unsafe impl Send for Memory {}
// SAFETY: An owner may be shared, and so may an atomic number.
unsafe impl Sync for Memory {}

impl Memory {
    /// Uses the memory of `owner`, if it has mapped some.
    pub(crate) fn new(owner: KBox<dyn Owner>) -> Option<Self> {
        let mappable = owner.mappable()?;
        let none = (NonNull::from(&NO_LIST), 0);
        let (number, seen) = owner.bad_blocks().unwrap_or(none);
        // INVARIANT: The owner has mapped the memory.
        Some(Memory {
            mappable,
            number,
            seen: Atomic::new(seen),
            failed: Atomic::new(false),
            owner,
        })
    }

    /// Returns what is known of the memory, also when it is gone.
    #[inline(always)]
    pub(crate) fn mappable(&self) -> &Mappable {
        &self.mappable
    }

    /// Returns true if some memory may have failed, so that pages must be checked.
    ///
    /// A driver does not announce new bad blocks, so check if its list has changed.
    #[inline(always)]
    pub(crate) fn may_have_failed(&self) -> bool {
        // SAFETY: By the type invariant the number is valid.
        let now = load_acquire(unsafe { self.number.as_ref() });
        if now != load_acquire(&self.seen) {
            self.look_at_list(now);
        }
        read_once(&self.failed)
    }

    /// Marks the pages that the driver lists as bad. `number` is the number of the list.
    #[cold]
    #[inline(never)]
    fn look_at_list(&self, number: u32) {
        self.mark_failed();
        self.look_for_failures();
        self.seen.store(number, Release);
    }

    /// Checks pages from now on if one has failed.
    pub(crate) fn look_for_failures(&self) {
        if poison::any()
            && (!poison::all_reported() || self.intact(0, self.mappable.size) < self.mappable.size)
        {
            self.check_pages();
        }
    }

    /// Checks pages from now on, because one has failed. I/O memory cannot be marked.
    pub(crate) fn check_pages(&self) {
        self.failed.store(!self.mappable.io, Release);
    }

    /// Returns true if the page frame `frame` is in the memory, and no DAX device announces its
    /// failures.
    pub(crate) fn must_watch(&self, frame: usize) -> bool {
        let mapped = &self.mappable;
        if mapped.io || matches!(mapped.method, MapMethod::Dax(_)) {
            return false;
        }
        self.owner.has_frame(frame).unwrap_or_else(|| {
            let mut pages = (0..mapped.size).step_by(PAGE_SIZE as usize);
            pages.any(|at| self.frame(at) == Some(frame))
        })
    }

    /// Returns the file that has the memory, at the same offsets, if a file has it.
    pub(crate) fn file(&self) -> Option<&File> {
        self.owner.file()
    }

    /// Marks the pages that are known to have failed.
    pub(crate) fn mark_failed(&self) {
        self.owner.mark_failed();
    }

    /// Returns the address of `length` bytes at `offset`, if the memory has them.
    #[inline(always)]
    fn address(&self, offset: u64, length: usize) -> Option<*const u8> {
        let end = offset.checked_add(length as u64)?;
        let address = self.mappable.base.as_ptr().wrapping_add(offset as usize);
        (end <= self.mappable.size).then_some(address.cast_const())
    }

    /// Copies bytes at `offset` to `into`. Returns false if the memory does not have them, or
    /// fails; what is in `into` is unspecified then.
    #[inline(always)]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let (length, to) = (into.len(), into.as_mut_ptr().cast());
        // Records and pieces of metadata are much shorter than 4 GiB.
        let (Some(from), Ok(short)) = (self.address(offset, length), u32::try_from(length)) else {
            return false;
        };
        if self.mappable.io {
            // SAFETY: By the type invariant the source is mapped. The destination has its length.
            unsafe { bindings::memcpy_fromio(to, from.cast(), length) };
            return true;
        }
        // SAFETY: As above. The function expects concurrent writes and machine checks.
        unsafe { bindings::copy_mc_to_kernel(to, from.cast(), short) == 0 }
    }

    /// Copies `length` bytes at `offset` to `to`, until a page of `to` is absent. Returns the
    /// number of bytes copied, which is also smaller if the memory fails, or `None` if the memory
    /// does not have the bytes.
    #[inline(always)]
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        length: usize,
        to: &mut IovIterDest<'_>,
    ) -> Option<usize> {
        let from = self.address(offset, length)?;
        if self.mappable.io {
            // SAFETY: By the type invariant the bytes are mapped.
            return Some(unsafe { copy_io(from, length, to) });
        }
        let (from, to) = (from.cast(), to.as_raw().cast());
        // SAFETY: The iterator is borrowed exclusively. By the type invariant the bytes are mapped.
        // The function expects concurrent writes and machine checks.
        Some(unsafe { bindings::copy_mc_to_iter_nofault(from, length, to) })
    }

    /// Returns how many of `length` bytes at `offset` are before the first page that is known to
    /// have failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn intact(&self, offset: u64, length: u64) -> u64 {
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            match self.frame(at) {
                // SAFETY: A struct page stays as long as its memory is mapped.
                Some(frame) if unsafe { Frame::new(frame) }.has_failed() => return at - offset,
                Some(_) => at = (at / PAGE_SIZE + 1) * PAGE_SIZE,
                None => break,
            }
        }
        length
    }

    /// Returns the page frame at `offset`, if the memory has it.
    #[inline]
    pub(super) fn frame(&self, offset: u64) -> Option<usize> {
        let mapped = &self.mappable;
        // The last page may be more than the memory.
        if offset & !(PAGE_SIZE - 1) >= mapped.size {
            return None;
        }
        let at = mapped.base.as_ptr().wrapping_add(offset as usize).cast();
        // SAFETY: By the type invariant the address is mapped, in the vmalloc area or directly.
        Some(unsafe { bindings::address_to_pfn(at) })
    }

    /// Returns the page at `offset`, if it is counted.
    #[inline]
    pub(super) fn page(&self, offset: u64) -> Option<Page<'_>> {
        let mapped = &self.mappable;
        if !matches!(mapped.method, MapMethod::Pages) || offset >= mapped.size {
            return None;
        }
        // SAFETY: By the type invariant the page is vmap()'s, and has a reference.
        Some(unsafe { Page::of_vmalloc(mapped.base.as_ptr().wrapping_add(offset as usize)) })
    }
}

/// Like [`Memory::copy_to`], for `length` bytes of I/O memory at `from`.
///
/// # Safety
///
/// The bytes must be mapped.
#[inline(never)]
unsafe fn copy_io(from: *const u8, length: usize, to: &mut IovIterDest<'_>) -> usize {
    let mut buffer = [0_u8; IO_PIECE];
    let mut done = 0;
    while done < length {
        let part = IO_PIECE.min(length - done);
        let from = from.wrapping_add(done).cast();
        // SAFETY: The caller guarantees that the source is mapped. The buffer has room for it. The
        // iterator is borrowed exclusively.
        let copied = unsafe {
            bindings::memcpy_fromio(buffer.as_mut_ptr().cast(), from, part);
            bindings::copy_mc_to_iter_nofault(buffer.as_ptr().cast(), part, to.as_raw().cast())
        };
        done += copied;
        if copied < part {
            break;
        }
    }
    done
}
