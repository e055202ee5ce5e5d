// SPDX-License-Identifier: GPL-2.0-only

//! Read-only filesystems: safe traits over the C interface of the VFS.
//!
//! A filesystem implements one trait for each kind of object, see [`Operations`]. [`Registration`]
//! makes it known to the kernel.
//!
//! C headers: `include/linux/fs.h`, `include/linux/fs_context.h`, `include/linux/exportfs.h`,
//! `include/linux/xattr.h`.

mod backing;
mod context;
mod dir;
mod export;
mod file;
mod filesystem;
mod fs_context;
mod inode;
mod ioctl;
mod refusal;
mod slab;
mod super_block;
mod xattr;

pub(crate) use context::{
    Context,
    Key,
    Param,
    SourceKind,
    SuperKind,
    Value, //
};
pub(crate) use dir::{
    DirOperations,
    Emitter, //
};
pub(crate) use export::ExportOperations;
pub(crate) use file::{
    Extent,
    FileOperations, //
};
pub(crate) use filesystem::{
    FileSystem,
    Registration, //
};
pub(crate) use inode::{
    Attributes,
    INode,
    INodeOperations,
    INodeRef,
    Kind, //
};
pub(crate) use refusal::{
    refusal,
    Refusal, //
};
pub(crate) use super_block::{
    Statistics,
    SuperBlock,
    SuperOperations, //
};
pub(crate) use xattr::{
    AclKind,
    PosixAcl,
    XattrBuffer,
    XattrOperations, //
};

use core::marker::PhantomData;

/// The tables of functions of the filesystem `T` for the VFS, of one kind of object in each file.
struct VTable<T>(PhantomData<T>);

/// All traits that a filesystem implements.
pub(crate) trait Operations:
    SuperOperations
    + INodeOperations
    + DirOperations
    + FileOperations
    + XattrOperations
    + ExportOperations
{
}

impl<T> Operations for T where
    T: SuperOperations
        + INodeOperations
        + DirOperations
        + FileOperations
        + XattrOperations
        + ExportOperations
{
}
