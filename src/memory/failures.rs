// SPDX-License-Identifier: GPL-2.0-only

//! Watching for memory that fails.

use super::{poison, registry};
use crate::linux::memory_failure::Probe;

/// Register a probe that is called when memory fails, until it is dropped.
pub(super) fn watch() -> Option<Probe> {
    let probe = Probe::new(failed);
    // Check all pages if memory has failed before, or if no failure would be reported.
    if probe.is_none() || poison::failed_before() {
        poison::check_pages();
    }
    probe
}

/// Unmap what may be on memory that has failed: when memory_failure() returns, no process should
/// have the page. Failures are rare, and the next faults map all that is intact, so the memory
/// itself is not looked for.
fn failed() {
    poison::check_pages();
    registry::for_each(|lease| lease.unmap_suspects());
}
