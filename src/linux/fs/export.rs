// SPDX-License-Identifier: GPL-2.0-only

//! File handles, for name_to_handle_at(2) and the NFS server (`struct export_operations`).
//!
//! A handle has the number and the generation of an inode, and perhaps of its parent. Do not trust
//! it: user space may have made it up.

use super::inode::into_raw;
use super::{
    FileSystem,
    INode,
    INodeRef,
    Operations,
    SuperBlock,
    VTable, //
};
use crate::bindings;
use crate::linux::Errno;
use kernel::prelude::*;

/// Operations that file handles need.
pub(crate) trait ExportOperations: FileSystem {
    /// Returns the inode `ino` if it has this generation.
    ///
    /// # Errors
    ///
    /// `ESTALE` if the inode does not exist.
    fn get_inode(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>>;

    /// Returns the parent of the directory `dir`.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` if `dir` is not a directory.
    fn get_parent(dir: &INode<Self>) -> Result<INodeRef<Self>>;
}

impl<T: Operations> VTable<T> {
    pub(super) const EXPORT: &'static bindings::export_operations = &bindings::export_operations {
        encode_fh: Some(bindings::generic_encode_ino32_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `sb` must be a mounted superblock of type `T`, and `fid` a handle of `length` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: kernel::ffi::c_int,
        kind: kernel::ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: The caller passes a valid superblock, and a handle of this length.
        unsafe { bindings::generic_fh_to_dentry(sb, fid, length, kind, Some(Self::inode::<false>)) }
    }

    /// # Safety
    ///
    /// As for [`Self::fh_to_dentry`].
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: kernel::ffi::c_int,
        kind: kernel::ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: The caller passes a valid superblock, and a handle of this length.
        unsafe { bindings::generic_fh_to_parent(sb, fid, length, kind, Some(Self::inode::<true>)) }
    }

    /// Returns an inode that a handle names. The VFS looks up names in a `PARENT`, so that must be
    /// a directory.
    ///
    /// # Safety
    ///
    /// `sb` must be a mounted superblock of type `T`.
    unsafe extern "C" fn inode<const PARENT: bool>(
        sb: *mut bindings::super_block,
        ino: u64,
        generation: u32,
    ) -> *mut bindings::inode {
        // SAFETY: A mounted superblock has been filled.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        let inode = T::get_inode(sb, ino, generation);
        into_raw(if PARENT {
            inode.and_then(check_directory)
        } else {
            inode
        })
    }

    /// # Safety
    ///
    /// `child` must be a dentry of a directory of type `T`.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The caller passes a positive dentry.
        let child = unsafe { INode::<T>::of_dentry(child) };
        let parent = into_raw(T::get_parent(child).and_then(check_directory));
        // SAFETY: d_obtain_alias() takes over the reference, and passes errors through.
        unsafe { bindings::d_obtain_alias(parent) }
    }
}

fn check_directory<T: FileSystem>(inode: INodeRef<T>) -> Result<INodeRef<T>> {
    if inode.mode() & bindings::S_IFMT == bindings::S_IFDIR {
        Ok(inode)
    } else {
        Err(Errno::Stale.into())
    }
}
