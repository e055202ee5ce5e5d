// SPDX-License-Identifier: GPL-2.0-only

//! Sealed memfds: we pin and map their own folios.

use super::{
    Descriptor,
    LeaseRef,
    Region, //
};
use crate::linux::memfd::{
    Content,
    Memfd, //
};
use crate::prelude::*;

/// Treats a file as a memfd.
pub(crate) fn get(_fd: i32, file: &File) -> Result<KBox<dyn Descriptor>> {
    Ok(KBox::new(
        Memfd::new(file).ok_or(EINVAL)?,
        GFP_KERNEL_ACCOUNT,
    )?)
}

impl Descriptor for Memfd {
    /// Opens the region of the memfd.
    ///
    /// Errors: `EPERM` if seals are missing, `EINVAL` if the file is empty or too large, `EDQUOT`
    /// if the user may not keep so much pinned, `ENOMEM`.
    fn open(&self, lease_ref: &LeaseRef) -> Result<Region, Refusal> {
        let lease = lease_ref.lease();
        let size = self.sealed_size().map_err(
            |error| refusal!(error => "must be sealed against writing, shrinking and growing"),
        )?;
        // Charge before waiting for memory. How much is pinned is known only afterwards.
        let charge = lease.charge(size)?;
        let content = Content::new(self)?;
        drop(charge);
        lease.uses.lock().charge = lease.charge(content.pinned)?;
        lease.open(KBox::new(content, GFP_KERNEL_ACCOUNT)?)?;
        Ok(Region::of_owner(lease_ref)?)
    }
}
