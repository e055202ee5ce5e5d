// SPDX-License-Identifier: GPL-2.0-only

//! A kernel without CONFIG_DAXFS_FS_STATISTICS counts nothing.

use crate::event::Event;
use crate::image::Superblock;
use crate::linux::fs::SourceKind;
use crate::memory::Region;
use kernel::prelude::*;

pub(crate) struct Directory;

impl Directory {
    pub(crate) fn in_fs(_name: &CStr) -> Result<Self> {
        Ok(Directory)
    }
}

pub(crate) struct Usage;

impl Usage {
    pub(crate) fn new(
        _source: &CStr,
        _device: Option<SourceKind>,
        _offset: u64,
        _region: &Region,
        _superblock: &Superblock,
        _is_fixed: bool,
    ) -> Result<Self> {
        Ok(Usage)
    }

    pub(crate) fn publish(&mut self, _parent: &Directory, _device: u32) -> Result {
        Ok(())
    }

    pub(crate) fn remove(&self) {}

    pub(crate) fn count(&self, _event: Event) {}

    pub(crate) fn count_read(&self, _bytes: u64) {}
}
