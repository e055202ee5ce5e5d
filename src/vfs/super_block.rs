// SPDX-License-Identifier: GPL-2.0

//! A mounted image (`struct super_block`).

use super::{context, BlockDevice, Context, FileSystem, INodeRef, NewSuper, Registration};
use super::{export, inode, xattr};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{prelude::*, types::Opaque};

/// What the VFS wants to know of a filesystem as a whole.
pub(crate) struct Geometry {
    /// `f_type` of statfs(2).
    pub(crate) magic: u32,
    /// UUID of the filesystem.
    pub(crate) uuid: [u8; 16],
}

/// Figures for statfs(2).
pub(crate) struct Statistics {
    /// Size in pages.
    pub(crate) pages: u64,
    /// Number of inodes.
    pub(crate) inodes: u64,
    /// Longest name in bytes.
    pub(crate) name_max: u32,
}

/// What `s_fs_info` leads to.
struct Data<T: FileSystem> {
    // Dropped in this order.
    filesystem: Option<T::Super>,
    held: Option<T::Held>,
}

/// A mounted filesystem of type `T`.
///
/// # Invariants
///
/// Transparent over a valid `struct super_block` whose `s_fs_info` is a boxed [`Data<T>`], which lives until the
/// last inode is gone, with a filesystem in it.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` must be of type `T`, filled by [`Operations::fill`], and live for `'a`.
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: The type is transparent over the C one; the caller answers for the invariants.
        unsafe { &*sb.cast() }
    }

    /// The C object.
    pub(super) fn as_raw(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// What the filesystem keeps.
    #[inline]
    pub(crate) fn data(&self) -> &T::Super {
        // SAFETY: By the invariants.
        unsafe {
            (*(*self.as_raw()).s_fs_info.cast::<Data<T>>())
                .filesystem
                .as_ref()
                .unwrap_unchecked()
        }
    }

    /// Name of the device, for messages.
    pub(crate) fn id(&self) -> &CStr {
        // SAFETY: `s_id` is a NUL-terminated string that does not change once the device is set.
        unsafe { CStr::from_char_ptr((*self.as_raw()).s_id.as_ptr()) }
    }

    /// The inode `ino`: the cached one, or a new one that `init` describes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `init` fails with.
    pub(crate) fn inode(
        &self,
        ino: u64,
        init: impl FnOnce() -> Result<inode::Attributes<T>>,
    ) -> Result<INodeRef<T>> {
        inode::get(self, ino, init)
    }
}

/// The C operations on a super block.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode::Operations::<T>::alloc),
        free_inode: Some(inode::Operations::<T>::free),
        evict_inode: Some(inode::Operations::<T>::evict),
        statfs: Some(Self::statfs),
        shutdown: Some(Self::shutdown),
        show_options: Some(Self::show_options),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    /// `fill_super` of get_tree_bdev().
    pub(super) unsafe extern "C" fn fill(
        sb: *mut bindings::super_block,
        fc: *mut bindings::fs_context,
    ) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            // SAFETY: The VFS hands in a new super block, with its device open if it has one, and our context.
            let (bdev, options, context) = unsafe {
                let bdev = (*sb).s_bdev;
                (
                    (!bdev.is_null()).then(|| BlockDevice::from_raw(bdev)),
                    context::Operations::<T>::options(fc),
                    Context::from_raw(fc),
                )
            };
            // INVARIANT: The data that is returned is dropped in `kill`, before the super block is freed.
            // SAFETY: The super block is of our type, which stays registered as long as there are any.
            let shared = unsafe { Registration::<T>::shared((*sb).s_type) };
            let new = NewSuper(sb);
            let name = new.name()?;
            let data = Data::<T> {
                filesystem: None,
                held: None,
            };
            let data = KBox::into_raw(KBox::new(data, GFP_KERNEL)?);
            // SAFETY: `sb` is ours alone until this function returns. From here on `s_fs_info` is a box, which `kill`
            // frees, also if this fails further down.
            let data = unsafe {
                (*sb).s_fs_info = data.cast();
                &mut *data
            };
            let (filesystem, geometry) =
                T::fill_super(&new, shared, bdev, options, &mut data.held, context)?;
            data.filesystem = Some(filesystem);
            // SAFETY: As above; the filesystem is there now.
            let this = unsafe {
                (*sb).s_op = &Self::TABLE;
                (*sb).s_xattr = xattr::Operations::<T>::HANDLERS.as_ptr();
                (*sb).s_export_op = &export::Operations::<T>::TABLE;
                (*sb).s_magic = geometry.magic as usize;
                (*sb).s_maxbytes = bindings::DAXFS_MAX_LFS_FILESIZE;
                (*sb).s_blocksize = bindings::DAXFS_PAGE_SIZE as usize;
                (*sb).s_blocksize_bits = bindings::DAXFS_PAGE_SHIFT as u8;
                (*sb).s_time_gran = 1;
                (*sb).s_flags |= bindings::DAXFS_SB_RDONLY
                    | bindings::DAXFS_SB_NOATIME
                    | bindings::DAXFS_SB_POSIXACL;
                let name = name.as_char_ptr();
                bindings::daxfs_helper_super_identify(sb, geometry.uuid.as_ptr(), name);
                SuperBlock::<T>::from_raw(sb)
            };
            let root = T::root(this)?;
            // SAFETY: d_make_root() takes over the reference, also when it fails.
            let root = unsafe { bindings::d_make_root(root.into_raw()) };
            if root.is_null() {
                return Err(ENOMEM);
            }
            // SAFETY: As above; the super block takes over the dentry.
            unsafe { (*sb).s_root = root };
            Ok(())
        })
    }

    /// `kill_sb` of the filesystem type.
    pub(super) unsafe extern "C" fn kill(sb: *mut bindings::super_block) {
        // SAFETY: The VFS calls this once, for a super block that get_tree_bdev() or get_tree_nodev() set up.
        // All inodes are gone when it has been killed, so the data has no user left; it is null when `fill`
        // failed early, and nobody else holds the box.
        unsafe {
            // `s_bdev` does not tell: it is null also when the device could not be opened.
            if (*sb).s_dev >> bindings::DAXFS_MINOR_BITS == 0 {
                bindings::kill_anon_super(sb);
            } else {
                bindings::kill_block_super(sb);
            }
            let data = (*sb).s_fs_info.cast::<Data<T>>();
            if !data.is_null() {
                (*sb).s_fs_info = core::ptr::null_mut();
                drop(KBox::from_raw(data));
            }
        }
    }

    unsafe extern "C" fn shutdown(sb: *mut bindings::super_block) {
        // SAFETY: The VFS calls this for a super block of ours that is born.
        T::shutdown(unsafe { SuperBlock::<T>::from_raw(sb) });
    }

    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kstatfs,
    ) -> kernel::ffi::c_int {
        // SAFETY: The dentry belongs to a mounted super block of ours, and the VFS hands in a zeroed buffer.
        let (sb, buf) = unsafe { (SuperBlock::<T>::from_raw((*dentry).d_sb), &mut *buf) };
        let statistics = T::statistics(sb);
        // SAFETY: `s_uuid` is constant once the super block is filled, `s_magic` too.
        let (uuid, magic) = unsafe { ((*sb.as_raw()).s_uuid.b, (*sb.as_raw()).s_magic) };
        let half = |at: usize| {
            uuid[at..at + 8]
                .iter()
                .rev()
                .fold(0, |half, &byte| half << 8 | u64::from(byte))
        };
        // As uuid_to_fsid() does it.
        let fsid = half(0) ^ half(8);
        buf.f_type = magic as isize;
        buf.f_bsize = bindings::DAXFS_PAGE_SIZE as isize;
        buf.f_frsize = buf.f_bsize;
        buf.f_blocks = statistics.pages;
        buf.f_files = statistics.inodes;
        buf.f_namelen = statistics.name_max as isize;
        buf.f_fsid.val = [fsid as i32, (fsid >> 32) as i32];
        0
    }

    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS hands in a seq_file of this call alone and the root of a mounted super block.
        let (seq, sb) = unsafe {
            (
                kernel::seq_file::SeqFile::from_raw(seq.cast()),
                SuperBlock::<T>::from_raw((*root).d_sb),
            )
        };
        T::show_options(sb, seq);
        0
    }
}
