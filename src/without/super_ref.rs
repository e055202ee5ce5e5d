// SPDX-License-Identifier: GPL-2.0-only

//! Without CONFIG_DAXFS_FS_PACKS, nothing but mounts keeps a superblock.

pub(crate) type SuperRef<T> = core::marker::PhantomData<T>;
