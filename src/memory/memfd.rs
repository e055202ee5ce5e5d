// SPDX-License-Identifier: GPL-2.0-only

//! A sealed memfd: its own folios are pinned and mapped.

use super::{
    Descriptor,
    LeaseRef,
    Region, //
};
use crate::linux::fs::{
    refusal,
    Refusal, //
};
use crate::linux::memfd::{
    Content,
    Memfd, //
};
use kernel::{
    fs::File,
    prelude::*, //
};

/// Gets the memfd of a file.
pub(crate) fn get(_fd: i32, file: &File) -> Result<KBox<dyn Descriptor>> {
    Ok(KBox::new(Memfd::new(file).ok_or(EINVAL)?, GFP_KERNEL)?)
}

impl Descriptor for Memfd {
    /// Opens the region of the memfd.
    ///
    /// # Errors
    ///
    /// `EPERM` if seals are missing, `EINVAL` if the file is empty or too large, `ENOMEM`.
    fn open(&self, lease_ref: &LeaseRef) -> Result<Region, Refusal> {
        let content = Content::new(self).map_err(|error| match error {
            EPERM => refusal!(
                error,
                "must be sealed against writing, shrinking and growing"
            ),
            error => error.into(),
        })?;
        lease_ref.lease().open(KBox::new(content, GFP_KERNEL)?)?;
        Ok(Region::of_owner(lease_ref)?)
    }
}
