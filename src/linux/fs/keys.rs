// SPDX-License-Identifier: GPL-2.0-only

//! Keys of superblocks.
//!
//! The registration of a filesystem type has a list of superblocks and their keys. A superblock is
//! in the list from before it can be found until its resources are released, or its memory is gone.

use crate::bindings;
use core::ptr;
use kernel::{prelude::*, sync::SpinLock};

/// Key of a superblock, unique in its filesystem type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u64; 3]);

/// Superblocks by their address, which is only compared, and their keys. The lock is taken under
/// `sb_lock`.
pub(super) type Keys = SpinLock<KVec<(usize, Key)>>;

/// Forget the key of a superblock that is released or must not be found, if it has one.
pub(super) fn forget(keys: &Keys, sb: *mut bindings::super_block) {
    keys.lock().retain(|entry| !ptr::eq(entry.0 as *mut _, sb));
}
