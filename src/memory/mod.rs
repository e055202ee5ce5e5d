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
//! survive a machine check. [`Region::lend`] gives pages of a memfd to pipes, whose readers do not.
//!
//! To map a file, claim its extent with [`Region::claim`]; [`fault`] handles page faults,
//! [`extents`] and [`tree`] know what is mapped, [`poison`] which memory has failed.
//!
//! This module depends on the kernel, `image::Memory`, and the types of `linux` that
//! stand for kernel objects: a block device, a page fault, an address space, error codes.

mod access;
mod claim;
pub(crate) mod dax;
pub(crate) mod dmabuf;
mod extents;
#[cfg(CONFIG_TRACEPOINTS)]
mod failures;
mod fault;
mod fsdev;
mod lease;
pub(crate) mod memfd;
#[cfg(CONFIG_PCI)]
mod pci;
pub(crate) mod phys;
mod poison;
mod range;
mod registry;
mod tree;

pub(crate) use crate::linux::mm::MapMethod;
pub(crate) use access::Access;
pub(crate) use extents::MappedExtent;
pub(crate) use registry::Tenure;

use crate::bindings;
use crate::image;
use crate::linux::mm::{Described, Owner};
#[cfg(CONFIG_PCI)]
use crate::linux::pci::Notifier;
use crate::linux::workqueue::WorkQueue;
use crate::linux::{internal, security};
use core::ops::Range;
use kernel::{prelude::*, seq_file::SeqFile};

/// Resources that this module needs while the kernel module is loaded.
pub(crate) struct Memory {
    // Dropped in this order, after the last region.
    _fsdev: fsdev::Watch,
    #[cfg(CONFIG_PCI)]
    _pci: Notifier<pci::Release>,
    #[cfg(CONFIG_TRACEPOINTS)]
    _failures: failures::Watch,
    _callbacks: dax::Callbacks,
    _queue: WorkQueue,
    _record: poison::Record,
    _internal: internal::Internal,
}

impl Memory {
    /// Set up the resources for `module`. Drop the result after the last region.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        let internal = internal::Internal::mount()?;
        let queue = WorkQueue::new(c"daxfs", module)?;
        // Without a report of failures, check all pages.
        #[cfg(not(CONFIG_TRACEPOINTS))]
        poison::check_pages();
        Ok(Memory {
            _fsdev: fsdev::Watch,
            #[cfg(CONFIG_PCI)]
            _pci: Notifier::new()?,
            #[cfg(CONFIG_TRACEPOINTS)]
            _failures: failures::Watch::start(),
            _callbacks: dax::Callbacks,
            _queue: queue,
            _record: poison::Record,
            _internal: internal,
        })
    }

    /// Begin to use memory, which is not open yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn start(&self) -> Result<Tenure> {
        registry::start()
    }
}

/// Return the number of processors that are online, at least 1.
pub(crate) fn processors() -> usize {
    // SAFETY: This may be called in any context.
    let count = unsafe { bindings::num_online_cpus() };
    (count as usize).max(1)
}

/// Says which bytes of a region processes may map.
pub(crate) trait Gate {
    /// Make `length` bytes at `offset` usable. This may take long, so call it without access to the
    /// memory.
    ///
    /// # Errors
    ///
    /// The reason why they must not be used.
    fn open(&self, offset: u64, length: u64) -> image::Result<()>;

    /// Return true if `length` bytes at `offset` may be used now.
    fn is_open(&self, offset: u64, length: u64) -> bool;

    /// Return true if [`Self::open`] knows its answer for these bytes, so that it does not wait.
    fn is_decided(&self, offset: u64, length: u64) -> bool;
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

/// One contiguous region of memory, which others may write at any time.
pub(crate) struct Region {
    memory: Described,
    shown: Shown,
    tenure: Tenure,
}

impl Region {
    /// Make the region of the memory that the owner in the lease has mapped.
    ///
    /// # Errors
    ///
    /// `EIO` if it has mapped none, or the lease is revoked.
    fn of_owner(shown: Shown, tenure: &Tenure) -> Result<Self> {
        Ok(Region {
            memory: tenure.lease().described()?,
            shown,
            tenure: tenure.clone(),
        })
    }

    /// Return how files are mapped.
    #[inline]
    pub(crate) fn method(&self) -> MapMethod {
        self.memory.method()
    }

    /// Return true if the region is I/O memory.
    pub(crate) fn is_io(&self) -> bool {
        self.memory.is_io()
    }

    /// Return true if the memory is about to go away, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.tenure.lease().revoked()
    }

    /// Revoke the lease, because the memory goes away.
    pub(crate) fn revoke(&self) {
        self.tenure.lease().revoke();
    }

    /// Show the region as mount options, and the `part` of the source that it is.
    pub(crate) fn show(&self, seq: &SeqFile, part: Option<&Range<u64>>) {
        match self.shown {
            Shown::Nothing => {}
            Shown::Phys { start, size } if security::opener_has_raw_io(seq) => {
                kernel::seq_print!(seq, ",phys={:#x},size={:#x}", start, size);
            }
            Shown::Phys { .. } => return kernel::seq_print!(seq, ",phys"),
            Shown::Option(name) => kernel::seq_print!(seq, ",{}", name),
        }
        if let Some(Range { start, end }) = part {
            kernel::seq_print!(seq, ",fsoffset={:#x},fslength={:#x}", start, end - start);
        }
    }
}
