// SPDX-License-Identifier: GPL-2.0-only

//! The list of all leases, and their workqueue.

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
    // SAFETY: `Registry::new` initializes it, before the first mount.
    //
    // Protects the list only. Nobody waits under it for anything but memory.
    unsafe(uninit) static LEASES: Mutex<KVec<Arc<Lease>>> = KVec::new();
}

/// The workqueue, while the module is loaded.
static QUEUE: AtomicPtr<bindings::workqueue_struct> = AtomicPtr::new(ptr::null_mut());

/// The work item of [`look_for_failures`], while the module is loaded.
static LOOK: AtomicPtr<Look> = AtomicPtr::new(ptr::null_mut());

/// This module.
static MODULE: AtomicPtr<bindings::module> = AtomicPtr::new(ptr::null_mut());

/// The list of leases and the workqueue, while the module is loaded.
///
/// # Invariants
///
/// Owns the workqueue in [`QUEUE`] and the reference in [`LOOK`]. [`LEASES`] is initialized.
pub(super) struct Registry(());

impl Registry {
    /// Make the list and the workqueue for `module`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// This must be called once.
    pub(super) unsafe fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The caller guarantees that this is called once.
        unsafe { LEASES.init() };
        MODULE.store(module.as_ptr().cast(), Ordering::Release);
        let look = Arc::pin_init(Look::new(), GFP_KERNEL)?;
        // SAFETY: This may be called in any context that can sleep.
        let queue =
            unsafe { bindings::alloc_workqueue(c"daxfs".as_char_ptr(), bindings::WQ_UNBOUND) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Ordering::Release);
        LOOK.store(Arc::into_raw(look).cast_mut(), Ordering::Release);
        // INVARIANT: Both were stored above.
        Ok(Registry(()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let look = LOOK.swap(ptr::null_mut(), Ordering::AcqRel);
        let queue = QUEUE.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the type invariant this owns the workqueue. No lease is left, so nothing is
        // queued any more. This waits for work items that are running.
        unsafe { bindings::destroy_workqueue(queue) };
        // SAFETY: By the type invariant this owns the reference.
        drop(unsafe { Arc::from_raw(look) });
        *LEASES.lock() = KVec::new();
    }
}

/// Add a lease to the list.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn add(lease: &Arc<Lease>) -> Result {
    LEASES.lock().push(lease.clone(), GFP_KERNEL)?;
    Ok(())
}

/// Remove a lease from the list.
pub(super) fn remove(lease: &Arc<Lease>) {
    let mut leases = LEASES.lock();
    let at = leases.iter().position(|entry| Arc::ptr_eq(entry, lease));
    let entry = at.and_then(|at| leases.remove(at).ok());
    drop(leases);
    drop(entry);
}

/// Return a lease for which `wanted` returns true, if there is one.
pub(super) fn find_by(wanted: impl Fn(&Lease) -> bool) -> Option<Arc<Lease>> {
    let leases = LEASES.lock();
    let found = leases.iter().find(|lease| wanted(lease));
    found.cloned()
}

/// Queue the work item of `lease`, to run after `delay`, unless it is queued already.
///
/// The work item holds a reference to the module until it calls [`done`].
///
/// # Safety
///
/// The module must stay loaded during the call.
pub(super) unsafe fn queue(lease: Arc<Lease>, delay: Jiffies) {
    let queue = QUEUE.load(Ordering::Acquire);
    if queue.is_null() {
        return;
    }
    // SAFETY: The caller guarantees that the module stays.
    unsafe { bindings::__module_get(MODULE.load(Ordering::Acquire)) };
    // SAFETY: The workqueue lives until `Registry` is dropped, after the last lease.
    let queue = unsafe { Queue::from_raw(queue.cast()) };
    if queue.enqueue_delayed(lease, delay).is_err() {
        // SAFETY: The reference was got above.
        unsafe { done() };
    }
}

/// Put the reference to the module that a work item holds. The work item returns before the module
/// is unloaded, because that destroys the workqueue.
///
/// # Safety
///
/// [`queue`] must have queued the calling work item, which calls this once.
pub(super) unsafe fn done() {
    // SAFETY: `queue` got the reference.
    unsafe { bindings::module_put(MODULE.load(Ordering::Acquire)) };
}

/// Queue a work item that unmaps pages whose memory has failed. May be called in any context.
///
/// # Safety
///
/// The [`Registry`] must not be dropped during the call.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(super) unsafe fn look_for_failures() {
    let (queue, look) = (
        QUEUE.load(Ordering::Acquire),
        LOOK.load(Ordering::Acquire).cast_const(),
    );
    if queue.is_null() || look.is_null() {
        return;
    }
    // SAFETY: The registry owns the workqueue.
    let queue = unsafe { Queue::from_raw(queue.cast()) };
    // SAFETY: The registry owns a reference to the work item.
    let look = unsafe { ArcBorrow::from_raw(look) };
    // This fails if it is queued already.
    let _ = queue.enqueue::<Arc<Look>, 0>(look.into());
}

/// The work item that unmaps pages whose memory has failed.
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
        // Lock the list for one lease at a time. Go from the last to the first: if a lease is
        // removed meanwhile, another one is visited twice, but none is missed.
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
