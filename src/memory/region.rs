// SPDX-License-Identifier: GPL-2.0-only

//! Regions: memory that holds an image.

use super::Tenure;
use crate::linux::fs::Refusal;
use crate::linux::mm::Mappable;
use kernel::prelude::*;

/// One contiguous region of memory, which others may write at any time.
pub(crate) struct Region {
    /// Facts about the memory.
    pub(crate) memory: Mappable,
    pub(super) tenure: Tenure,
}

/// Memory that a file descriptor stands for.
pub(crate) trait Descriptor: Send + Sync {
    /// Opens its region.
    fn open(&self, tenure: &Tenure) -> Result<Region, Refusal>;
}

impl Region {
    /// Makes the region of the memory that the owner in the lease has mapped.
    ///
    /// # Errors
    ///
    /// `EIO` if it has mapped none, or the lease is revoked.
    pub(super) fn of_owner(tenure: &Tenure) -> Result<Self> {
        Ok(Region {
            memory: *tenure.lease().memory.read()?.mappable(),
            tenure: tenure.clone(),
        })
    }

    /// Returns true if the memory is about to go away, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.tenure.lease().memory.is_revoked()
    }
}
