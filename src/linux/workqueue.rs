// SPDX-License-Identifier: GPL-2.0-only

//! Our workqueue, and work items that keep the module loaded.
//!
//! The kernel crate cannot make a workqueue, and its work items do not hold the module.

use super::this_module;
use crate::linux::prelude::*;
use kernel::{
    impl_has_delayed_work, new_delayed_work,
    sync::rcu,
    time::Jiffies,
    workqueue::{
        DelayedWork,
        Queue,
        RawWorkItem,
        WorkItem, //
    },
};

/// The workqueue, while the module is loaded. It stays as long as an RCU read lock is held.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// Number of jobs that are queued, or run.
static JOBS: Atomic<usize> = Atomic::new(0);

/// The workqueue. Its drop waits for work items that are queued or running.
///
/// # Invariants
///
/// Owns the workqueue, which is in [`QUEUE`] unless another one took its place.
pub(crate) struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be destroyed by any thread.
unsafe impl Send for WorkQueue {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Creates the workqueue.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is NUL-terminated.
        let new = unsafe { bindings::alloc_workqueue(name.as_char_ptr(), bindings::WQ_UNBOUND) };
        // INVARIANT: The workqueue was made above.
        let new = WorkQueue(NonNull::new(new).ok_or(ENOMEM)?);
        QUEUE.store(new.0.as_ptr(), Release);
        Ok(new)
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // Another workqueue may have taken the place.
        let own = self.0.as_ptr();
        let _ = QUEUE.cmpxchg(own, ptr::null_mut(), Full);
        // SAFETY: The module is being loaded or unloaded, which can sleep.
        unsafe { bindings::synchronize_rcu() };
        // destroy_workqueue() does not wait for work that is to be queued later.
        while JOBS.load(Acquire) > 0 {
            fsleep(Delta::from_millis(10));
        }
        // SAFETY: By the type invariant this owns the workqueue, which nothing finds after the
        // grace period. The kernel waits for the end of jobs that run.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// The work of a [`Job`].
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// Does the work. Returns the delay until it should run again, if at all.
    fn run(job: &Arc<Job<Self>>) -> Option<Jiffies>;
}

/// Data with a work item, which keeps the module loaded while it is queued or running.
#[pin_data]
pub(crate) struct Job<T> {
    #[pin]
    work: DelayedWork<Job<T>>,
    #[pin]
    data: T,
}

impl<T> Deref for Job<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.data
    }
}

impl_has_delayed_work! {
    impl{T: Work} HasDelayedWork<Job<T>> for Job<T> { self.work }
}

impl<T: Work> Job<T> {
    /// Creates a job that is not queued.
    pub(crate) fn of(data: impl PinInit<T, Error>) -> Result<Arc<Self>> {
        let job = try_pin_init!(Job {
            work <- new_delayed_work!("daxfs_job"),
            data <- data,
        }? Error);
        Arc::pin_init(job, GFP_KERNEL_ACCOUNT)
    }

    /// Queues the job, to run after `delay`, unless it is queued already; without a delay, run it
    /// now, even if it is queued for later. May be called in any context.
    pub(crate) fn queue(self: &Arc<Self>, delay: Jiffies) {
        // SAFETY: The module stays as long as this code runs.
        if !unsafe { bindings::try_module_get(this_module()) } {
            return;
        }
        JOBS.fetch_add(1, Relaxed);
        if !self.enqueue(delay) {
            JOBS.fetch_sub(1, Relaxed);
            // SAFETY: The reference was got above.
            unsafe { bindings::module_put(this_module()) };
        }
    }

    /// Like [`Self::queue`], without the module. Returns true if the job was not queued,
    /// and there is a workqueue.
    fn enqueue(self: &Arc<Self>, delay: Jiffies) -> bool {
        let _guard = rcu::read_lock();
        let raw = QUEUE.load(Acquire);
        if raw.is_null() {
            return false;
        }
        let job = self.clone();
        if delay > 0 {
            // SAFETY: The workqueue stays while the RCU read lock is held.
            let queue = unsafe { Queue::from_raw(raw.cast()) };
            return queue.enqueue_delayed(job, delay).is_ok();
        }
        let now = |work: *mut kernel::bindings::work_struct| {
            // SAFETY: This is the start of a delayed work item. The workqueue stays, as above.
            !unsafe { bindings::mod_delayed_work(raw, work.cast(), 0) }
        };
        // SAFETY: The closure returns true if it has queued the work item, which was not queued.
        unsafe { job.__enqueue(now) }.is_ok()
    }
}

impl<T: Work> WorkItem for Job<T> {
    type Pointer = Arc<Job<T>>;

    fn run(this: Arc<Job<T>>) {
        if let Some(delay) = T::run(&this) {
            this.queue(delay);
        }
        drop(this);
        JOBS.fetch_sub(1, Release);
        // SAFETY: `queue` has got this reference. The module is not unloaded before this returns,
        // because that destroys the workqueue.
        unsafe { bindings::module_put(this_module()) };
    }
}
