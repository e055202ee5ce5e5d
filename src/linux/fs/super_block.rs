// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks (`struct super_block`).

use super::{context, export, inode, keys, slab, xattr};
use super::{Context, FileSystem, INodeRef, Operations, Registration};
use crate::bindings;
use crate::linux::block::BlockDevice;
use core::marker::PhantomData;
use core::ptr;
use kernel::{error::from_result, prelude::*, seq_file::SeqFile, str::CString, types::Opaque};

/// Operations on a mounted superblock.
pub(crate) trait SuperOperations: FileSystem {
    /// Return the figures for statfs(2).
    fn statfs(sb: &SuperBlock<Self>) -> Statistics;

    /// Show the mount options that differ from the default, each after a comma.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile);

    /// Handle the loss of the block device. Called under `s_umount`.
    fn shutdown(sb: &SuperBlock<Self>);

    /// Give up what only one superblock with this device number can have. Called under `s_umount`
    /// before the number becomes free for another superblock, also if mounting failed. Inodes may
    /// be in use.
    fn retire(sb: &SuperBlock<Self>);

    /// Return the label, without a NUL. Bytes after the first `FSLABEL_MAX` are not shown.
    fn label(sb: &SuperBlock<Self>) -> &[u8];
}

/// Constants that identify a filesystem.
pub(crate) struct Identity {
    /// `f_type` of statfs(2).
    pub(crate) magic: u32,
    /// UUID.
    pub(crate) uuid: [u8; 16],
}

/// Figures for statfs(2).
pub(crate) struct Statistics {
    /// Size in pages.
    pub(crate) pages: u64,
    /// Number of inodes.
    pub(crate) inodes: u64,
    /// Length of the longest name in bytes.
    pub(crate) name_max: u32,
}

/// A superblock that is being filled.
///
/// # Invariants
///
/// The pointer is valid for `'a`, and the device of the superblock is set.
pub(crate) struct NewSuper<'a>(*mut bindings::super_block, PhantomData<&'a ()>);

impl NewSuper<'_> {
    /// Return the device number as `MAJOR:MINOR`. No other superblock has it.
    pub(crate) fn number(&self) -> Result<CString> {
        let (major, minor) = numbers(self.device());
        CString::try_from_fmt(fmt!("{}:{}", major, minor))
    }

    /// Return a name for messages: the block device's, or `0:MINOR`.
    fn name(&self) -> Result<CString> {
        match numbers(self.device()) {
            (0, minor) => CString::try_from_fmt(fmt!("0:{}", minor)),
            // SAFETY: By the type invariant the superblock is valid and its device is set.
            _ => CString::try_from_fmt(fmt!("{}", unsafe { context::device_name(self.0) })),
        }
    }

    fn device(&self) -> bindings::dev_t {
        // SAFETY: By the type invariant the superblock is valid and its device is set.
        unsafe { (*self.0).s_dev }
    }
}

/// Return the major and the minor number of a device.
pub(crate) fn numbers(device: bindings::dev_t) -> (u32, u32) {
    let minors = (1 << bindings::MINORBITS) - 1;
    (device >> bindings::MINORBITS, device & minors)
}

/// The target of `s_fs_info`. Fields are dropped in this order.
struct Private<T: FileSystem> {
    data: Option<T::Super>,
    resources: Option<T::Resources>,
}

/// A superblock of a filesystem of type `T`.
///
/// # Invariants
///
/// `s_fs_info` is a boxed [`Private<T>`] whose `data` is `Some` and does not change before the last
/// inode is gone.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// [`VTable::fill`] must have filled `sb`, for type `T`, and it must live for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // INVARIANT: `fill` establishes the invariants.
        // SAFETY: The type is transparent over the C struct, and the caller guarantees the
        // lifetime.
        unsafe { &*sb.cast() }
    }

    /// Return the superblock of a dentry.
    ///
    /// # Safety
    ///
    /// `dentry` must be one of a mounted superblock of type `T`, which lives for `'a`.
    pub(super) unsafe fn of<'a>(dentry: *const bindings::dentry) -> &'a Self {
        // SAFETY: The caller passes a valid dentry. A mounted superblock has been filled.
        unsafe { Self::from_raw((*dentry).d_sb) }
    }

    /// Return the C object.
    pub(super) fn as_raw(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Return the data of the filesystem.
    #[inline]
    pub(crate) fn data(&self) -> &T::Super {
        // SAFETY: The superblock is valid.
        let private = unsafe { (*self.as_raw()).s_fs_info }.cast::<Private<T>>();
        // SAFETY: By the type invariant this is a box that does not change.
        let data = unsafe { &(*private).data };
        // SAFETY: By the type invariant `data` is `Some`.
        unsafe { data.as_ref().unwrap_unchecked() }
    }

    /// Return the name of the device, for messages.
    pub(crate) fn id(&self) -> &CStr {
        // SAFETY: The superblock is valid, and its device is set.
        unsafe { context::device_name(self.as_raw()) }
    }

    /// Return the device number.
    pub(crate) fn device(&self) -> u32 {
        // SAFETY: The superblock is valid, and `s_dev` does not change.
        unsafe { (*self.as_raw()).s_dev }
    }
}

impl<T: Operations> SuperBlock<T> {
    /// Return the inode `ino`. If it is not in the inode cache, call `init` for its attributes.
    pub(crate) fn inode(
        &self,
        ino: u64,
        init: impl FnOnce() -> Result<inode::Attributes<T>>,
    ) -> Result<INodeRef<T>> {
        inode::get(self, ino, init)
    }
}

/// `struct super_operations` of `T`, and the superblock part of `struct file_system_type`.
pub(super) struct VTable<T>(PhantomData<T>);

impl<T: Operations> VTable<T> {
    const OPERATIONS: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(slab::VTable::<T>::alloc),
        free_inode: Some(slab::VTable::<T>::free),
        evict_inode: Some(slab::VTable::<T>::evict),
        statfs: Some(Self::statfs),
        shutdown: Some(Self::shutdown),
        show_options: Some(Self::show_options),
        ..pin_init::zeroed()
    };

    /// Fill a superblock, for get_tree_bdev() and get_tree_nodev().
    ///
    /// # Safety
    ///
    /// `sb` must be a new superblock of type `T` with its device open, and `fc` its context, which
    /// nothing else uses.
    pub(super) unsafe extern "C" fn fill(
        sb: *mut bindings::super_block,
        fc: *mut bindings::fs_context,
    ) -> kernel::ffi::c_int {
        // SAFETY: The caller guarantees what `try_fill` requires.
        from_result(|| unsafe { Self::try_fill(sb, fc) }.map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::fill`].
    unsafe fn try_fill(sb: *mut bindings::super_block, fc: *mut bindings::fs_context) -> Result {
        // SAFETY: The caller passes a context that nothing else uses.
        let private = unsafe { context::Private::<T>::of(fc) };
        private.filled = true;
        let found = private.found.as_ref().ok_or(EINVAL)?;
        let options = &private.options;
        // SAFETY: The caller passes a valid context, and the VFS does not change its source now.
        let context = unsafe { Context::from_raw(fc) };
        // SAFETY: The caller passes a superblock of type `T`.
        let shared = unsafe { Registration::<T>::shared(sb) };
        // SAFETY: The caller passes a valid superblock.
        let bdev = unsafe { (*sb).s_bdev };
        // SAFETY: The superblock keeps its device open.
        let bdev = (!bdev.is_null()).then(|| unsafe { BlockDevice::from_raw(bdev) });
        // INVARIANT: The caller passes a superblock whose device is set.
        let new = NewSuper(sb, PhantomData);
        let name = new.name()?;
        let private = Private::<T> {
            data: None,
            resources: None,
        };
        let private = KBox::into_raw(KBox::new(private, GFP_KERNEL)?);
        // `kill` frees the box, also after a failure below.
        // SAFETY: Nothing else accesses a superblock that is being filled.
        unsafe { (*sb).s_fs_info = private.cast() };
        // SAFETY: The box was made above, and nothing uses `s_fs_info` before this returns.
        let private = unsafe { &mut *private };
        let resources = &mut private.resources;
        let (data, identity) =
            T::fill_super(&new, shared, bdev, options, found, resources, context)
                .map_err(|refusal| context.refuse(refusal))?;
        private.data = Some(data);
        // SAFETY: Nothing else accesses a superblock that is being filled.
        unsafe { Self::initialize(sb, &identity, &name) };
        // INVARIANT: `data` was set above, and `kill` drops it after the last inode.
        // SAFETY: The superblock lives during this call.
        let root = T::root(unsafe { SuperBlock::<T>::from_raw(sb) })?.into_raw();
        // SAFETY: d_make_root() takes over the reference, also if it fails.
        let root = unsafe { bindings::d_make_root(root) };
        if root.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: Nothing else accesses a superblock that is being filled.
        unsafe { (*sb).s_root = root };
        Ok(())
    }

    /// Set the constant fields of a superblock.
    ///
    /// # Safety
    ///
    /// `sb` must be a superblock of type `T` that is being filled.
    unsafe fn initialize(sb: *mut bindings::super_block, identity: &Identity, name: &CStr) {
        let (uuid, name) = (identity.uuid.as_ptr(), name.as_char_ptr());
        // SAFETY: The superblock is valid, the UUID has 16 bytes, and the name is a NUL-terminated
        // string.
        unsafe { bindings::super_set_identity(sb, uuid, name) };
        let flags = bindings::SB_RDONLY | bindings::SB_NOATIME | bindings::SB_POSIXACL;
        // SAFETY: The superblock is valid, and nothing else accesses these fields before it is
        // filled.
        unsafe {
            (*sb).s_op = &Self::OPERATIONS;
            (*sb).s_xattr = xattr::VTable::<T>::HANDLERS.as_ptr();
            (*sb).s_export_op = export::VTable::<T>::OPERATIONS;
            (*sb).s_magic = identity.magic as usize;
            (*sb).s_maxbytes = bindings::MAX_LFS_FILESIZE;
            (*sb).s_blocksize = bindings::PAGE_SIZE as usize;
            (*sb).s_blocksize_bits = bindings::PAGE_SHIFT as u8;
            (*sb).s_time_gran = 1;
            (*sb).s_flags |= flags;
        }
    }

    /// `kill_sb` of the filesystem type.
    ///
    /// # Safety
    ///
    /// `sb` must be a superblock of type `T` whose device number get_tree_bdev() or
    /// set_anon_super_fc() has set. It is not used afterwards.
    pub(super) unsafe extern "C" fn kill(sb: *mut bindings::super_block) {
        // SAFETY: The caller passes a valid superblock.
        let private = unsafe { (*sb).s_fs_info }.cast::<Private<T>>();
        // SAFETY: An `s_fs_info` that is not null is the box that `try_fill` made.
        let data = unsafe { private.as_ref() }.and_then(|private| private.data.as_ref());
        if data.is_some() {
            // SAFETY: `try_fill` has stored the data, which are dropped below.
            T::retire(unsafe { SuperBlock::<T>::from_raw(sb) });
        }
        // SAFETY: The caller passes a valid superblock, whose device number is set.
        unsafe { bindings::kill_super(sb) };
        if !private.is_null() {
            // SAFETY: The superblock's data has no users left.
            unsafe { (*sb).s_fs_info = ptr::null_mut() };
            // SAFETY: An `s_fs_info` that is not null is the box that `try_fill` made. All inodes
            // are gone.
            drop(unsafe { KBox::from_raw(private) });
        }
        // SAFETY: The superblock is valid, and keeps its type registered.
        keys::forget(unsafe { Registration::<T>::keys((*sb).s_type) }, sb);
    }

    /// # Safety
    ///
    /// `sb` must be a mounted superblock of type `T`.
    unsafe extern "C" fn shutdown(sb: *mut bindings::super_block) {
        // SAFETY: A mounted superblock has been filled.
        T::shutdown(unsafe { SuperBlock::<T>::from_raw(sb) });
    }

    /// # Safety
    ///
    /// `dentry` must belong to a mounted superblock of type `T`, and `buf` be zero.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kstatfs,
    ) -> kernel::ffi::c_int {
        // SAFETY: The caller passes a dentry of a mounted superblock.
        let sb = unsafe { SuperBlock::<T>::of(dentry) };
        let (statistics, raw) = (T::statfs(sb), sb.as_raw());
        // SAFETY: Neither changes once the superblock is filled.
        let (uuid, magic) = unsafe { ((*raw).s_uuid.b, (*raw).s_magic) };
        // The same value as uuid_to_fsid() gives.
        let uuid = u128::from_le_bytes(uuid);
        let fsid = uuid as u64 ^ (uuid >> 64) as u64;
        // SAFETY: The VFS passes a buffer that belongs to this call.
        let buf = unsafe { &mut *buf };
        buf.f_type = magic as isize;
        buf.f_bsize = bindings::PAGE_SIZE as isize;
        buf.f_frsize = buf.f_bsize;
        buf.f_blocks = statistics.pages;
        buf.f_files = statistics.inodes;
        buf.f_namelen = statistics.name_max as isize;
        buf.f_fsid.val = [fsid as i32, (fsid >> 32) as i32];
        0
    }

    /// # Safety
    ///
    /// `root` must be the root of a mounted superblock of type `T`, and `seq` valid.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS passes a seq_file that belongs to this call.
        let seq = unsafe { SeqFile::from_raw(seq.cast()) };
        // SAFETY: The caller passes the root of a mounted superblock.
        T::show_options(unsafe { SuperBlock::<T>::of(root) }, seq);
        0
    }
}
