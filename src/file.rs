// SPDX-License-Identifier: GPL-2.0

//! Regular files of a mounted image.

use crate::image::{self, Memory, Problem};
use crate::inode::Node;
use crate::memory::Files;
use crate::super_block::{report, DaxFs};
use crate::usage::Event;
use crate::vfs::{Destination, Extent, INode};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;

/// Where the content of a file stands, as its inode in memory keeps it.
pub(crate) struct Content {
    /// Offset of the first byte in the image.
    pub(crate) data: u64,
    /// Bytes, from the first on, whose pages hold nothing else and can be mapped: a multiple of the page size.
    pub(crate) mappable: u64,
    /// Whether the file has claimed these pages; see [`crate::claims`].
    claimed: AtomicBool,
}

impl Content {
    /// Content at `data` of which the first `mappable` bytes can be mapped.
    pub(crate) fn new(data: u64, mappable: u64) -> Self {
        Content {
            data,
            mappable,
            claimed: AtomicBool::new(false),
        }
    }
}

#[inline]
fn content(file: &INode<DaxFs>) -> Result<&Content> {
    match &file.data().node {
        Node::Regular(content) => Ok(content),
        _ => Err(EIO),
    }
}

/// See [`crate::vfs::FileSystem::read`].
#[inline]
pub(crate) fn read(file: &INode<DaxFs>, offset: u64, to: &mut Destination<'_>) -> Result<usize> {
    let left = file.size().saturating_sub(offset);
    let length = left.min(to.len() as u64) as usize;
    let offset = content(file)?.data + offset;
    let mounted = file.super_block().data();
    let access = mounted.region().access()?;
    let copied = access.copy_to(offset, length, to).map_err(|_| {
        let error = image::Error::new(Problem::Unreadable, offset, 0);
        report(file.super_block(), file.ino(), error)
    })?;
    mounted.count(Event::Read, copied as u64);
    Ok(copied)
}

/// See [`crate::vfs::FileSystem::copy`].
pub(crate) fn copy(file: &INode<DaxFs>, offset: u64, into: &mut [u8]) -> Result {
    let data = content(file)?.data;
    let access = file.super_block().data().region().access()?;
    access
        .read(data + offset, into)
        .map_err(|error| report(file.super_block(), file.ino() as u32, error))
}

/// See [`crate::vfs::FileSystem::extent`].
#[inline]
pub(crate) fn extent(file: &INode<DaxFs>) -> Result<Extent<'_>> {
    let content = content(file)?;
    Ok(Extent {
        region: file.super_block().data().region(),
        offset: content.data,
        mappable: content.mappable,
    })
}

/// See [`crate::vfs::FileSystem::map`].
pub(crate) fn map(file: &INode<DaxFs>) -> Result {
    let content = content(file)?;
    let mounted = file.super_block().data();
    let dax = matches!(mounted.region().files(), Files::Dax(_));
    if !dax || content.mappable == 0 || content.claimed.load(Ordering::Acquire) {
        return Ok(());
    }
    let end = content.data + content.mappable;
    if !mounted.claims().claim(content.data, end, file.ino())? {
        let ino = file.ino() as u32;
        let error = image::overlap(mounted.superblock(), ino, content.data);
        return Err(report(file.super_block(), ino, error));
    }
    content.claimed.store(true, Ordering::Release);
    Ok(())
}

/// See [`crate::vfs::FileSystem::evict`].
pub(crate) fn evict(inode: &INode<DaxFs>) {
    if let Node::Regular(content) = &inode.data().node {
        if content.claimed.load(Ordering::Acquire) {
            let claims = inode.super_block().data().claims();
            claims.release(content.data, inode.ino());
        }
    }
}
