// SPDX-License-Identifier: GPL-2.0-only

//! State that memory requires as long as the kernel module is loaded.

use super::{
    dax,
    registry, //
};
use crate::linux::dax::make_and_kill;
use crate::linux::memory_failure::Probe;
use crate::linux::mm::poison;
use crate::linux::workqueue::WorkQueue;
use crate::prelude::*;

/// The watches and the queue that every lease relies on. Drop them after the last region.
pub(crate) struct Resources {
    // Dropped in this order.
    #[cfg(CONFIG_DAXFS_FS_PHYS)]
    _phys: super::phys::Watch,
    _failures: Option<Probe>,
    _queue: WorkQueue,
}

impl Drop for Resources {
    fn drop(&mut self) {
        dax::unwatch();
        // We no longer hold any device, but a callback may still be running. Killing a device waits
        // for the callbacks of all devices.
        if let Err(error) = make_and_kill() {
            pr_err!("cannot wait for callbacks of DAX devices: {:?}\n", error);
        }
    }
}

impl Resources {
    pub(crate) fn new() -> Result<Self> {
        let queue = WorkQueue::new(c"daxfs")?;
        Ok(Resources {
            #[cfg(CONFIG_DAXFS_FS_PHYS)]
            _phys: super::phys::Watch::new()?,
            _failures: watch_failures(),
            _queue: queue,
        })
    }
}

/// Registers a probe that is called when memory fails, until it is dropped.
fn watch_failures() -> Option<Probe> {
    let probe = Probe::new(failed);
    if probe.is_none() {
        poison::set_unreported();
    } else if poison::failed_before() {
        poison::set_any();
    }
    probe
}

/// Unmaps the failed page frame `frame`: when memory_failure() returns, no process should map it.
fn failed(frame: usize) {
    poison::set_any();
    registry::for_each(|lease| lease.frame_failed(frame));
}
