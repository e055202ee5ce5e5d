// SPDX-License-Identifier: GPL-2.0-only

//! Memory management: memory that is mapped into the kernel and into processes
//! (`include/linux/mm.h`, `include/linux/dax.h`, `include/linux/pagemap.h`).

mod around;
// Only these sources have other modes.
#[cfg_attr(
    not(any(CONFIG_DAXFS_FS_PHYS, CONFIG_DAXFS_FS_DMABUF)),
    allow(dead_code)
)]
pub(crate) mod cache_mode;
mod fault;
mod memory;
mod page;
mod pmd;
pub(crate) mod poison;
mod space;

pub(crate) use cache_mode::CacheMode;
pub(crate) use fault::{
    Fault,
    FaultResult,
    Outcome, //
};
pub(crate) use memory::{
    fault_in,
    DaxRange,
    MapMethod,
    Mappable,
    Memory,
    Owner, //
};
use page::{
    Page,
    PageCopy, //
};

pub(crate) use space::{
    FileMapping,
    Space,
    Span, //
};

pub(crate) use crate::bindings::PAGE_SIZE;
