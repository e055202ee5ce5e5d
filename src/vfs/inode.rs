// SPDX-License-Identifier: GPL-2.0

//! Inodes and their cache (`struct inode`).

use super::{dir, file, xattr, Errno, FileSystem, SuperBlock};
use crate::bindings;
use core::marker::PhantomData;
use core::mem::{align_of, offset_of, size_of};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::{prelude::*, types::Opaque};

/// An inode as the slab holds it: the filesystem's part in front of the VFS's.
#[repr(C)]
struct Slot<T: FileSystem> {
    /// `None` until the inode is set up.
    data: Option<T::Inode>,
    inode: bindings::inode,
}

/// An inode of a filesystem of type `T` that has been set up.
///
/// # Invariants
///
/// Transparent over a `struct inode` inside a [`Slot<T>`] whose `data` is `Some` and does not change.
#[repr(transparent)]
pub(crate) struct INode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

impl<T: FileSystem> INode<T> {
    /// # Safety
    ///
    /// `inode` must belong to a super block of type `T`, be set up by [`get`], and live for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(inode: *const bindings::inode) -> &'a Self {
        // SAFETY: The type is transparent over the C one; the caller answers for the invariants.
        unsafe { &*inode.cast() }
    }

    fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// The filesystem's part.
    #[inline]
    pub(crate) fn data(&self) -> &T::Inode {
        // SAFETY: By the invariants `data` is `Some` and constant.
        unsafe { (*slot::<T>(self.as_raw())).data.as_ref().unwrap_unchecked() }
    }

    /// The super block that it belongs to.
    #[inline]
    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` is constant and outlives the inode; it is of type `T` as the inode is.
        unsafe { SuperBlock::from_raw((*self.as_raw()).i_sb) }
    }

    /// Inode number.
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: Constant.
        unsafe { (*self.as_raw()).i_ino }
    }

    /// File type and permissions.
    pub(crate) fn mode(&self) -> u16 {
        // SAFETY: Constant on a read-only filesystem.
        unsafe { (*self.as_raw()).i_mode }
    }

    /// Size in bytes.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: Constant on a read-only filesystem, and never negative: see `get`.
        unsafe { (*self.as_raw()).i_size as u64 }
    }
}

impl<T: FileSystem> INode<T> {
    /// Return a page with a copy of the file's last bytes, and keep it in `tail` for the next call. The bytes start at
    /// `offset`, a multiple of the page size less than a page before the end of the file.
    ///
    /// # Errors
    ///
    /// `EIO` when the memory fails, `ENOMEM`.
    pub(super) fn tail_page(
        &self,
        offset: u64,
        tail: &AtomicPtr<bindings::page>,
    ) -> Result<NonNull<bindings::page>> {
        if let Some(page) = NonNull::new(tail.load(Ordering::Acquire)) {
            return Ok(page);
        }
        // SAFETY: May be called in any context that can sleep.
        let new = NonNull::new(unsafe { bindings::daxfs_helper_new_page() }).ok_or(ENOMEM)?;
        let length = self.size().saturating_sub(offset).min(super::PAGE_SIZE) as usize;
        // SAFETY: A new page, which is zero, is nobody else's; it has that many bytes.
        let bytes = unsafe {
            let address = bindings::daxfs_helper_page_address(new.as_ptr());
            core::slice::from_raw_parts_mut(address.cast::<u8>(), length)
        };
        let copied = T::copy(self, offset, bytes);
        let null = ptr::null_mut();
        let stored = copied.map(|()| {
            tail.compare_exchange(null, new.as_ptr(), Ordering::AcqRel, Ordering::Acquire)
        });
        match stored {
            Ok(Ok(_)) => return Ok(new),
            // SAFETY: Gives back the page, which was handed to nobody.
            _ => unsafe { bindings::daxfs_helper_put_page(new.as_ptr()) },
        }
        match stored? {
            // Somebody else was faster. It is not null, or it would have been exchanged.
            Err(page) => NonNull::new(page).ok_or(EIO),
            Ok(_) => Ok(new),
        }
    }
}

/// The slot around an inode.
#[inline]
fn slot<T: FileSystem>(inode: *mut bindings::inode) -> *mut Slot<T> {
    inode
        .wrapping_byte_sub(offset_of!(Slot<T>, inode))
        .cast::<Slot<T>>()
}

/// A counted reference to an inode.
///
/// # Invariants
///
/// Owns one reference to an inode that meets the invariants of [`INode`].
pub(crate) struct INodeRef<T: FileSystem>(NonNull<bindings::inode>, PhantomData<T>);

impl<T: FileSystem> INodeRef<T> {
    /// Gives the reference away.
    pub(super) fn into_raw(self) -> *mut bindings::inode {
        let inode = self.0.as_ptr();
        core::mem::forget(self);
        inode
    }
}

impl<T: FileSystem> core::ops::Deref for INodeRef<T> {
    type Target = INode<T>;

    fn deref(&self) -> &INode<T> {
        // SAFETY: By the invariants, as long as the reference is held.
        unsafe { INode::from_raw(self.0.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for INodeRef<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants one reference is ours to give back.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// What kind of file an inode is.
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// How it is mapped.
        mapped: Mapped,
    },
    /// A symlink. [`FileSystem::Inode`] must keep the target alive and unmoved.
    Symlink(NonNull<CStr>),
    /// A device, FIFO or socket, with the device numbers (0 for the latter two).
    Special {
        /// Major number, 12 bits.
        major: u32,
        /// Minor number, 20 bits.
        minor: u32,
    },
}

/// How a regular file is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// By the kernel's DAX code.
    Dax,
    /// Page by page, from memory without a DAX device.
    Paged,
    /// By copies in the page cache, since its pages hold other files, too.
    Copied,
}

/// What a new inode starts with; it never changes.
pub(crate) struct Attributes<T: FileSystem> {
    /// File type and permissions.
    pub(crate) mode: u16,
    /// Link count, not 0.
    pub(crate) nlink: u32,
    /// Owner, in the user namespace of the super block.
    pub(crate) uid: u32,
    /// Group, in the user namespace of the super block.
    pub(crate) gid: u32,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Bytes allocated.
    pub(crate) allocated: u64,
    /// Modification, change and access time: seconds since 1970 and nanoseconds.
    pub(crate) time: (i64, u32),
    /// What tells its file handles from those of an inode of the same number in another image.
    pub(crate) generation: u32,
    /// Whether it may have access control lists, if it is no symlink.
    pub(crate) may_have_acl: bool,
    /// Its kind.
    pub(crate) kind: Kind,
    /// File that is mapped by copies: the inode whose copies it shows, which has the same data and no original.
    pub(crate) original: Option<INodeRef<T>>,
    /// The filesystem's part.
    pub(crate) data: T::Inode,
}

/// See [`SuperBlock::inode`].
pub(super) fn get<T: FileSystem>(
    sb: &SuperBlock<T>,
    ino: u64,
    init: impl FnOnce() -> Result<Attributes<T>>,
) -> Result<INodeRef<T>> {
    // SAFETY: The super block is valid.
    let inode = unsafe { bindings::iget_locked(sb.as_raw(), ino) };
    let inode = NonNull::new(inode).ok_or(ENOMEM)?;
    // SAFETY: It is a valid inode with a reference of ours.
    if !unsafe { bindings::daxfs_helper_inode_is_new(inode.as_ptr()) } {
        // INVARIANT: Who made it new has set it up, or it would not have been found.
        return Ok(INodeRef(inode, PhantomData));
    }
    match init().and_then(|attributes| set_up(inode.as_ptr(), attributes)) {
        Ok(()) => {
            // SAFETY: It is new, and locked by iget_locked().
            unsafe { bindings::unlock_new_inode(inode.as_ptr()) };
            // INVARIANT: It has been set up.
            Ok(INodeRef(inode, PhantomData))
        }
        Err(error) => {
            // SAFETY: As above; this also gives up the reference.
            unsafe { bindings::iget_failed(inode.as_ptr()) };
            Err(error)
        }
    }
}

/// Sets up a new inode.
fn set_up<T: FileSystem>(inode: *mut bindings::inode, attributes: Attributes<T>) -> Result {
    let size = i64::try_from(attributes.size).map_err(|_| Error::from(Errno::Corrupted))?;
    let mode = attributes.mode;
    // SAFETY: The inode is new and locked, so it is ours alone; all tables are static.
    unsafe {
        (*inode).i_mode = mode;
        bindings::daxfs_helper_inode_set_owner(inode, attributes.uid, attributes.gid);
        bindings::daxfs_helper_inode_set_times(inode, attributes.time.0, attributes.time.1);
        bindings::daxfs_helper_inode_set_size(inode, size);
        bindings::set_nlink(inode, attributes.nlink);
        (*inode).i_generation = attributes.generation;
        if !attributes.may_have_acl || matches!(attributes.kind, Kind::Symlink(_)) {
            // Path walks take a short way through directories that are known to have no ACL.
            bindings::daxfs_helper_inode_set_no_acl(inode);
        }
        (*inode).i_blocks = attributes.allocated.div_ceil(512);
        match attributes.kind {
            Kind::Directory => {
                (*inode).i_op = &dir::Operations::<T>::INODE;
                (*inode).__bindgen_anon_3.i_fop = &dir::Operations::<T>::FILE;
            }
            Kind::Regular { mapped } => {
                (*inode).i_op = &file::Operations::<T>::INODE;
                (*inode).__bindgen_anon_3.i_fop = &file::Operations::<T>::FILE;
                (*inode).i_data.a_ops = match mapped {
                    Mapped::Copied => &file::Operations::<T>::COPIED,
                    Mapped::Dax | Mapped::Paged => &file::Operations::<T>::MAPPING,
                };
                if mapped == Mapped::Dax {
                    (*inode).i_flags |= bindings::DAXFS_S_DAX;
                }
                // This inode keeps the reference until it is evicted.
                if let Some(original) = attributes.original {
                    (*inode).i_mapping = (*original.into_raw()).i_mapping;
                }
            }
            Kind::Symlink(target) => {
                let target = target.as_ref();
                (*inode).i_op = &Operations::<T>::SYMLINK;
                bindings::daxfs_helper_inode_set_link(
                    inode,
                    target.as_char_ptr().cast_mut(),
                    target.count_bytes() as i32,
                );
            }
            Kind::Special { major, minor } => {
                (*inode).i_op = &Operations::<T>::SPECIAL;
                // `dev_t` inside the kernel: MKDEV().
                bindings::init_special_inode(
                    inode,
                    mode,
                    major << bindings::DAXFS_MINOR_BITS | minor,
                );
            }
        }
        (*slot::<T>(inode)).data = Some(attributes.data);
    }
    Ok(())
}

/// The slab that inodes of `T` come from. There is one filesystem type in the module, so there is one.
///
/// # Invariants
///
/// [`CACHE`] holds a slab for [`Slot<T>`].
pub(super) struct Cache<T>(PhantomData<T>);

static CACHE: AtomicPtr<bindings::kmem_cache> = AtomicPtr::new(ptr::null_mut());

impl<T: FileSystem> Cache<T> {
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if there is one already.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: The name is a string, and `construct` fits objects of that size.
        let cache = unsafe {
            bindings::daxfs_helper_inode_cache_create(
                c"daxfs_inode".as_char_ptr(),
                size_of::<Slot<T>>() as u32,
                align_of::<Slot<T>>() as u32,
                Some(Self::construct),
            )
        };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        if CACHE
            .compare_exchange(ptr::null_mut(), cache, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: Just made, and nothing has been allocated from it.
            unsafe { bindings::kmem_cache_destroy(cache) };
            return Err(EBUSY);
        }
        // INVARIANT: Stored just now.
        Ok(Cache(PhantomData))
    }

    /// # Safety
    ///
    /// `object` must be memory for a `Slot<T>`.
    unsafe extern "C" fn construct(object: *mut kernel::ffi::c_void) {
        // SAFETY: The slab constructs objects of a `Slot<T>`'s size.
        unsafe { bindings::inode_init_once(&raw mut (*object.cast::<Slot<T>>()).inode) };
    }
}

impl<T> Drop for Cache<T> {
    fn drop(&mut self) {
        // Inodes are freed behind a grace period, and `free` needs the slab: wait for the last of them. None
        // can be allocated any more, as the filesystem type is not registered.
        // SAFETY: May be called in any context that can sleep.
        unsafe { bindings::rcu_barrier() };
        let cache = CACHE.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the invariant it is a slab, and all that came from it has been freed.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// The C operations on symlinks and special files, and on the inode cache.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    const SPECIAL: bindings::inode_operations = bindings::inode_operations {
        listxattr: Some(xattr::Operations::<T>::list),
        get_inode_acl: Some(xattr::Operations::<T>::acl),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    const SYMLINK: bindings::inode_operations = bindings::inode_operations {
        get_link: Some(bindings::simple_get_link),
        listxattr: Some(xattr::Operations::<T>::list),
        // SAFETY: As above.
        ..unsafe { core::mem::zeroed() }
    };

    pub(super) unsafe extern "C" fn alloc(sb: *mut bindings::super_block) -> *mut bindings::inode {
        let cache = CACHE.load(Ordering::Relaxed);
        // SAFETY: A super block exists, so the type is registered, and with it the slab.
        let slot = unsafe { bindings::daxfs_helper_alloc_inode(sb, cache) }.cast::<Slot<T>>();
        if slot.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: The slot is ours; its `data` holds nothing yet that would have to be dropped.
        unsafe {
            (&raw mut (*slot).data).write(None);
            &raw mut (*slot).inode
        }
    }

    /// Called behind an RCU grace period, so that a path walk may still look at a symlink's target.
    pub(super) unsafe extern "C" fn free(inode: *mut bindings::inode) {
        let slot = slot::<T>(inode);
        // SAFETY: The inode came from `alloc`, and nobody uses it any more.
        unsafe {
            (&raw mut (*slot).data).drop_in_place();
            bindings::kmem_cache_free(CACHE.load(Ordering::Relaxed), slot.cast());
        }
    }

    pub(super) unsafe extern "C" fn evict(inode: *mut bindings::inode) {
        // SAFETY: The VFS evicts an inode that has no user. What was mapped of it belongs to its extent.
        unsafe {
            let (mapping, own) = ((*inode).i_mapping, &raw mut (*inode).i_data);
            bindings::truncate_inode_pages_final(own);
            let slot = slot::<T>(inode);
            if (*slot).data.is_some() {
                T::evict(INode::from_raw(inode));
            }
            bindings::clear_inode(inode);
            if mapping != own {
                // The reference to the original; see `set_up`.
                (*inode).i_mapping = own;
                bindings::iput((*mapping).host);
            }
        }
    }
}
