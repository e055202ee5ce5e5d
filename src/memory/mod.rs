// SPDX-License-Identifier: GPL-2.0-only

//! Memory that can hold an image.
//!
//! Open a source ([`dax`], [`phys`], [`dmabuf`], [`memfd`]) to get a [`Region`], and use it until
//! its [`lease`] ends. To read it, call [`Region::access`]: metadata is copied through
//! [`crate::image::Memory`], file content straight to the reader. Both survive a machine check.
//!
//! To map a file, claim its extent with [`Region::claim`]; [`fault`] handles page faults,
//! [`extents`] knows what is mapped.
//!
//! DAX devices announce failures of memory to their holder, or list them as bad blocks, which
//! readers of a [`lease`] notice. Nobody announces failures of other memory, so [`resources`]
//! watches a tracepoint.

mod access;
#[cfg(CONFIG_DAXFS_FS_MEMFD)]
mod charge;
pub(crate) mod dax;
#[cfg(CONFIG_DAXFS_FS_DMABUF)]
pub(crate) mod dmabuf;
mod extents;
mod fault;
mod hold;
mod lease;
#[cfg(CONFIG_DAXFS_FS_MEMFD)]
pub(crate) mod memfd;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) mod phys;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
mod range;
mod registry;
mod resources;

pub(crate) use crate::linux::mm::MapMethod;
pub(crate) use access::{
    buffer,
    Access,
    Descriptor,
    Region, //
};
pub(crate) use fault::{
    ExtentClaim,
    Gate,
    MappedExtent, //
};
pub(crate) use registry::LeaseRef;
pub(crate) use resources::Resources;
