// SPDX-License-Identifier: GPL-2.0-only

//! A filesystem without extended attributes and access control lists.

use super::{
    FileSystem,
    Operations,
    VTable, //
};
use crate::bindings;
use core::ptr;

pub(crate) trait XattrOperations {}

impl<T: FileSystem> XattrOperations for T {}

impl<T: Operations> VTable<T> {
    pub(super) const XATTR_OPERATIONS: bindings::inode_operations = pin_init::zeroed();
    pub(super) const XATTR_HANDLERS: *const *const bindings::xattr_handler = ptr::null();
}
