// SPDX-License-Identifier: GPL-2.0-only

//! Regions: memory that holds an image.

use super::LeaseRef;
use crate::linux::fs::Refusal;
use crate::linux::mm::Mappable;
use kernel::{
    fs::File,
    prelude::*,
    sync::aref::ARef, //
};

/// One contiguous region of memory, which others may write at any time.
pub(crate) struct Region {
    /// Facts about the memory.
    pub(crate) memory: Mappable,
    pub(super) lease_ref: LeaseRef,
}

/// Memory that a file descriptor stands for.
pub(crate) trait Descriptor: Send + Sync {
    /// Opens its region.
    fn open(&self, lease_ref: &LeaseRef) -> Result<Region, Refusal>;
}

impl Region {
    /// Makes the region of the memory that the owner in the lease has mapped.
    ///
    /// # Errors
    ///
    /// `EIO` if it has mapped none, or the lease is revoked.
    pub(super) fn of_owner(lease_ref: &LeaseRef) -> Result<Self> {
        Ok(Region {
            memory: *lease_ref.lease().memory.read()?.mappable(),
            lease_ref: lease_ref.clone(),
        })
    }

    /// Returns the file that has the memory, at the same offsets, if a file has it.
    pub(crate) fn file(&self) -> Option<ARef<File>> {
        self.access().ok()?.memory().file().map(ARef::from)
    }

    /// Prevents that anything reads the memory, which nothing does any longer: dropping the region
    /// then need not wait for readers, if other regions that were retired before have done so.
    pub(crate) fn retire(&self) {
        self.lease_ref.lease().memory.revoke();
    }

    /// Returns true if the memory is about to go away, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.lease_ref.lease().memory.is_revoked()
    }
}

/// Number of bytes of a cache line.
const LINE: usize = 64;

/// Returns a buffer to check or hash an image with: for `length` bytes in parts of at most 16 KiB.
pub(crate) fn buffer(length: u64) -> Result<KVec<[u8; LINE]>> {
    // Many images have less metadata than that. It is faster to initialize whole lines than bytes.
    let length = length.min(16384) as usize;
    Ok(KVec::from_elem(
        [0; LINE],
        length.div_ceil(LINE),
        GFP_KERNEL,
    )?)
}
