// SPDX-License-Identifier: GPL-2.0

//! File handles, as name_to_handle_at(2) and the NFS server use them.
//!
//! A handle is an inode number and a generation, and perhaps those of the parent directory. Handles come from
//! anywhere: whatever they say, they lead to an inode of the image or are stale.

use super::{Errno, FileSystem, INode, INodeRef, SuperBlock};
use crate::bindings;
use crate::image::FileType;
use core::marker::PhantomData;
use core::ptr;
use kernel::prelude::*;

/// The C operations for export.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    pub(super) const TABLE: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(bindings::generic_encode_ino32_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_name: Some(Self::get_name),
        get_parent: Some(Self::get_parent),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: kernel::ffi::c_int,
        kind: kernel::ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: The VFS hands in a super block of ours and a handle of that length.
        unsafe { bindings::generic_fh_to_dentry(sb, fid, length, kind, Some(Self::any_inode)) }
    }

    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: kernel::ffi::c_int,
        kind: kernel::ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: As above.
        unsafe { bindings::generic_fh_to_parent(sb, fid, length, kind, Some(Self::directory)) }
    }

    unsafe extern "C" fn any_inode(
        sb: *mut bindings::super_block,
        ino: u64,
        generation: u32,
    ) -> *mut bindings::inode {
        // SAFETY: The super block is a mounted one of ours.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        into_raw(T::inode_of_handle(sb, ino, generation))
    }

    /// The VFS looks up names in what a handle calls a parent, so it must be a directory.
    unsafe extern "C" fn directory(
        sb: *mut bindings::super_block,
        ino: u64,
        generation: u32,
    ) -> *mut bindings::inode {
        // SAFETY: As above.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        into_raw(T::inode_of_handle(sb, ino, generation).and_then(directory))
    }

    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The VFS hands in a dentry that leads to an inode of ours.
        let child = unsafe { INode::<T>::from_raw((*child).d_inode) };
        let parent = into_raw(T::parent(child).and_then(directory));
        // SAFETY: The reference to the inode passes over; an error passes through.
        unsafe { bindings::d_obtain_alias(parent) }
    }

    unsafe extern "C" fn get_name(
        parent: *mut bindings::dentry,
        name: *mut kernel::ffi::c_char,
        child: *mut bindings::dentry,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS hands in dentries that lead to inodes of ours.
        let (parent, child) = unsafe {
            (
                INode::<T>::from_raw((*parent).d_inode),
                INode::<T>::from_raw((*child).d_inode),
            )
        };
        super::errno_or_zero(|| {
            T::name_in(parent, child, |found| {
                // SAFETY: There is room for NAME_MAX bytes and a NUL, and a name has no more.
                unsafe {
                    ptr::copy_nonoverlapping(found.as_ptr(), name.cast(), found.len());
                    name.add(found.len()).write(0);
                }
            })
        })
    }
}

/// The reference if it is one to a directory.
fn directory<T: FileSystem>(inode: INodeRef<T>) -> Result<INodeRef<T>> {
    if FileType::of_mode(inode.mode()) == Some(FileType::Directory) {
        Ok(inode)
    } else {
        Err(Errno::Stale.into())
    }
}

/// The inode, or the error in its place.
fn into_raw<T: FileSystem>(inode: Result<INodeRef<T>>) -> *mut bindings::inode {
    match inode {
        Ok(inode) => inode.into_raw(),
        Err(error) => error.to_ptr(),
    }
}
