// SPDX-License-Identifier: GPL-2.0

//! Regular files of a mounted image.

use crate::bindings;
use crate::image::{self, Memory, Problem};
use crate::inode::Node;
use crate::super_block::{report, DaxFs};
use crate::usage::Event;
use crate::vfs::{Destination, Extent, INode};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// Where the content of a file stands, as its inode in memory keeps it.
pub(crate) struct Content {
    /// Offset of the first byte in the image.
    pub(crate) data: u64,
    /// Bytes, from the first on, whose pages hold nothing else and can be mapped: a multiple of the page size.
    pub(crate) mappable: u64,
    /// Number of the inode whose data these are, which other files may share.
    pub(crate) owner: u32,
    /// The address space of the claimed extent; null until the file is mapped.
    mapping: AtomicPtr<bindings::address_space>,
}

impl Content {
    /// Content at `data` of which the first `mappable` bytes can be mapped, and which is that of inode `owner`.
    pub(crate) fn new(data: u64, mappable: u64, owner: u32) -> Self {
        Content {
            data,
            mappable,
            owner,
            mapping: AtomicPtr::new(ptr::null_mut()),
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
    let copied = mounted
        .region()
        .copy_to(offset, length, to)
        .map_err(|error| {
            if error != EIO || mounted.region().revoked() {
                return error;
            }
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
        shared: u64::from(content.owner) != file.ino(),
    })
}

/// See [`crate::vfs::FileSystem::map`].
pub(crate) fn map(file: &INode<DaxFs>) -> Result<NonNull<bindings::address_space>> {
    let content = content(file)?;
    if let Some(mapping) = NonNull::new(content.mapping.load(Ordering::Acquire)) {
        return Ok(mapping);
    }
    let mounted = file.super_block().data();
    let region = mounted.region();
    let Some(mapping) = region.claim(content.data, content.mappable, content.owner.into())? else {
        let ino = file.ino() as u32;
        let error = image::overlap(mounted.superblock(), ino, content.data);
        return Err(report(file.super_block(), ino, error));
    };
    let stored = content.mapping.compare_exchange(
        ptr::null_mut(),
        mapping.as_ptr(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if stored.is_err() {
        // Another process was faster, with the same extent. One claim is enough.
        region.release(content.data);
    }
    Ok(mapping)
}

/// See [`crate::vfs::FileSystem::evict`].
pub(crate) fn evict(inode: &INode<DaxFs>) {
    if let Node::Regular(content) = &inode.data().node {
        if !content.mapping.load(Ordering::Acquire).is_null() {
            inode.super_block().data().region().release(content.data);
        }
    }
}
