// SPDX-License-Identifier: GPL-2.0-only

//! Resources for memory while the kernel module is loaded.

#[cfg(CONFIG_TRACEPOINTS)]
use super::failures;
#[cfg(CONFIG_PCI)]
use super::range;
use super::{dax, fsdev, poison, registry, Tenure};
use crate::linux::internal::Internal;
#[cfg(CONFIG_TRACEPOINTS)]
use crate::linux::memory_failure::Probe;
use crate::linux::workqueue::WorkQueue;
#[cfg(CONFIG_PCI)]
use crate::linux::{bus::Notifier, pci};
use kernel::prelude::*;

/// Resources that this module needs while the kernel module is loaded.
pub(crate) struct Resources {
    // Dropped in this order, after the last region.
    _fsdev: fsdev::Watch,
    #[cfg(CONFIG_PCI)]
    _pci: Notifier,
    #[cfg(CONFIG_TRACEPOINTS)]
    _failures: Option<Probe>,
    _callbacks: dax::Callbacks,
    _queue: WorkQueue,
    _record: poison::Record,
    _internal: Internal,
}

impl Resources {
    /// Set up the resources for `module`. Drop the result after the last region.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        let internal = Internal::mount()?;
        let queue = WorkQueue::new(c"daxfs", module)?;
        // Without a report of failures, check all pages.
        #[cfg(not(CONFIG_TRACEPOINTS))]
        poison::check_pages();
        Ok(Resources {
            _fsdev: fsdev::Watch,
            #[cfg(CONFIG_PCI)]
            _pci: pci::watch_removals(range::removing)?,
            #[cfg(CONFIG_TRACEPOINTS)]
            _failures: failures::watch(),
            _callbacks: dax::Callbacks,
            _queue: queue,
            _record: poison::Record,
            _internal: internal,
        })
    }

    /// Begin to use memory, which is not open yet.
    pub(crate) fn start(&self) -> Result<Tenure> {
        registry::start()
    }
}
