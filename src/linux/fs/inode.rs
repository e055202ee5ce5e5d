// SPDX-License-Identifier: GPL-2.0-only

//! Inodes (`struct inode`), and the slab for them: allocation, eviction and freeing.

use super::*;
use crate::linux::mm::FileMapping;
use core::mem::offset_of;

/// An inode of a filesystem of type `T`.
///
/// # Invariants
///
/// This is the `inode` of a [`Slot<T>`]. Its `data` is `Some` and does not change, nor do the
/// number, mode, size and superblock of the inode.
#[repr(transparent)]
pub(crate) struct INode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

impl<T: FileSystem> INode<T> {
    /// # Safety
    ///
    /// [`SuperBlock::inode`] must have set `inode` up, for type `T`, and it must live for `'a`.
    pub(super) unsafe fn from_raw<'a>(inode: *const bindings::inode) -> &'a Self {
        // INVARIANT: `SuperBlock::inode` returns only inodes that meet the invariants.
        // SAFETY: The type is transparent over the C struct, and the caller guarantees the
        // lifetime.
        unsafe { &*inode.cast() }
    }

    /// Returns the inode of an open file.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of type `T` for `'a`.
    pub(super) unsafe fn of_file<'a>(file: *const bindings::file) -> &'a Self {
        // SAFETY: An open file has an inode, which has been set up, and keeps it.
        unsafe { Self::from_raw((*file).f_inode) }
    }

    /// Returns the inode of a dentry.
    ///
    /// # Safety
    ///
    /// `dentry` must be positive for `'a`, and of type `T`.
    pub(super) unsafe fn of_dentry<'a>(dentry: *const bindings::dentry) -> &'a Self {
        // SAFETY: A positive dentry has an inode, which has been set up, and keeps it.
        unsafe { Self::from_raw((*dentry).d_inode) }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Returns the data of the filesystem.
    pub(crate) fn data(&self) -> &T::INode {
        // SAFETY: By the type invariant the inode is in a slot. Its `data` is `Some` and does
        // not change.
        unsafe {
            (*Slot::<T>::of(self.as_raw()))
                .data
                .as_ref()
                .unwrap_unchecked()
        }
    }

    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` does not change by the type invariant. A superblock outlives its inodes,
        // and has been filled, as `SuperBlock::inode` takes a filled one.
        unsafe { SuperBlock::from_raw((*self.as_raw()).i_sb) }
    }

    /// Returns the inode number.
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: `i_ino` does not change by the type invariant.
        unsafe { (*self.as_raw()).i_ino }
    }

    /// Returns the file type and the permissions.
    pub(crate) fn mode(&self) -> u16 {
        // SAFETY: `i_mode` does not change by the type invariant.
        unsafe { (*self.as_raw()).i_mode }
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // `set_up` refuses sizes that would be negative.
        // SAFETY: `i_size` does not change by the type invariant.
        unsafe { (*self.as_raw()).i_size as u64 }
    }

    /// Returns the mapping of a regular file, if the file has been mapped.
    pub(crate) fn mapping(&self) -> Option<&FileMapping<T::Claim>> {
        // SAFETY: By the type invariant the inode is in a slot. A pointer that is not null is a box
        // that `set_mapping` stored. It lives until the inode is evicted.
        unsafe {
            let mapping = &(*Slot::<T>::of(self.as_raw())).mapping;
            load_acquire(mapping).as_ref()
        }
    }

    /// Sets the mapping of a regular file, unless another thread has set it already. Returns the
    /// mapping that is set.
    pub(super) fn set_mapping(
        &self,
        mapping: FileMapping<T::Claim>,
    ) -> Result<&FileMapping<T::Claim>> {
        // SAFETY: By the type invariant the inode is in a slot.
        let place = unsafe { &(*Slot::<T>::of(self.as_raw())).mapping };
        let new = KBox::into_raw(KBox::new(mapping, GFP_KERNEL_ACCOUNT)?);
        let null = ptr::null_mut();
        let stored = place.cmpxchg(null, new, Full);
        if stored.is_err() {
            // SAFETY: `new` is a box that was not stored.
            drop(unsafe { KBox::from_raw(new) });
        }
        self.mapping().ok_or(EIO)
    }
}

/// A counted reference to an inode.
pub(crate) type INodeRef<T> = ARef<INode<T>>;

// SAFETY: The inode has a count, and `SuperBlock::inode` returns none before it is set up.
unsafe impl<T: FileSystem> AlwaysRefCounted for INode<T> {
    fn inc_ref(&self) {
        // SAFETY: There is a reference to the inode.
        unsafe { bindings::ihold(self.as_raw()) };
    }

    unsafe fn dec_ref(inode: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::iput(inode.cast().as_ptr()) };
    }
}

/// The type of an inode.
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Set if pages of a DAX device are mapped.
        is_dax: bool,
    },
    /// A symlink, with its target and a NUL.
    Symlink(KVec<u8>),
    /// A device, FIFO or socket. FIFOs and sockets have no device number.
    Special {
        /// Major number, 12 bits.
        major: u32,
        /// Minor number, 20 bits.
        minor: u32,
    },
}

/// The attributes of a new inode, which never change.
pub(crate) struct Attributes<T: FileSystem> {
    /// File type and permissions.
    pub(crate) mode: u16,
    /// Link count, not 0.
    pub(crate) nlink: u32,
    /// Owner, in the user namespace of the superblock.
    pub(crate) uid: u32,
    /// Group, in the user namespace of the superblock.
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Number of allocated bytes.
    pub(crate) allocated: u64,
    /// Modification, change and access time: seconds since 1970 and nanoseconds.
    pub(crate) time: (i64, u32),
    /// Generation number, which file handles contain.
    pub(crate) generation: u32,
    /// Set if the inode may have access control lists.
    pub(crate) may_have_acl: bool,
    pub(crate) kind: Kind,
    /// Data of the filesystem.
    pub(crate) data: T::INode,
}

impl<T: Operations> SuperBlock<T> {
    /// Returns the inode `ino`. If it is not in the inode cache, call `init` for its attributes.
    pub(crate) fn inode(
        &self,
        ino: u64,
        init: impl FnOnce() -> Result<Attributes<T>>,
    ) -> Result<INodeRef<T>> {
        // SAFETY: The superblock is valid.
        let inode = unsafe { bindings::iget_locked(self.as_raw(), ino) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        let raw = inode.as_ptr();
        // SAFETY: iget_locked() returned a reference to a valid inode.
        if unsafe { bindings::inode_state_read_once(raw) } & bindings::I_NEW != 0 {
            // SAFETY: iget_locked() returned a new inode, from `VTable::alloc_inode`, and has
            // locked it.
            let done = init().and_then(|attributes| unsafe { set_up(raw, attributes) });
            if let Err(error) = done {
                // SAFETY: As above. This gives up the reference.
                unsafe { bindings::iget_failed(raw) };
                return Err(error);
            }
            // SAFETY: As above.
            unsafe { bindings::unlock_new_inode(raw) };
        }
        // INVARIANT: `set_up` has succeeded on the inode: iget_locked() finds no others.
        // SAFETY: The type is transparent over the C struct. iget_locked() returned the reference.
        Ok(unsafe { ARef::from_raw(inode.cast()) })
    }
}

/// Sets up a new inode.
///
/// # Safety
///
/// `inode` must be new and locked, and in a slot for `T`.
#[inline(always)] // The attributes need not go through memory.
unsafe fn set_up<T: Operations>(inode: *mut bindings::inode, attributes: Attributes<T>) -> Result {
    let size = i64::try_from(attributes.size).map_err(|_| Error::from(Errno::Corrupted))?;
    let (sec, nsec) = attributes.time;
    let (uid, gid, nlink) = (attributes.uid, attributes.gid, attributes.nlink);
    // SAFETY: The inode is in a slot, new and locked, so nothing else accesses it.
    unsafe {
        bindings::inode_init_attributes(inode, uid, gid, nlink, size, sec, nsec);
        (*inode).i_mode = attributes.mode;
        (*inode).i_generation = attributes.generation;
        (*inode).i_blocks = attributes.allocated.div_ceil(512);
        if !attributes.may_have_acl || matches!(attributes.kind, Kind::Symlink(_)) {
            // This keeps permission checks of RCU path walks in RCU mode.
            bindings::cache_no_acl(inode);
        }
        (*Slot::<T>::of(inode)).data = Some(attributes.data);
    }
    match attributes.kind {
        Kind::Directory => {
            let tables = VTable::<T>::DIRECTORY;
            // SAFETY: As above. The tables are static.
            unsafe { ((*inode).i_op, (*inode).__bindgen_anon_3.i_fop) = tables };
        }
        Kind::Regular { is_dax } => {
            // SAFETY: As above. The tables are static.
            unsafe {
                (*inode).i_op = VTable::<T>::REGULAR;
                (*inode).__bindgen_anon_3.i_fop = VTable::<T>::FILE;
                (*inode).i_data.a_ops = VTable::<T>::ADDRESS_SPACE;
                (*inode).i_flags |= if is_dax { bindings::S_DAX } else { 0 };
            }
        }
        Kind::Symlink(target) => {
            let text = CStr::from_bytes_with_nul(&target).map_err(|_| Errno::Corrupted)?;
            let length = text.count_bytes() as ffi::c_int;
            let (target, ..) = target.into_raw_parts();
            // SAFETY: As above. `VTable::free_inode` frees the target, a grace period after the
            // last path walk.
            unsafe {
                (*inode).i_op = VTable::<T>::SYMLINK;
                bindings::inode_set_cached_link(inode, target.cast(), length);
            }
        }
        Kind::Special { major, minor } => {
            let device = major << bindings::MINORBITS | minor;
            // SAFETY: As above.
            unsafe {
                (*inode).i_op = &VTable::<T>::INODE;
                bindings::init_special_inode(inode, attributes.mode, device);
            }
        }
    }
    Ok(())
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    /// Operations on an inode of any type but symlinks.
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr),
        ..Self::XATTR_OPERATIONS
    };

    const SYMLINK: &'static bindings::inode_operations = &bindings::inode_operations {
        get_link: Some(bindings::simple_get_link),
        get_inode_acl: None,
        ..Self::INODE
    };
}

/// Fills in an inode's statx(2) results, which never change.
///
/// # Safety
///
/// `path` must lead to an inode of this module, and `stat` be valid for writing.
pub(super) unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _flags: ffi::c_uint,
) -> ffi::c_int {
    const DIO: u32 = bindings::STATX_DIOALIGN | bindings::STATX_DIO_READ_ALIGN;

    // SAFETY: A path that is looked up has a positive dentry. The buffer belongs to this call.
    let stat = unsafe {
        bindings::generic_fillattr(idmap, request_mask, (*(*path).dentry).d_inode, stat);
        &mut *stat
    };
    // The inode does not have `S_IMMUTABLE`, with which writing fails with `EPERM` and not `EROFS`.
    stat.attributes |= bindings::STATX_ATTR_IMMUTABLE;
    stat.attributes_mask |= bindings::STATX_ATTR_IMMUTABLE;
    if request_mask & DIO != 0 && stat.mode & bindings::S_IFMT == bindings::S_IFREG {
        // Every read is direct, at any alignment. But the loop driver uses the alignment of
        // offsets as its block size, so return the smallest block size.
        stat.result_mask |= DIO;
        stat.dio_mem_align = 1;
        stat.dio_offset_align = bindings::SECTOR_SIZE;
        stat.dio_read_offset_align = bindings::SECTOR_SIZE;
    }
    0
}

/// Converts a result to the return value of C functions that return inode pointers.
pub(super) fn into_raw<T: FileSystem>(inode: Result<INodeRef<T>>) -> *mut bindings::inode {
    match inode {
        Ok(inode) => ARef::into_raw(inode).as_ptr().cast(),
        Err(error) => error.to_ptr(),
    }
}

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
