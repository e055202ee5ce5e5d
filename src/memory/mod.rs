// SPDX-License-Identifier: GPL-2.0-only

//! Memory that can hold an image.
//!
//! Opening a source ([`dax`], [`phys`], [`dmabuf`], [`memfd`]) gives a [`Region`], whose [`lease`]
//! says how long it may be used. To read it, call [`Region::access`]: metadata is copied through
//! [`crate::image::Memory`], file content straight to the reader. Both survive a machine check.
//!
//! To map a file, claim its extent with [`Region::claim`]; [`fault`] handles page faults,
//! [`extents`] knows what is mapped, [`poison`] which memory has failed.

mod access;
mod claim;
pub(crate) mod dax;
pub(crate) mod dmabuf;
mod extent_claim;
mod extents;
mod fault;
mod fsdev;
mod lease;
pub(crate) mod memfd;
pub(crate) mod phys;
mod poison;
mod range;
mod region;
mod registry;
mod resources;

pub(crate) use crate::linux::mm::MapMethod;
pub(crate) use access::Access;
pub(crate) use extent_claim::{ExtentClaim, MappedExtent};
pub(crate) use fault::Gate;
pub(crate) use region::Region;
pub(crate) use registry::Tenure;
pub(crate) use resources::Resources;
