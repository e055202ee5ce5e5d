// SPDX-License-Identifier: GPL-2.0-only

//! Work on several processors at once.

use super::queue;
use core::{ffi::c_void, ptr};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{Arc, Completion},
    workqueue::{Work, WorkItem},
};

/// Largest number of threads that work together.
const THREADS_MAX: usize = 64;

/// A call of a function by a thread of the workqueue.
#[pin_data]
struct Job {
    /// Points to a `&(dyn Fn() + Sync)`, which is valid until `done` is complete.
    function: *const c_void,
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
            done <- Completion::new(),
            work <- new_work!("daxfs::Job"),
        });
        Arc::pin_init(job, GFP_KERNEL)
    }
}

impl WorkItem for Job {
    type Pointer = Arc<Self>;

    fn run(job: Arc<Self>) {
        let function = job.function.cast::<&(dyn Fn() + Sync)>();
        // SAFETY: `together` waits for `done` before the function ends.
        let function = unsafe { *function };
        function();
        job.done.complete_all();
    }
}

/// Call `own` in this thread, and `other` in threads of the workqueue at the same time: so many
/// that `count` processors are used, if there are that many online and enough memory. Return after
/// all calls have returned. `other` must return soon after `own` does.
pub(crate) fn together<R>(count: usize, other: &(dyn Fn() + Sync), own: impl FnOnce() -> R) -> R {
    let threads = super::processors().min(count).min(THREADS_MAX);
    let function = ptr::from_ref(&other).cast();
    let mut jobs = KVec::new();
    for _ in 1..threads {
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
        job.done.wait_for_completion();
    }
    result
}
