// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks (`struct super_block`).

use super::*;

/// A superblock of a filesystem of type `T`.
///
/// # Invariants
///
/// `s_fs_info` is a boxed `T::Super`, which does not change before the last inode is gone.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// [`VTable::fill`] must have filled `sb`, for type `T`, and it must live for `'a`.
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // INVARIANT: `fill` establishes the invariants.
        // SAFETY: The type is transparent over the C struct, and the caller guarantees the
        // lifetime.
        unsafe { &*sb.cast() }
    }

    /// Returns the superblock of a dentry.
    ///
    /// # Safety
    ///
    /// `dentry` must be one of a mounted superblock of type `T`, which lives for `'a`.
    pub(super) unsafe fn of<'a>(dentry: *const bindings::dentry) -> &'a Self {
        // SAFETY: The caller passes a valid dentry. A mounted superblock has been filled.
        unsafe { Self::from_raw((*dentry).d_sb) }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Returns the data of the filesystem.
    pub(crate) fn data(&self) -> &T::Super {
        // SAFETY: By the type invariant this is a box that does not change.
        unsafe { &*(*self.as_raw()).s_fs_info.cast() }
    }

    /// Returns the data that all superblocks of the type share.
    pub(crate) fn shared(&self) -> &T::Shared
    where
        T: Operations,
    {
        // SAFETY: A superblock keeps its type registered.
        unsafe { &Registration::<T>::from_raw((*self.as_raw()).s_type).shared }
    }

    /// Returns the name of the device, for messages.
    pub(crate) fn id(&self) -> &CStr {
        // SAFETY: The superblock is valid, and its device is set.
        unsafe { context::device_name(self.as_raw()) }
    }
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    const SUPER: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        free_inode: Some(Self::free_inode),
        evict_inode: Some(Self::evict_inode),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        ..pin_init::zeroed()
    };

    /// Fills a superblock. [`Self::kill`] drops its `data`, even after a failure.
    ///
    /// # Safety
    ///
    /// `sb` must be a new superblock of type `T` with a device number.
    pub(super) unsafe fn fill(sb: *mut bindings::super_block, data: KBox<T::Super>) -> Result {
        let data = KBox::into_raw(data);
        // SAFETY: Nothing else accesses a superblock that is being filled, which keeps its type
        // registered, or this box.
        let (registration, device, data) = unsafe {
            (*sb).s_fs_info = data.cast();
            let registration = Registration::<T>::from_raw((*sb).s_type);
            (registration, (*sb).s_dev, &mut *data)
        };
        if let Some(bdev) = T::block_device(data) {
            // SAFETY: The superblock is new, and its data keep the device open.
            unsafe { bindings::super_set_bdev(sb, bdev.as_raw()) };
        }
        T::publish(data, &registration.shared, device)?;
        // INVARIANT: The data were set above, and `kill` drops them after the last inode.
        // SAFETY: The superblock lives during this call.
        let this = unsafe { SuperBlock::<T>::from_raw(sb) };
        let flags = bindings::SB_RDONLY | bindings::SB_NOATIME | bindings::SB_POSIXACL;
        // SAFETY: Nothing else accesses a superblock that is being filled. A UUID has 16 bytes.
        unsafe {
            bindings::super_set_identity(sb, T::uuid(this).as_ptr());
            (*sb).s_op = &Self::SUPER;
            (*sb).s_xattr = Self::XATTR_HANDLERS;
            (*sb).s_export_op = Self::EXPORT;
            (*sb).s_magic = T::MAGIC as usize;
            (*sb).s_maxbytes = bindings::MAX_LFS_FILESIZE;
            (*sb).s_blocksize = bindings::PAGE_SIZE as usize;
            (*sb).s_blocksize_bits = bindings::PAGE_SHIFT as u8;
            (*sb).s_time_gran = 1;
            (*sb).s_flags |= flags;
        }
        let root = INodeRef::into_raw(T::root(this)?).as_ptr().cast();
        // SAFETY: d_make_root() takes over the reference, even if it fails. Nothing else accesses
        // the superblock.
        let root = unsafe {
            (*sb).s_root = bindings::d_make_root(root);
            (*sb).s_root
        };
        if root.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: Nothing else accesses the superblock.
        unsafe { (*sb).s_flags |= bindings::SB_ACTIVE };
        Ok(())
    }

    /// `kill_sb` of the filesystem type.
    pub(super) unsafe extern "C" fn kill(sb: *mut bindings::super_block) {
        // SAFETY: The superblock is valid, and keeps its type registered.
        let registration = unsafe { Registration::<T>::from_raw((*sb).s_type) };
        // The next mount must not find the memory in use.
        let _reserved = registration.take_key(sb as usize);
        // SAFETY: The caller passes a valid superblock.
        let data = unsafe { (*sb).s_fs_info }.cast::<T::Super>();
        if !data.is_null() {
            // SAFETY: `fill` has stored the data, which are dropped below.
            T::retire(unsafe { SuperBlock::<T>::from_raw(sb) });
        }
        // SAFETY: The caller passes a valid superblock with a device number.
        unsafe { bindings::kill_super(sb) };
        if !data.is_null() {
            // SAFETY: This is the box that `fill` stored. All inodes are gone, and its other users.
            drop(unsafe {
                (*sb).s_fs_info = ptr::null_mut();
                KBox::from_raw(data)
            });
        }
    }

    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kstatfs,
    ) -> ffi::c_int {
        // SAFETY: The VFS passes a dentry of a mounted superblock, and a buffer that belongs to
        // this call.
        let (sb, buf) = unsafe { (SuperBlock::<T>::of(dentry), &mut *buf) };
        let (pages, inodes) = T::statfs(sb);
        // The same value as uuid_to_fsid() returns.
        let uuid = u128::from_le_bytes(*T::uuid(sb));
        let fsid = uuid as u64 ^ (uuid >> 64) as u64;
        buf.f_type = T::MAGIC as isize;
        buf.f_bsize = bindings::PAGE_SIZE as isize;
        buf.f_frsize = buf.f_bsize;
        buf.f_blocks = pages;
        buf.f_files = inodes;
        buf.f_namelen = bindings::NAME_MAX as isize;
        buf.f_fsid.val = [fsid as i32, (fsid >> 32) as i32];
        0
    }

    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> ffi::c_int {
        // SAFETY: The VFS passes a seq_file that belongs to this call, and the root of a mounted
        // superblock.
        let (seq, sb) = unsafe { (SeqFile::from_raw(seq.cast()), SuperBlock::<T>::of(root)) };
        T::show_options(sb, seq);
        0
    }
}
