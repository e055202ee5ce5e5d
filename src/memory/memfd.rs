// SPDX-License-Identifier: GPL-2.0-only

//! A sealed memfd, whose own folios are pinned and mapped.

use super::{Descriptor, Region, Tenure};
use crate::linux::fs::Refusal;
use crate::linux::memfd::{Content, Memfd};
use kernel::{fs::File, prelude::*};

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
    fn open(&self, tenure: &Tenure) -> Result<Region, Refusal> {
        let content = KBox::new(Content::new(self)?, GFP_KERNEL)?;
        tenure.lease().open(content)?;
        Ok(Region::of_owner(tenure)?)
    }
}
