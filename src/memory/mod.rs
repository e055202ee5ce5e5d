// SPDX-License-Identifier: GPL-2.0

//! Memory that can hold an image.
//!
//! Each source has a file of its own:
//!
//! * [`dax`]: DAX devices, below a block device (persistent memory) or a character device (CXL)
//! * [`phys`]: a reserved range of physical addresses
//! * [`dmabuf`]: the memory of a device or a heap
//! * [`memfd`]: a sealed memfd
//!
//! A source gives a [`Region`]: the memory, mapped into the kernel's address space, and the way in which its files
//! are mapped into processes. [`lease`] says how long it may be used, and what happens when it goes. To read it, call
//! [`Region::access`]; metadata is then loaded by copy through [`crate::image::Memory`], and file content is copied
//! straight to its reader. Both survive a machine check. [`fault`] serves page faults, [`extents`] knows what is
//! mapped, [`poison`] which memory has failed.

mod access;
mod cache;
pub(crate) mod dax;
pub(crate) mod dmabuf;
mod extents;
mod fault;
mod fsdev;
mod internal;
mod lease;
pub(crate) mod memfd;
pub(crate) mod phys;
mod poison;
mod registry;

pub(crate) use access::Access;
pub(crate) use cache::CacheMode;
pub(crate) use extents::tail;
pub(crate) use lease::{Lease, Tenure};

use crate::bindings;
use core::ptr::NonNull;
use extents::Claim;
use kernel::{prelude::*, seq_file::SeqFile, sync::Arc};

/// What this room needs while the module is loaded; to be kept until the last region is gone.
pub(crate) struct Memory {
    // Dropped in this order, after the last region.
    _fsdev: fsdev::Watch,
    _watch: poison::Watch,
    _callbacks: dax::Callbacks,
    _registry: registry::Registry,
    _internal: internal::Internal,
}

impl Memory {
    /// Set it up for `module`. To be called once, before the first region is made.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        let internal = internal::Internal::mount()?;
        let registry = registry::Registry::new(module)?;
        Ok(Memory {
            _fsdev: fsdev::Watch::new(),
            _watch: poison::Watch::start(),
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
/// The memory that it reported stays mapped, and its struct pages stay, until [`Self::release`] is called or the object
/// is dropped.
pub(crate) unsafe trait Source: Send + Sync {
    /// Release the memory ahead of the drop. Called once, after the lease has been revoked and the last user is gone.
    fn release(&mut self) {}
}

/// How the options of a mount show its source.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Not at all: the mount's source says it.
    Nothing,
    /// `phys=` and `size=`, with the numbers for processes that may know physical addresses.
    Phys {
        /// First byte.
        start: u64,
        /// Length in bytes.
        size: u64,
    },
    /// The name of an option that takes a descriptor.
    Option(&'static str),
}

/// A range of kernel addresses.
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
    /// As pages, which their users count; 2 MiB at once where they are contiguous. Only for memory that its owner
    /// cannot take away, move or reuse while we hold it.
    Pages,
    /// As page frames that nobody counts: direct I/O and ptrace do not work on the mappings.
    Frames {
        /// Whether the kernel must read it as I/O memory.
        io: bool,
        /// Cache attributes of the mappings.
        cache: CacheMode,
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
/// `mapping` is what the source of `lease` reported. Others may write the memory at any time.
pub(crate) struct Region {
    mapping: Mapping,
    files: Files,
    shown: Shown,
    lease: Arc<Lease>,
}

// SAFETY: The lease may be shared and sent; the memory at `mapping` is only ever copied from, by functions that expect
// others to write it.
unsafe impl Send for Region {}
// SAFETY: As for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// Return the region that the source of `lease`, which is open, has at `mapping`.
    fn new(mapping: Mapping, files: Files, shown: Shown, lease: Arc<Lease>) -> Self {
        // INVARIANT: Only the files of this room call this, with what their source reported.
        Region {
            mapping,
            files,
            shown,
            lease,
        }
    }

    /// How files are mapped.
    #[inline]
    pub(crate) fn files(&self) -> Files {
        self.files
    }

    /// Claim the `length` bytes at `offset`, whole pages, for mappings of an inode whose data are those of inode
    /// `owner`. Return their address space, or `None` if they overlap what another owner has claimed. Each successful
    /// claim is to be [released](Self::release).
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not inside the region, `ENOMEM`.
    pub(crate) fn claim(
        &self,
        offset: u64,
        length: u64,
        owner: u64,
    ) -> Result<Option<NonNull<bindings::address_space>>> {
        let end = offset.checked_add(length).ok_or(EIO)?;
        if end
            > self
                .mapping
                .size
                .next_multiple_of(bindings::DAXFS_PAGE_SIZE)
        {
            return Err(EIO);
        }
        let base = self.mapping.base.as_ptr().wrapping_add(offset as usize);
        let claim = Claim {
            start: self.key(offset),
            length,
            owner,
            device: match self.files {
                Files::Dax(range) => Some(range.device),
                _ => None,
            },
            base: NonNull::new(base).ok_or(EIO)?,
            // Device memory has no struct pages that could be marked.
            io: self.mapping.io,
        };
        self.lease.claim(&claim)
    }

    /// Release a claim of the extent at `offset`.
    pub(crate) fn release(&self, offset: u64) {
        self.lease.release(self.key(offset));
    }

    /// Extents are known by their place on the DAX device, as that is what announces failures.
    fn key(&self, offset: u64) -> u64 {
        match self.files {
            Files::Dax(range) => range.offset + offset,
            _ => offset,
        }
    }

    /// Return the number of readable bytes among the `length` bytes at `offset`, all of which are in the region: those
    /// before the first page whose memory has failed.
    #[inline]
    fn readable(&self, offset: u64, length: u64) -> u64 {
        if !poison::any() || self.mapping.io {
            return length;
        }
        let page_size = bindings::DAXFS_PAGE_SIZE;
        let base = self.mapping.base.as_ptr();
        let mut at = offset;
        while at < offset + length {
            // SAFETY: The region is mapped there.
            if unsafe { poison::has_failed(base.wrapping_add(at as usize)) } {
                return at - offset;
            }
            at = (at / page_size + 1) * page_size;
        }
        length
    }

    /// Return whether the memory is about to go, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.lease.revoked()
    }

    /// Show the source as mount options.
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

    /// Revoke the lease of the memory, which is going away.
    pub(crate) fn revoke(&self) {
        self.lease.revoke();
    }
}
