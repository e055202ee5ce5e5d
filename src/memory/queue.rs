// SPDX-License-Identifier: GPL-2.0-only

//! The workqueue of this module.

use crate::bindings;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{
    prelude::*,
    time::Jiffies,
    workqueue::{Queue, RawDelayedWorkItem, RawWorkItem},
};

/// The workqueue, while the module is loaded.
static QUEUE: AtomicPtr<bindings::workqueue_struct> = AtomicPtr::new(ptr::null_mut());

/// This module.
static MODULE: AtomicPtr<bindings::module> = AtomicPtr::new(ptr::null_mut());

/// The workqueue. Dropping it waits for work items that are queued or running.
///
/// # Invariants
///
/// Owns the workqueue in [`QUEUE`].
pub(super) struct WorkQueue(());

impl WorkQueue {
    /// Make the workqueue for `module`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// This must be called once.
    pub(super) unsafe fn new(module: &'static ThisModule) -> Result<Self> {
        MODULE.store(module.as_ptr().cast(), Ordering::Release);
        // SAFETY: This may be called in any context that can sleep.
        let queue =
            unsafe { bindings::alloc_workqueue(c"daxfs".as_char_ptr(), bindings::WQ_UNBOUND) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Ordering::Release);
        // INVARIANT: The workqueue was stored above.
        Ok(WorkQueue(()))
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        let queue = QUEUE.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the type invariant this owns the workqueue. Callers of the functions below
        // guarantee that nothing more is queued, and the kernel runs what is queued.
        unsafe { bindings::destroy_workqueue(queue) };
    }
}

/// Return the workqueue, if there is one.
///
/// # Safety
///
/// The [`WorkQueue`] must not be dropped during `'a`.
unsafe fn get<'a>() -> Option<&'a Queue> {
    let queue = QUEUE.load(Ordering::Acquire);
    // SAFETY: `WorkQueue` owns the workqueue, and the caller guarantees that it lives.
    (!queue.is_null()).then(|| unsafe { Queue::from_raw(queue.cast()) })
}

/// Queue `item`, unless it is queued already. May be called in any context.
///
/// # Safety
///
/// The [`WorkQueue`] must not be dropped during the call.
pub(super) unsafe fn queue<W>(item: W)
where
    W: RawWorkItem<0, EnqueueOutput = Result<(), W>> + Send + 'static,
{
    // SAFETY: The caller guarantees it.
    if let Some(queue) = unsafe { get() } {
        let _ = queue.enqueue(item);
    }
}

/// Queue `item`, to run after `delay`, unless it is queued already; without a delay, run it now,
/// even if it is queued for later. It holds a reference to the module until it calls [`done`].
///
/// # Safety
///
/// The module must stay loaded, and the [`WorkQueue`] not be dropped, during the call.
pub(super) unsafe fn queue_with_module<W>(item: W, delay: Jiffies)
where
    W: RawDelayedWorkItem<0, EnqueueOutput = Result<(), W>> + Send + 'static,
{
    // SAFETY: The caller guarantees it.
    let Some(queue) = (unsafe { get() }) else {
        return;
    };
    // SAFETY: The caller guarantees that the module stays.
    unsafe { bindings::__module_get(MODULE.load(Ordering::Acquire)) };
    let queued = if delay > 0 {
        queue.enqueue_delayed(item, delay)
    } else {
        let queue = QUEUE.load(Ordering::Acquire);
        let now = |work: *mut kernel::bindings::work_struct| {
            // SAFETY: This is the start of a delayed work item. The caller guarantees that the
            // workqueue lives.
            !unsafe { bindings::mod_delayed_work(queue, work.cast(), 0) }
        };
        // SAFETY: The closure returns true if it has queued the work item, which was not queued.
        unsafe { item.__enqueue(now) }
    };
    if queued.is_err() {
        // SAFETY: The reference was got above.
        unsafe { done() };
    }
}

/// Put the reference to the module that a work item holds. The work item returns before the module
/// is unloaded, because that destroys the workqueue.
///
/// # Safety
///
/// [`queue_with_module`] must have queued the calling work item, which calls this once.
pub(super) unsafe fn done() {
    // SAFETY: `queue_with_module` got the reference.
    unsafe { bindings::module_put(MODULE.load(Ordering::Acquire)) };
}
