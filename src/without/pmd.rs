// SPDX-License-Identifier: GPL-2.0-only

//! Without CONFIG_DAXFS_FS_FRAMES or huge pages, only the DAX code sets PMD entries.

use super::fault::Kept;
use super::{
    Fault,
    FaultResult,
    Memory, //
};
use core::marker::PhantomData;
use kernel::sync::ArcBorrow;

pub(super) struct NoPmd<'f>(PhantomData<&'f ()>);

impl<'f> NoPmd<'f> {
    pub(super) fn new<C>(_fault: &'f Fault<'_, C>, _kept: Kept<'f>) -> Option<Self> {
        None
    }

    pub(super) fn is_huge<C>(&self, _fault: &Fault<'_, C>) -> bool {
        false
    }
}

impl<'a, C> Fault<'a, C> {
    pub(crate) fn insert_pmd(
        &self,
        _memory: ArcBorrow<'_, Memory>,
        _usable: impl Fn(u64, u64) -> bool,
    ) -> Option<FaultResult<'a>> {
        None
    }
}
