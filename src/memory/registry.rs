// SPDX-License-Identifier: GPL-2.0-only

//! Lists all leases, and ends them.

use super::lease::{
    Lease,
    LeaseData,
    Progress,
    Uses, //
};
use crate::linux::{
    internal::Internal,
    workqueue::Work, //
};
use crate::prelude::*;
use kernel::time::Jiffies;

global_mutex! {
    // Protects the list only, which is sorted by address. Do not wait under it, not even for
    // memory: the handler of a failure may hold the lock of a folio. Each lease keeps the internal
    // filesystem mounted, for its extents.
    static LEASES: Option<RBTree<usize, (Arc<Lease>, Internal)>> = None;
}

/// A reference to a lease. Dropping the last clone ends the lease; do not do that under `s_umount`.
///
/// # Invariants
///
/// This is one of the users of the lease.
pub(crate) struct LeaseRef(Arc<Lease>);

impl LeaseRef {
    /// Creates a lease on memory that is charged to `user`. The memory is opened later.
    pub(crate) fn new(user: Option<User>) -> Result<Self> {
        let lease = Lease::new(user)?;
        let entry = (lease.clone(), Internal::mount()?);
        let node = RBTreeNode::new(key(&lease), entry, GFP_KERNEL_ACCOUNT)?;
        LEASES.lock().get_or_insert_with(RBTree::new).insert(node);
        // INVARIANT: The new lease has one user.
        Ok(LeaseRef(lease))
    }

    /// Returns the lease. It does not end before the reference is dropped.
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.0
    }
}

impl Clone for LeaseRef {
    fn clone(&self) -> Self {
        // INVARIANT: This adds a user.
        self.0.users.fetch_add(1, Relaxed);
        LeaseRef(self.0.clone())
    }
}

impl Drop for LeaseRef {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Full) == 1 && self.0.end() {
            remove(&self.0);
        }
    }
}

/// Returns the key of a lease in the list.
fn key(lease: &Arc<Lease>) -> usize {
    Arc::as_ptr(lease) as usize
}

/// Removes a lease from the list.
fn remove(lease: &Arc<Lease>) {
    let mut leases = LEASES.lock();
    let node = leases.as_mut().and_then(|all| all.remove_node(&key(lease)));
    drop(leases);
    drop(node);
}

/// Finds a lease with an owner that uses what is `wanted`.
pub(super) fn find_by(wanted: impl Fn(&Uses) -> bool) -> Option<Arc<Lease>> {
    let leases = LEASES.lock();
    let mut all = leases
        .iter()
        .flat_map(RBTree::values)
        .map(|(lease, _)| lease);
    all.find(|lease| wanted(&lease.uses.lock())).cloned()
}

/// Revokes the leases with an owner that uses what is `wanted`.
pub(super) fn revoke(wanted: impl Fn(&Uses) -> bool) {
    for_each(|lease| {
        if wanted(&lease.uses.lock()) {
            lease.revoke();
        }
    });
}

/// Calls `visit` for each lease, without the lock of the list.
pub(super) fn for_each(visit: impl Fn(&Arc<Lease>)) {
    let mut from = 0;
    loop {
        let leases = LEASES.lock();
        let all = leases.as_ref();
        let Some(cursor) = all.and_then(|all| all.cursor_lower_bound(&from)) else {
            return;
        };
        let lease = cursor.current().1 .0.clone();
        drop(leases);
        from = key(&lease) + 1;
        visit(&lease);
    }
}

/// Cleans up after a revocation, or after an end that left pages in use.
impl Work for LeaseData {
    fn run(lease: &Arc<Lease>) -> Option<Jiffies> {
        match lease.proceed() {
            Progress::Ended => remove(lease),
            Progress::Idle => {}
            Progress::Busy => return Some(lease.pause()),
        }
        None
    }
}
