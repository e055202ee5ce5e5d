// SPDX-License-Identifier: GPL-2.0-only

//! A sealed memfd, whose own folios are pinned and mapped.

use super::{Region, Tenure};
use crate::linux::fs::Refusal;
use crate::linux::memfd::{Content, Memfd};
use kernel::prelude::*;

/// Opens the region of `memfd`.
///
/// # Errors
///
/// `EPERM` if seals are missing, `EINVAL` if the file is empty or too large, `ENOMEM`.
pub(crate) fn open(memfd: &Memfd, tenure: &Tenure) -> Result<Region, Refusal> {
    let content = KBox::new(Content::new(memfd)?, GFP_KERNEL)?;
    tenure.lease().open(content)?;
    Ok(Region::of_owner(tenure)?)
}
