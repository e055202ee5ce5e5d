// SPDX-License-Identifier: GPL-2.0-only

//! Read-only filesystems: safe traits over the C interface of the VFS.
//!
//! Implement one trait for each kind of object, see [`Operations`], and make the filesystem known
//! to the kernel by a [`Registration`].
//!
//! C headers: `include/linux/fs.h`, `include/linux/fs_context.h`, `include/linux/exportfs.h`,
//! `include/linux/xattr.h`.

use crate::linux::prelude::*;
use crate::linux::security::User;

mod backing;
mod context;
mod dir;
mod file;
mod filesystem;
mod inode;
mod refusal;
mod super_block;
mod xattr;

pub(crate) use context::*;
pub(crate) use dir::*;
pub(crate) use file::*;
pub(crate) use filesystem::*;
pub(crate) use inode::*;
pub(crate) use refusal::*;
pub(crate) use super_block::*;
pub(crate) use xattr::*;

/// The filesystem `T`'s function tables for the VFS. Each file handles one kind of object.
///
/// # Safety
///
/// Functions of C are for the VFS only: it calls them as the kernel's
/// Documentation/filesystems/vfs.rst specifies, for objects of a filesystem of type `T`.
struct VTable<T>(PhantomData<T>);

/// All traits that a filesystem implements.
pub(crate) trait Operations: DirOperations + FileOperations + XattrOperations {}
