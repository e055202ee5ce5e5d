// SPDX-License-Identifier: GPL-2.0-only

//! The slab for inodes: allocation, eviction and freeing.

use super::{
    FileSystem,
    Operations,
    Registration,
    VTable, //
};
use crate::bindings;
use crate::linux::mm::FileMapping;
use core::marker::PhantomData;
use core::mem::{
    self,
    align_of,
    offset_of,
    size_of, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;

/// An object of the slab: an inode, after the data of the filesystem.
#[repr(C)]
pub(super) struct Slot<T: FileSystem> {
    /// `None` until the inode is set up.
    pub(super) data: Option<T::INode>,
    /// The mapping of a regular file: null until it is mapped, then a `KBox` until it is evicted.
    pub(super) mapping: Atomic<*mut FileMapping<T::Claim>>,
    pub(super) inode: bindings::inode,
}

impl<T: FileSystem> Slot<T> {
    /// Returns the slot of an inode. The result is valid if `inode` is the field of a slot.
    pub(super) fn of(inode: *mut bindings::inode) -> *mut Self {
        inode
            .wrapping_byte_sub(offset_of!(Self, inode))
            .cast::<Self>()
    }
}

/// The slab for the inodes of a filesystem type.
///
/// # Invariants
///
/// Owns a slab for [`Slot<T>`].
pub(super) struct Cache<T>(NonNull<bindings::kmem_cache>, PhantomData<T>);

// SAFETY: A slab may be used and destroyed by any thread.
unsafe impl<T> Send for Cache<T> {}
// SAFETY: A slab may be used by several threads at the same time.
unsafe impl<T> Sync for Cache<T> {}

impl<T: FileSystem> Cache<T> {
    /// Creates the slab.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: The name is a static string. `construct` initializes objects of this size.
        let cache = unsafe {
            bindings::__kmem_cache_create(
                T::INODE_CACHE.as_char_ptr(),
                size_of::<Slot<T>>() as u32,
                align_of::<Slot<T>>() as u32,
                bindings::SLAB_RECLAIM_ACCOUNT | bindings::SLAB_ACCOUNT,
                Some(Self::construct),
            )
        };
        // INVARIANT: The slab was created above.
        Ok(Cache(NonNull::new(cache).ok_or(ENOMEM)?, PhantomData))
    }

    /// # Safety
    ///
    /// `object` must be valid for writing a `Slot<T>`.
    unsafe extern "C" fn construct(object: *mut kernel::ffi::c_void) {
        let slot = object.cast::<Slot<T>>();
        // SAFETY: The slab passes an object of the size of a slot.
        unsafe { bindings::inode_init_once(&raw mut (*slot).inode) };
    }
}

impl<T> Drop for Cache<T> {
    fn drop(&mut self) {
        // Inodes are freed after a grace period.
        // SAFETY: This may sleep: a registration is dropped by a thread that removes the module.
        unsafe { bindings::rcu_barrier() };
        // SAFETY: By the type invariant this owns the slab. The filesystem type is unregistered, so
        // no inodes are made, and all have been freed.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) };
    }
}

impl<T: Operations> VTable<T> {
    /// # Safety
    ///
    /// `sb` must be a valid superblock of type `T`.
    pub(super) unsafe extern "C" fn alloc_inode(
        sb: *mut bindings::super_block,
    ) -> *mut bindings::inode {
        // SAFETY: The caller passes a superblock of type `T`, which keeps its type, and so the
        // slab. The `data` of a new slot holds no value to drop.
        unsafe {
            let cache = Registration::<T>::from_raw((*sb).s_type).cache.0.as_ptr();
            let slot = bindings::alloc_inode_sb(sb, cache, bindings::GFP_KERNEL).cast::<Slot<T>>();
            if slot.is_null() {
                return ptr::null_mut();
            }
            (&raw mut (*slot).data).write(None);
            (&raw mut (*slot).mapping).write(Atomic::new(ptr::null_mut()));
            &raw mut (*slot).inode
        }
    }

    /// Frees an inode, after the grace period in which path walks may still read a symlink's
    /// target.
    ///
    /// # Safety
    ///
    /// `inode` must come from [`Self::alloc_inode`], and is not used afterwards.
    pub(super) unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        let slot = Slot::<T>::of(inode);
        // SAFETY: `alloc_inode` has initialized `data`, and the caller has the only pointer to the
        // slot. It comes from a slab, but the superblock may be gone.
        unsafe {
            (&raw mut (*slot).data).drop_in_place();
            bindings::kfree(slot.cast());
        }
    }

    /// # Safety
    ///
    /// `inode` must come from [`Self::alloc_inode`] and have no users.
    pub(super) unsafe extern "C" fn evict_inode(inode: *mut bindings::inode) {
        // SAFETY: The inode is in a slot and has no users. `INode::set_mapping` stored a box, which
        // has no users, as no file is open: all who look at `mapping` have a reference to the
        // inode. The inode's own address space never had a page.
        unsafe {
            let mapping = (*Slot::<T>::of(inode)).mapping.get_mut();
            let mapping = mem::replace(mapping, ptr::null_mut());
            if !mapping.is_null() {
                drop(KBox::from_raw(mapping));
            }
            bindings::clear_inode(inode);
        }
    }
}
