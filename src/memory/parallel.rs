// SPDX-License-Identifier: GPL-2.0-only

//! Work on several processors at once.

use super::{queue, Region};
use crate::bindings;
use core::{
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicU8, Ordering},
};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{Arc, Completion},
    workqueue::{Work, WorkItem},
};

/// Largest number of threads that work together.
const THREADS_MAX: usize = 64;

/// State of a [`Job`] that no thread has taken yet.
const QUEUED: u8 = 0;
/// State of a [`Job`] whose function is called, or was.
const RUNNING: u8 = 1;
/// State of a [`Job`] whose function is never called.
const CANCELLED: u8 = 2;

/// A call of a function by a thread of the workqueue.
///
/// # Invariants
///
/// `function` points to a `&(dyn Fn() + Sync)`. It is valid until `state` becomes `CANCELLED`, or
/// until `done` is complete. Only [`together`] makes jobs.
#[pin_data]
struct Job {
    function: *const c_void,
    state: AtomicU8,
    #[pin]
    done: Completion,
    #[pin]
    work: Work<Job>,
}

// SAFETY: The function may be called by any thread, and the pointer is not changed.
unsafe impl Send for Job {}
// SAFETY: As for `Send`.
unsafe impl Sync for Job {}

impl_has_work! {
    impl HasWork<Self> for Job { self.work }
}

impl Job {
    fn new(function: *const c_void) -> Result<Arc<Self>> {
        let job = pin_init!(Job {
            function,
            state: AtomicU8::new(QUEUED),
            done <- Completion::new(),
            work <- new_work!("daxfs::Job"),
        });
        Arc::pin_init(job, GFP_KERNEL)
    }

    /// Leave the state `QUEUED`. Return false if the job has left it before.
    fn claim(&self, state: u8) -> bool {
        let result =
            self.state
                .compare_exchange(QUEUED, state, Ordering::AcqRel, Ordering::Acquire);
        result.is_ok()
    }

    /// Prevent the call, or wait until it has returned.
    fn finish(&self) {
        if !self.claim(CANCELLED) {
            self.done.wait_for_completion();
        }
    }
}

impl WorkItem for Job {
    type Pointer = Arc<Self>;

    fn run(job: Arc<Self>) {
        if !job.claim(RUNNING) {
            return;
        }
        let function = job.function.cast::<&(dyn Fn() + Sync)>();
        // SAFETY: The job is not cancelled, and `done` is not complete. By the type invariant the
        // pointer is valid.
        let function = unsafe { *function };
        function();
        job.done.complete_all();
    }
}

/// Return the number of processors that this thread may use and that are online, at least 1.
fn allowed() -> usize {
    // SAFETY: This may be called in any context of a process.
    let count = unsafe { bindings::current_cpus() };
    super::processors().min(count as usize).max(1)
}

/// Call `own` in this thread, and `other` in threads of the workqueue at the same time: so many
/// that `count` processors are used, if this thread may use that many and there is enough memory.
/// Return after all calls have returned. `other` must return soon after `own` does; calls that have
/// not begun then are not made.
pub(crate) fn together<R>(
    _region: &Region,
    count: usize,
    other: &(dyn Fn() + Sync),
    own: impl FnOnce() -> R,
) -> R {
    let threads = allowed().min(count).min(THREADS_MAX);
    let function = ptr::from_ref(&other).cast();
    let mut jobs = KVec::new();
    for _ in 1..threads {
        // INVARIANT: `finish` is called below for each job that is queued, while `other` lives.
        // With less memory there are fewer threads.
        let Ok(job) = Job::new(function) else {
            break;
        };
        if jobs.push(job.clone(), GFP_KERNEL).is_err() {
            break;
        }
        // SAFETY: A region exists, so the module has not dropped the workqueue.
        if !unsafe { queue::queue(job) } {
            jobs.pop();
        }
    }
    let result = own();
    for job in &jobs {
        job.finish();
    }
    result
}
