// SPDX-License-Identifier: GPL-2.0-only

//! Memory that can hold an image.
//!
//! Each source of memory has a file:
//!
//! * [`dax`]: DAX devices, used by a block device (persistent memory) or as a character device
//!   (CXL)
//! * [`phys`]: a reserved range of physical addresses
//! * [`dmabuf`]: a dma-buf
//! * [`memfd`]: a sealed memfd
//!
//! Opening a source gives a [`Region`]: memory that is mapped into the kernel's address space. The
//! [`lease`] of a region says how long it may be used. To read a region, call [`Region::access`]:
//! metadata is copied through [`crate::image::Memory`], file content straight to the reader. Both
//! survive a machine check. To map a file, claim its extent with [`Region::claim`]; [`fault`] and
//! [`around`] handle page faults, [`extents`] knows what is mapped, [`poison`] which memory has
//! failed.
//!
//! This module depends on the kernel, `image::Memory`, and the types of `vfs` and `support` that
//! stand for kernel objects: a block device, a page fault, an address space, error codes.

mod access;
mod around;
mod cache;
pub(crate) mod dax;
pub(crate) mod dmabuf;
mod extents;
mod fault;
mod fsdev;
mod internal;
mod lease;
mod lend;
pub(crate) mod memfd;
pub(crate) mod phys;
mod poison;
mod registry;
mod space;

pub(crate) use access::Access;
pub(crate) use extents::MappedExtent;
pub(crate) use lease::{Lease, Tenure};

use crate::bindings;
use crate::vfs::CacheMode;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use extents::Request;
use kernel::{prelude::*, seq_file::SeqFile, sync::Arc};

/// Set by the first [`Memory::new`].
static STARTED: AtomicBool = AtomicBool::new(false);

/// Resources that this module needs while the kernel module is loaded.
pub(crate) struct Memory {
    // Dropped in this order, after the last region.
    _fsdev: fsdev::Watch,
    _poison: poison::Watch,
    _callbacks: dax::Callbacks,
    _registry: registry::Registry,
    _internal: internal::Internal,
}

impl Memory {
    /// Set up the resources for `module`. Call this once, before the first region is opened, and
    /// drop the result after the last region.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(EBUSY);
        }
        let internal = internal::Internal::mount()?;
        // SAFETY: `STARTED` was not set.
        let registry = unsafe { registry::Registry::new(module)? };
        Ok(Memory {
            // SAFETY: `STARTED` was not set.
            _fsdev: unsafe { fsdev::Watch::new() },
            // SAFETY: `STARTED` was not set, and the fields are dropped in order.
            _poison: unsafe { poison::Watch::start() },
            _callbacks: dax::Callbacks,
            _registry: registry,
            _internal: internal,
        })
    }
}

/// Owner of a region's memory. Dropping it releases the memory.
///
/// # Safety
///
/// The [`Window`] that it was opened with must stay mapped, and the struct pages of the memory must
/// stay, until [`Self::release`] is called or the object is dropped.
pub(crate) unsafe trait Owner: Send + Sync {
    /// Release the memory before the drop. Called once, after the lease has been revoked and the
    /// last user is gone.
    fn release(&mut self) {}
}

/// How the mount options show a region.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Not at all: the mount's source shows it.
    Nothing,
    /// As `phys=` and `size=`. Only processes with `CAP_SYS_RAWIO` see the numbers.
    Phys {
        /// Address of the first byte.
        start: u64,
        /// Length in bytes.
        size: u64,
    },
    /// By the name of an option that takes a file descriptor.
    Option(&'static str),
}

/// The kernel's mapping of a region.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Address of the first byte.
    base: NonNull<u8>,
    /// Length in bytes.
    size: u64,
    /// Set if it must be read as I/O memory.
    io: bool,
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
    device: NonNull<bindings::dax_device>,
    /// Offset of the first byte of the region in bytes.
    offset: u64,
}

/// One contiguous region of memory, which others may write at any time.
///
/// # Invariants
///
/// `window` and `method` are those that the owner in `lease` was opened with.
pub(crate) struct Region {
    window: Window,
    method: MapMethod,
    shown: Shown,
    lease: Arc<Lease>,
}

// SAFETY: A lease may be sent to another thread. The window is only copied from, by functions that
// work in any thread.
unsafe impl Send for Region {}
// SAFETY: A lease may be shared. The window is only copied from, by functions that expect others to
// write it.
unsafe impl Sync for Region {}

impl Region {
    /// Make a region.
    ///
    /// # Safety
    ///
    /// The owner in `lease` must have been opened with `window` and `method`.
    unsafe fn new(window: Window, method: MapMethod, shown: Shown, lease: Arc<Lease>) -> Self {
        // INVARIANT: The caller guarantees it.
        Region {
            window,
            method,
            shown,
            lease,
        }
    }

    /// Return how files are mapped.
    #[inline]
    pub(crate) fn method(&self) -> MapMethod {
        self.method
    }

    /// Return true if the region is I/O memory.
    pub(crate) fn is_io(&self) -> bool {
        self.window.io
    }

    /// Claim an extent for mappings of an inode: `length` bytes at `offset`, which are whole pages.
    /// The files of the extent end with `tail` bytes of the page after it. All inodes with the same
    /// extent must have the same `owner`. Return `None` if the range overlaps another extent.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not in the region, `ENOMEM`.
    pub(crate) fn claim(
        &self,
        offset: u64,
        length: u64,
        tail: u64,
        owner: u64,
    ) -> Result<Option<MappedExtent>> {
        let end = offset.checked_add(length).ok_or(EIO)?;
        let pages = (offset | length) % bindings::PAGE_SIZE == 0;
        if !pages || end > self.window.size.next_multiple_of(bindings::PAGE_SIZE) {
            return Err(EIO);
        }
        let request = Request {
            window: self.window,
            method: self.method,
            offset,
            length,
            tail,
            owner,
        };
        // SAFETY: The range is in the region, whose window and method are those of the lease.
        unsafe { MappedExtent::claim(&self.lease, &request) }
    }

    /// Return true if the memory is about to go away, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.lease.revoked()
    }

    /// Revoke the lease, because the memory goes away.
    pub(crate) fn revoke(&self) {
        self.lease.revoke();
    }

    /// Show the region as mount options.
    pub(crate) fn show(&self, seq: &SeqFile) {
        match self.shown {
            Shown::Nothing => {}
            Shown::Phys { start, size } if phys::may_be_known() => {
                kernel::seq_print!(seq, ",phys={:#x},size={:#x}", start, size);
            }
            Shown::Phys { .. } => kernel::seq_print!(seq, ",phys"),
            Shown::Option(name) => kernel::seq_print!(seq, ",{}", name),
        }
    }
}
