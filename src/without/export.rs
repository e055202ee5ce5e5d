// SPDX-License-Identifier: GPL-2.0-only

//! A filesystem without file handles.

use super::{
    FileSystem,
    Operations,
    VTable, //
};
use crate::bindings;
use core::ptr;

pub(crate) trait ExportOperations {}

impl<T: FileSystem> ExportOperations for T {}

impl<T: Operations> VTable<T> {
    pub(super) const EXPORT: *const bindings::export_operations = ptr::null();
}
