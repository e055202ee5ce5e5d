// SPDX-License-Identifier: GPL-2.0-only

//! The list of all leases, and how they end.

use super::lease::{again, Lease, Progress};
use super::queue;
use kernel::{
    prelude::*,
    sync::{global_lock, Arc},
    workqueue::WorkItem,
};

global_lock! {
    // SAFETY: `Registry::new` initializes it, before the first mount.
    //
    // Protects the list only. Nobody waits under it for anything but memory.
    unsafe(uninit) static LEASES: Mutex<KVec<Arc<Lease>>> = KVec::new();
}

/// The list of leases, while the module is loaded.
///
/// # Invariants
///
/// [`LEASES`] is initialized.
pub(super) struct Registry(());

impl Registry {
    /// Make the list.
    ///
    /// # Safety
    ///
    /// This must be called once.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: The caller guarantees that this is called once.
        unsafe { LEASES.init() };
        // INVARIANT: The list was initialized above.
        Registry(())
    }

    /// Make a lease and add it to the list.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn start(&self) -> Result<Tenure> {
        let lease = Lease::new()?;
        LEASES.lock().push(lease.clone(), GFP_KERNEL)?;
        // INVARIANT: Nothing else ends the new lease.
        let tenant = Arc::new(Tenant(lease), GFP_KERNEL)?;
        Ok(Tenure(tenant))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        *LEASES.lock() = KVec::new();
    }
}

/// The right to use the memory of a lease, which ends when the last clone is dropped. That must not
/// happen under `s_umount`.
#[derive(Clone)]
pub(crate) struct Tenure(Arc<Tenant>);

/// What the clones of a tenure share.
///
/// # Invariants
///
/// The lease has not ended.
struct Tenant(Arc<Lease>);

impl Tenure {
    /// Return the lease. It does not end before the tenure is dropped.
    #[inline]
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.0 .0
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // SAFETY: This is dropped with the last tenure, and nothing else ends the lease.
        if let Progress::Ended = unsafe { self.0.end() } {
            remove(&self.0);
        }
    }
}

/// Remove a lease from the list.
fn remove(lease: &Arc<Lease>) {
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

/// Call `visit` for each lease, without the lock of the list.
pub(super) fn for_each(visit: impl Fn(&Arc<Lease>)) {
    // Go from the last to the first: if a lease is removed meanwhile, another one is visited twice,
    // but none is missed.
    let mut number = LEASES.lock().len();
    while number > 0 {
        number -= 1;
        let lease = LEASES.lock().get(number).cloned();
        if let Some(lease) = lease {
            visit(&lease);
        }
    }
}

/// The work item of a lease that is revoked, or has pages in use after its end.
impl WorkItem for Lease {
    type Pointer = Arc<Lease>;

    fn run(this: Arc<Lease>) {
        match this.proceed() {
            Progress::Ended => remove(&this),
            Progress::Idle => {}
            // SAFETY: This work item holds a reference to the module.
            Progress::Busy => unsafe { queue::queue_with_module(this, again()) },
        }
        // SAFETY: `queue::queue_with_module` has queued this work item.
        unsafe { queue::done() };
    }
}
