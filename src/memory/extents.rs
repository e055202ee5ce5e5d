// SPDX-License-Identifier: GPL-2.0-only

//! Extents of a region that processes have mapped, and their address spaces.
//!
//! The kernel's DAX code notes in each page which address space it belongs to, and can forget that
//! only when the page has no users. An inode cannot wait for that: memory reclaim and unmount evict
//! it. So the address space belongs to the extent instead, and outlives the inode while one of its
//! pages is in use. It is that of an internal inode, which nobody can look up.

use super::access::Access;
use super::space::{Info, Request};
use super::{MapMethod, Tenure};
use crate::bindings;
use crate::linux::fs::{Insertion, Mapping};
use core::ptr::NonNull;
use kernel::prelude::*;

/// An extent that an inode has claimed. Dropping it releases the claim.
///
/// # Invariants
///
/// This is one of the users of the extent at `key` in the tree of the lease. `inode` is the
/// internal inode of that extent, which lives as long as the extent has users.
pub(crate) struct MappedExtent {
    tenure: Tenure,
    key: u64,
    inode: NonNull<bindings::inode>,
}

// SAFETY: Extents may be released by any thread.
unsafe impl Send for MappedExtent {}
// SAFETY: The info of an extent does not change, but for the tail page, which is atomic.
unsafe impl Sync for MappedExtent {}

impl MappedExtent {
    /// Claim an extent for one more inode. Return `None` if it overlaps another extent.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The window and the method must be those that the owner in the lease was opened with, and the
    /// range must be in the window.
    pub(super) unsafe fn claim(tenure: &Tenure, request: &Request) -> Result<Option<Self>> {
        let inode = tenure.lease().extents().claim(request)?;
        // INVARIANT: `Extents::claim` has added a user.
        Ok(inode.map(|inode| MappedExtent {
            tenure: tenure.clone(),
            key: request.key(),
            inode,
        }))
    }

    /// Return the info of the extent.
    #[inline]
    pub(super) fn info(&self) -> &Info {
        // SAFETY: By the type invariant the internal inode lives as long as this.
        unsafe { Info::of(self.inode.as_ptr()) }
    }

    /// Keep the memory from going away.
    ///
    /// # Errors
    ///
    /// `EIO` if it is about to go away, or gone.
    #[inline]
    pub(super) fn access(&self) -> Result<Access<'_>> {
        // SAFETY: `claim` was called with the window of the lease's owner.
        unsafe { Access::new(&self.tenure, &self.info().window) }
    }
}

impl Drop for MappedExtent {
    fn drop(&mut self) {
        let lease = self.tenure.lease();
        // SAFETY: By the type invariant this is a user of the extent, and it ends here.
        if !unsafe { lease.extents().release(self.key) } {
            lease.look_again();
        }
    }
}

// SAFETY: By the type invariant the internal inode, and with it its address space, lives as long as
// the object. The method does not change.
unsafe impl Mapping for MappedExtent {
    fn as_raw(&self) -> NonNull<bindings::address_space> {
        // SAFETY: By the type invariant the internal inode lives as long as this.
        let mapping = unsafe { &raw mut (*self.inode.as_ptr()).i_data };
        // SAFETY: This is the address of a field.
        unsafe { NonNull::new_unchecked(mapping) }
    }

    fn insertion(&self) -> Insertion {
        match self.info().method {
            MapMethod::Dax(_) | MapMethod::Pages => Insertion::Pages,
            MapMethod::Frames(cache) => Insertion::Frames(cache),
        }
    }
}
