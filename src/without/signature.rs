// SPDX-License-Identifier: GPL-2.0-only

//! Without CONFIG_DAXFS_FS_SIGNATURES, we refuse every mount that requires a signature.

use crate::image::Memory;
use crate::prelude::*;

pub(crate) struct Keyring;

impl Keyring {
    pub(crate) fn new(_name: &CStr) -> Result<Self> {
        Ok(Keyring)
    }
}

pub(crate) fn verify(_image: &Image<'_, impl Memory>, _keyring: &Keyring) -> Result<(), Refusal> {
    Err(refusal!(Errno::NotSupported =>
        "the kernel cannot verify signatures; it needs SYSTEM_DATA_VERIFICATION, and daxfs \
         DAXFS_FS_SIGNATURES"))
}
