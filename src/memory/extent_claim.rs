// SPDX-License-Identifier: GPL-2.0-only

//! Claims of inodes on the extents of a region.

use super::access::Access;
use super::{
    LeaseRef,
    Region, //
};
use crate::linux::mm::{
    FileMapping,
    Span, //
};
use kernel::prelude::*;

/// An extent that an inode has claimed, and its address space. Dropping it releases the claim.
pub(crate) type MappedExtent = FileMapping<ExtentClaim>;

/// A claim on an extent.
///
/// # Invariants
///
/// This is one of the users of the extent at `key` in the tree of the lease. Its memory is that
/// of the extent's address space.
pub(crate) struct ExtentClaim {
    lease_ref: LeaseRef,
    key: u64,
}

impl Region {
    /// Claims an extent for mappings of an inode: `length` bytes at `offset`, which are whole
    /// pages. The files of the extent have `tail` bytes after it. All inodes with the same extent
    /// must have the same `owner`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the range overlaps another extent, `EIO` if it is not in the region, `ENOMEM`.
    pub(crate) fn claim(
        &self,
        offset: u64,
        length: u64,
        tail: u64,
        owner: u64,
    ) -> Result<MappedExtent> {
        let span = Span {
            memory: self.memory,
            offset,
            length,
            tail,
            owner,
        };
        let lease_ref = self.lease_ref.clone();
        let space = lease_ref.lease().extents.claim(span)?;
        // INVARIANT: `Extents::claim` has added a user.
        let key = span.key();
        Ok(FileMapping::new(ExtentClaim { lease_ref, key }, space))
    }
}

impl FileMapping<ExtentClaim> {
    /// Keeps the memory from going away, like [`Region::access`].
    #[inline]
    pub(super) fn access(&self) -> Result<Access<'_>> {
        Access::new(&self.claim().lease_ref)
    }
}

impl Drop for ExtentClaim {
    fn drop(&mut self) {
        let lease = self.lease_ref.lease();
        if !lease.extents.release(self.key) {
            // Pages of it are still in use.
            lease.queue(lease.pause());
        }
    }
}
