// SPDX-License-Identifier: GPL-2.0-only

//! Claims extents for inodes, and handles page faults on them.

use super::access::Access;
use super::{
    LeaseRef,
    MapMethod,
    Region, //
};
use crate::image::Memory;
use crate::linux::mm::{
    Fault,
    FaultResult,
    FileMapping,
    Space,
    Span,
    PAGE_SIZE, //
};
use crate::prelude::*;

/// A claimed extent, and its address space. Drop it to release the claim.
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
    /// Errors: `EEXIST` if the range overlaps another extent, `EIO` if it is not in the region,
    /// `ENOMEM`.
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

impl Drop for ExtentClaim {
    fn drop(&mut self) {
        let lease = self.lease_ref.lease();
        if !lease.extents.release(self.key) {
            // Pages of it are still in use.
            lease.queue(lease.pause());
        }
    }
}

/// Maximum number of bytes to verify per fault: the pieces behind a 2 MiB entry.
const MOST_VERIFIED: u64 = 2 * image::layout::DIGEST_PIECE;

/// Decides which bytes of a region processes may map.
pub(crate) trait Gate {
    /// Makes `length` bytes at `offset` usable. This can take a long time, so call it without
    /// access to the memory.
    ///
    /// Errors: The reason why they must not be used.
    fn open(&self, offset: u64, length: u64) -> image::Result<()>;

    /// Returns true if `length` bytes at `offset` may be used now.
    fn is_open(&self, offset: u64, length: u64) -> bool;
}

impl MappedExtent {
    /// Keeps the memory from going away, as [`Region::access`] does.
    #[inline]
    fn access(&self) -> Result<Access<'_>> {
        self.claim().lease_ref.lease().memory.read()
    }

    /// Handles a page fault. Maps only pages that `gate` lets through.
    ///
    /// Errors: The fault gets SIGBUS if the gate refuses the page, or if the page has to be copied
    /// and the memory cannot be read.
    #[inline]
    pub(crate) fn fault<'a>(
        fault: &Fault<'a, ExtentClaim>,
        gate: &impl Gate,
    ) -> image::Result<FaultResult<'a>> {
        let extent = fault.mapping();
        let space = extent.space();
        let (page, order) = (fault.page(), fault.order());
        if page >= space.pages() {
            return Ok(FaultResult::SIGBUS);
        }
        let (first, length) = part(space, page, order);
        if length > 0 && !gate.is_open(space.offset + first, length) {
            // Verify all pieces of a 2 MiB PMD entry at once, but not of larger entries.
            if order > 0 && length > MOST_VERIFIED {
                return Ok(FaultResult::FALLBACK);
            }
            // This holds the lock of the memory area. Without it, the fault would have to be
            // retried, and mlock(2) repeats such a fault for ever if the piece is bad.
            match gate.open(space.offset + first, length) {
                // Part of it may still be good.
                Err(_) if order > 0 => return Ok(FaultResult::FALLBACK),
                Err(error) if error.problem == Problem::Unreadable => {
                    return Ok(match extent.access() {
                        Ok(_) => FaultResult::HWPOISON,
                        Err(_) => FaultResult::SIGBUS,
                    });
                }
                result => result?,
            }
        }
        // A revocation also unmaps entries that current readers insert.
        let Ok(access) = extent.access() else {
            return Ok(FaultResult::SIGBUS);
        };
        if page < space.length / PAGE_SIZE {
            let length = length.min(space.length - first);
            if access.readable(space.offset + first, length) < length {
                return Ok(match order {
                    0 => FaultResult::HWPOISON,
                    _ => FaultResult::FALLBACK,
                });
            }
        } else if let Some(result) = copy_page(space, page, order, &access)? {
            return Ok(result);
        }
        let usable =
            |first, length| gate.is_open(first, length) && access.readable(first, length) == length;
        Ok(match space.memory.method() {
            _ if order == 0 => fault.map_pages(access.borrow(), usable),
            MapMethod::Dax(_) => fault.map_dax(access.borrow()),
            _ => fault
                .insert_pmd(access.borrow(), usable)
                .unwrap_or(FaultResult::FALLBACK),
        })
    }
}

/// Returns the part of the extent and its tail that an entry of `order` maps for page `page`: where
/// it starts, and its length, both in bytes.
#[inline]
fn part(space: &Space, page: u64, order: u32) -> (u64, u64) {
    let first = (page >> order << order) * PAGE_SIZE;
    let most = (space.length + space.tail).saturating_sub(first);
    (first, (PAGE_SIZE << order).min(most))
}

/// Creates the copy of page `page`, which follows the extent, for mapping. If that fails, returns
/// the result of the fault.
fn copy_page<'a>(
    space: &Space,
    page: u64,
    order: u32,
    access: &Access<'_>,
) -> image::Result<Option<FaultResult<'a>>> {
    if order > 0 {
        return Ok(Some(FaultResult::FALLBACK));
    }
    let Some(copy) = space.copy(page) else {
        return Ok(Some(FaultResult::SIGBUS));
    };
    let (first, length) = part(space, page, order);
    let read = |bytes: &mut [u8]| access.read(space.offset + first, bytes);
    let page = copy.get_or_make(length, read)?;
    Ok(page.is_none().then_some(FaultResult::OOM))
}
