// SPDX-License-Identifier: GPL-2.0-only

//! Without CONFIG_DAXFS_FS_PACKS, no image that is mounted has packs.

use crate::image::{
    Image,
    Inode, //
};
use crate::linux::fs::{
    Refusal,
    Registration,
    SuperBlock,
    SuperRef, //
};
use crate::memory::{
    Access,
    Region, //
};
use crate::mount::{
    DaxFs,
    Place, //
};
use crate::options::Checks;
use kernel::prelude::*;

pub(crate) fn join(
    _image: &Image<'_, Region>,
    _registration: &Registration<DaxFs>,
    _place: &Place,
    _checks: &Checks,
) -> Result<KVec<SuperRef<DaxFs>>, Refusal> {
    Ok(KVec::new())
}

pub(crate) fn still_there(_packs: &[SuperRef<DaxFs>]) -> Result<(), Refusal> {
    Ok(())
}

pub(crate) fn pack(_sb: &SuperBlock<DaxFs>, _index: u32) -> Result<&SuperBlock<DaxFs>> {
    Err(EIO)
}

pub(crate) fn in_pack<'a>(
    _sb: &'a SuperBlock<DaxFs>,
    _image: &Image<'_, Access<'_>>,
    _inode: &Inode,
    _index: u32,
    _original: u32,
) -> Result<Option<(&'a SuperBlock<DaxFs>, Inode, u64)>> {
    Err(EIO)
}
