// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of an image live.
//!
//! Each source has a file of its own and makes a [`Region`]:
//!
//! * [`dax`]: DAX devices, behind a block device (persistent memory) or a character device (CXL)
//! * [`phys`]: a reserved range of physical addresses
//! * [`dmabuf`]: the memory of a device or a heap
//! * [`memfd`]: a sealed memfd
//!
//! A region is mapped once, at mount. To read it, take hold of it with [`Region::access`], which keeps
//! the memory from going away; metadata is then loaded by copy through [`crate::image::Memory`], and file
//! content is copied straight to its reader. Both survive a machine check. Mappings of files are made by the
//! kernel's DAX code or, where there is no DAX device, by [`fault`].

mod access;
pub(crate) mod dax;
pub(crate) mod dmabuf;
mod fault;
pub(crate) mod memfd;
pub(crate) mod phys;

pub(crate) use access::Access;

use crate::bindings;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{prelude::*, seq_file::SeqFile};

/// Whether memory of any region has failed; only then are pages looked at before they are read or mapped.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Notes that the memory of page frame `frame`, which belongs to the region of `sb`, has failed.
///
/// # Safety
///
/// `sb` must be valid, and the frame have a struct page.
unsafe fn frame_failed(sb: *mut bindings::super_block, frame: usize, flags: kernel::ffi::c_int) {
    FAILED.store(true, Ordering::Release);
    // SAFETY: By the contract.
    unsafe {
        let page = bindings::daxfs_helper_frame_page(frame);
        bindings::daxfs_helper_page_failed(sb, page, flags);
    }
}

/// What holds the memory of a region; dropping it lets go.
///
/// # Safety
///
/// As long as the object lives, and the DAX device of its region if it has one is alive, the memory that it
/// reported is mapped.
pub(crate) unsafe trait Source: Send + Sync {
    /// Whether the memory is about to go away, so that nothing of it may be mapped any more.
    fn gone(&self) -> bool {
        false
    }

    /// Shows the source as mount options, each with a comma in front; nothing if the mount's source says it.
    fn show(&self, _seq: &SeqFile) {}
}

/// A piece of kernel address space.
#[derive(Clone, Copy)]
pub(crate) struct Mapping {
    /// First byte.
    pub(crate) base: NonNull<u8>,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Whether it must be read as I/O memory.
    pub(crate) io: bool,
}

/// How files are mapped into processes.
#[derive(Clone, Copy)]
pub(crate) enum Files {
    /// By the kernel's DAX code.
    Dax(DaxRange),
    /// Page by page, or 2 MiB where they are contiguous, with struct pages behind them.
    Pages,
    /// Likewise, without struct pages: direct I/O and ptrace do not work on the mappings.
    Frames {
        /// Whether processes must map it as I/O memory.
        io: bool,
    },
}

/// Where a region starts on a DAX device.
#[derive(Clone, Copy)]
pub(crate) struct DaxRange {
    /// The device, which lives as long as the region's source.
    pub(crate) device: NonNull<bindings::dax_device>,
    /// Offset of the region's first byte in bytes.
    pub(crate) offset: u64,
}

/// One contiguous region of memory.
///
/// # Invariants
///
/// `mapping` is what `source` reported. Others may write the memory at any time.
pub(crate) struct Region {
    mapping: Mapping,
    files: Files,
    source: KBox<dyn Source>,
}

// SAFETY: The source may be shared and sent; the memory behind `mapping` is only ever copied from, by functions
// that expect others to write it.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    /// The region that `source` holds at `mapping`, whose pages are mapped one by one; as pages if all of them
    /// can be counted by their users, as frames if not (I/O memory, hugetlb).
    fn without_dax(mapping: Mapping, source: KBox<dyn Source>) -> Self {
        let base = mapping.base.as_ptr().cast();
        // SAFETY: The source has mapped that much there.
        let countable = |size| unsafe { bindings::daxfs_helper_pages_countable(base, size) };
        let files = if !mapping.io && countable(mapping.size) {
            Files::Pages
        } else {
            Files::Frames { io: mapping.io }
        };
        Region::new(mapping, files, source)
    }

    /// The region that `source` holds at `mapping`.
    fn new(mapping: Mapping, files: Files, source: KBox<dyn Source>) -> Self {
        // INVARIANT: Only the files of this room call this, with what their source reported.
        Region {
            mapping,
            files,
            source,
        }
    }

    /// How files are mapped.
    #[inline]
    pub(crate) fn files(&self) -> Files {
        self.files
    }

    /// Whether the memory is about to go away: nothing of it may be mapped any more.
    pub(crate) fn gone(&self) -> bool {
        self.source.gone()
    }

    /// How many of the `length` bytes at `offset`, all of which are in the region, there are in front of a page
    /// whose memory is known to have failed.
    #[inline]
    pub(crate) fn sound(&self, offset: u64, length: u64) -> u64 {
        if !FAILED.load(Ordering::Relaxed) || self.mapping.io {
            return length;
        }
        let from = self.mapping.base.as_ptr().wrapping_add(offset as usize);
        // SAFETY: The region is mapped there; this looks at struct pages only.
        unsafe { bindings::daxfs_helper_sound_bytes(from.cast(), length) }
    }

    /// Shows the source as mount options.
    pub(crate) fn show(&self, seq: &SeqFile) {
        self.source.show(seq);
    }
}
