// SPDX-License-Identifier: GPL-2.0-only

//! Watching for memory that fails.

use super::{poison, registry};
use crate::linux::{memory_failure::Probe, workqueue};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    workqueue::{Work, WorkItem},
};

/// The registration of a probe that is called when memory fails.
pub(super) struct Watch(#[allow(dead_code)] Option<Probe>);

impl Watch {
    /// Register the probe.
    pub(super) fn start() -> Self {
        let probe = Probe::new(failed);
        // Check all pages if memory has failed before, or if no failure would be reported.
        if probe.is_none() || poison::failed_before() {
            poison::check_pages();
        }
        Watch(probe)
    }
}

/// Unmap what may be on memory that has failed, soon if this may not sleep. Failures are rare, and
/// the next faults map all that is intact, so the memory itself is not looked for.
fn failed(may_sleep: bool) {
    poison::check_pages();
    // When memory_failure() returns, no process should have the page.
    if may_sleep {
        return unmap();
    }
    let Ok(failure) = Arc::pin_init(Failure::new(), GFP_ATOMIC) else {
        pr_warn!("no memory to unmap memory that has failed\n");
        return;
    };
    workqueue::enqueue(failure);
}

fn unmap() {
    registry::for_each(|lease| lease.unmap_suspects());
}

/// The work item for a failure of memory.
#[pin_data]
struct Failure {
    #[pin]
    work: Work<Failure>,
}

impl_has_work! {
    impl HasWork<Failure> for Failure { self.work }
}

impl Failure {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- new_work!("daxfs_failure"),
        })
    }
}

impl WorkItem for Failure {
    type Pointer = Arc<Failure>;

    fn run(_this: Arc<Failure>) {
        unmap();
    }
}
