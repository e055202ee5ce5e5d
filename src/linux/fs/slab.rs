// SPDX-License-Identifier: GPL-2.0-only

//! The slab for inodes: allocation, eviction and freeing.

use super::*;
use crate::linux::mm::FileMapping;
use core::mem::offset_of;

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

owned! {
    /// The slab for the inodes of a filesystem type.
    pub(super) struct Cache(kmem_cache, kmem_cache_destroy);
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    /// Creates the slab, for [`Slot<T>`].
    pub(super) fn new_cache() -> Result<Cache> {
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
        NonNull::new(cache).map(Cache).ok_or(ENOMEM)
    }

    unsafe extern "C" fn construct(object: *mut ffi::c_void) {
        let slot = object.cast::<Slot<T>>();
        // SAFETY: The slab passes an object of the size of a slot.
        unsafe { bindings::inode_init_once(&raw mut (*slot).inode) };
    }

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
    pub(super) unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        let slot = Slot::<T>::of(inode);
        // SAFETY: `alloc_inode` has initialized `data`, and the caller has the only pointer to the
        // slot. It comes from a slab, but the superblock may be gone. `set_up` has given a symlink
        // its target, unless that is null.
        unsafe {
            (&raw mut (*slot).data).drop_in_place();
            if (*inode).i_mode & bindings::S_IFMT == bindings::S_IFLNK {
                bindings::kfree((*inode).__bindgen_anon_5.i_link.cast());
            }
            bindings::kfree(slot.cast());
        }
    }

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
