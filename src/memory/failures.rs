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

/// Unmap page frame `frame`, which has failed, soon if this may not sleep.
fn failed(frame: usize, may_sleep: bool) {
    poison::check_pages();
    // When memory_failure() returns, no process should have the page.
    if may_sleep {
        return unmap(frame);
    }
    let Ok(failure) = Arc::pin_init(Failure::new(frame), GFP_ATOMIC) else {
        pr_warn!("no memory to unmap page frame {frame:#x}, which has failed\n");
        return;
    };
    workqueue::enqueue(failure);
}

/// Unmap what fails with page frame `frame`.
fn unmap(frame: usize) {
    let frames = poison::failing_with(frame);
    registry::for_each(|lease| lease.unmap_frames(&frames));
}

/// The work item that unmaps a page frame whose memory has failed.
#[pin_data]
struct Failure {
    frame: usize,
    #[pin]
    work: Work<Failure>,
}

impl_has_work! {
    impl HasWork<Failure> for Failure { self.work }
}

impl Failure {
    fn new(frame: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            frame,
            work <- new_work!("daxfs_failure"),
        })
    }
}

impl WorkItem for Failure {
    type Pointer = Arc<Failure>;

    fn run(this: Arc<Failure>) {
        unmap(this.frame);
    }
}
