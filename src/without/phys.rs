// SPDX-License-Identifier: GPL-2.0-only

//! Without CONFIG_DAXFS_FS_PHYS, no mount names a range of physical addresses.

use super::{
    LeaseRef,
    Region, //
};
use crate::prelude::*;

#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Range {
    pub(crate) fn new(_start: u64, _size: u64) -> Result<Self, Refusal> {
        Err(EINVAL.into())
    }

    pub(crate) fn part(&self, _part: core::ops::Range<u64>) -> Self {
        *self
    }
}

pub(super) struct Watch;

impl Watch {
    pub(super) fn new() -> Result<Self> {
        Ok(Watch)
    }
}

pub(crate) fn show(_seq: &SeqFile, _start: u64, _size: u64) -> bool {
    false
}

pub(crate) fn open(_range: Range, _lease_ref: &LeaseRef) -> Result<Region, Refusal> {
    Err(EINVAL.into())
}
