// SPDX-License-Identifier: GPL-2.0

//! Regular files of a mounted image.

use crate::inode::Node;
use crate::super_block::DaxFs;
use crate::vfs::{Destination, Extent, INode};
use kernel::prelude::*;

/// See [`crate::vfs::FileSystem::read`].
#[inline]
pub(crate) fn read(file: &INode<DaxFs>, offset: u64, to: &mut Destination<'_>) -> Result<usize> {
    let Extent {
        region,
        offset: data,
    } = extent(file)?;
    let left = file.size().saturating_sub(offset);
    let length = left.min(to.len() as u64) as usize;
    region.access()?.copy_to(data + offset, length, to)
}

/// See [`crate::vfs::FileSystem::extent`].
#[inline]
pub(crate) fn extent(file: &INode<DaxFs>) -> Result<Extent<'_>> {
    match &file.data().node {
        Node::Regular(data) => Ok(Extent {
            region: file.super_block().data().region(),
            offset: *data,
        }),
        _ => Err(EIO),
    }
}
