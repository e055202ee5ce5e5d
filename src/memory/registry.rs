// SPDX-License-Identifier: GPL-2.0

//! The leases of all regions, and the workqueue that looks after them.

use super::lease::Lease;
use crate::bindings;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{global_lock, Arc, ArcBorrow},
    time::Jiffies,
    workqueue::{Queue, Work, WorkItem},
};

global_lock! {
    // SAFETY: Initialized in `Registry::new`, before the first mount.
    //
    // Protects the list alone. Nobody waits under it for anything but memory.
    unsafe(uninit) static LEASES: Mutex<KVec<Arc<Lease>>> = KVec::new();
}

/// The workqueue, while the module is loaded.
static QUEUE: AtomicPtr<bindings::workqueue_struct> = AtomicPtr::new(ptr::null_mut());

/// The work item of [`look_for_failures`], likewise.
static LOOK: AtomicPtr<Look> = AtomicPtr::new(ptr::null_mut());

/// This module.
static MODULE: AtomicPtr<bindings::module> = AtomicPtr::new(ptr::null_mut());

/// What this room needs while the module is loaded.
///
/// # Invariants
///
/// Owns the workqueue in [`QUEUE`] and the reference in [`LOOK`].
pub(super) struct Registry(());

impl Registry {
    /// Set it up for `module`. To be called once.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Called once.
        unsafe { LEASES.init() };
        MODULE.store(module.as_ptr().cast(), Ordering::Release);
        let look = Arc::pin_init(Look::new(), GFP_KERNEL)?;
        // SAFETY: May be called in any context that can sleep.
        let queue = unsafe { bindings::daxfs_helper_alloc_workqueue() };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Ordering::Release);
        LOOK.store(Arc::into_raw(look).cast_mut(), Ordering::Release);
        // INVARIANT: Stored just now.
        Ok(Registry(()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let look = LOOK.swap(ptr::null_mut(), Ordering::AcqRel);
        let queue = QUEUE.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the invariant both are ours. No lease is left, so nothing is queued any more; the first call
        // waits for what still runs.
        unsafe {
            bindings::destroy_workqueue(queue);
            drop(Arc::from_raw(look));
        }
        *LEASES.lock() = KVec::new();
    }
}

/// Enter a lease.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn enter(lease: &Arc<Lease>) -> Result {
    LEASES.lock().push(lease.clone(), GFP_KERNEL)?;
    Ok(())
}

/// Remove a lease.
pub(super) fn remove(lease: &Arc<Lease>) {
    let mut leases = LEASES.lock();
    let at = leases.iter().position(|entry| Arc::ptr_eq(entry, lease));
    let entry = at.and_then(|at| leases.remove(at).ok());
    drop(leases);
    drop(entry);
}

/// Return a lease that `wanted` accepts, if there is one.
pub(super) fn find_by(wanted: impl Fn(&Lease) -> bool) -> Option<Arc<Lease>> {
    let leases = LEASES.lock();
    let found = leases.iter().find(|lease| wanted(lease));
    found.cloned()
}

/// Queue `lease` for the work that it has, `delay` later. It may be queued already.
///
/// The caller sees to it that the module stays during the call. The work item gives back the reference to the module
/// that it holds when it calls [`done`].
pub(super) fn queue(lease: Arc<Lease>, delay: Jiffies) {
    let queue = QUEUE.load(Ordering::Acquire);
    if queue.is_null() {
        return;
    }
    // SAFETY: Our own module, which stays.
    unsafe { bindings::__module_get(MODULE.load(Ordering::Acquire)) };
    // SAFETY: The queue lives as long as the module is loaded.
    let queue = unsafe { Queue::from_raw(queue.cast()) };
    if queue.enqueue_delayed(lease, delay).is_err() {
        done();
    }
}

/// Note that a work item which [`queue`] has queued is done. The workqueue is destroyed, and so the work item has
/// returned, before the module goes.
pub(super) fn done() {
    // SAFETY: `queue` got the reference.
    unsafe { bindings::module_put(MODULE.load(Ordering::Acquire)) };
}

/// Have failed pages unmapped from all processes, soon. May be called in any context.
pub(super) fn look_for_failures() {
    let (queue, look) = (
        QUEUE.load(Ordering::Acquire),
        LOOK.load(Ordering::Acquire).cast_const(),
    );
    if queue.is_null() || look.is_null() {
        return;
    }
    // SAFETY: Both live until the callers of this function are unregistered.
    let (queue, look) = unsafe { (Queue::from_raw(queue.cast()), ArcBorrow::from_raw(look)) };
    // If it is queued already, it has yet to look.
    let _ = queue.enqueue::<Arc<Look>, 0>(look.into());
}

/// Looks for pages that are mapped and have failed.
#[pin_data]
struct Look {
    #[pin]
    work: Work<Look>,
}

impl_has_work! {
    impl HasWork<Look> for Look { self.work }
}

impl Look {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- new_work!("daxfs_look"),
        })
    }
}

impl WorkItem for Look {
    type Pointer = Arc<Look>;

    fn run(_this: Arc<Look>) {
        // One by one, so that the list is not locked for long, from the last to the first: if one is removed
        // meanwhile, another is looked at twice, but none is left out.
        let mut number = LEASES.lock().len();
        while number > 0 {
            number -= 1;
            let lease = LEASES.lock().get(number).cloned();
            if let Some(lease) = lease {
                lease.unmap_failed();
            }
        }
    }
}
