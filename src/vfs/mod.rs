// SPDX-License-Identifier: GPL-2.0

//! The kernel's interface to filesystems, as safe as a read-only DAX filesystem needs it.
//!
//! A filesystem implements [`FileSystem`]; nearly all `unsafe` of the module stands in this room.
//!
//! * [`context`]: mount options and the log that mount(8) reads
//! * [`registration`]: the filesystem type, from `mount` to `umount`
//! * [`super_block`]: a mounted image
//! * [`inode`]: inodes and their cache
//! * [`dir`]: look-up and listing
//! * [`xattr`]: extended attributes and access control lists
//! * [`export`]: file handles
//! * [`file`]: reads and mappings
//! * [`ioctl`]: the label
//! * [`sha256`]: the kernel's SHA-256
//! * [`tally`]: counters that cost next to nothing
//! * [`trace`]: the tracepoints
//!
//! C headers: `include/linux/fs.h`, `include/linux/fs_context.h`, `include/linux/dax.h`.

pub(crate) mod context;
pub(crate) mod dir;
pub(crate) mod export;
pub(crate) mod file;
pub(crate) mod inode;
mod ioctl;
pub(crate) mod registration;
pub(crate) mod sha256;
pub(crate) mod super_block;
pub(crate) mod tally;
mod trace;
pub(crate) mod xattr;

pub(crate) use context::{Backing, Context, FileRef, Param, SourceKind, Value};
pub(crate) use dir::Emitter;
pub(crate) use file::{Destination, Extent, Fault};
pub(crate) use inode::{Attributes, INode, INodeRef, Kind, Mapped};
pub(crate) use registration::Registration;
pub(crate) use sha256::Sha256;
pub(crate) use super_block::{Geometry, Statistics, SuperBlock};
pub(crate) use tally::Tally;
pub(crate) use xattr::{AclKind, NameList, ValueBuffer};

use crate::bindings;
use crate::image::layout::XattrPrefix;
use core::ptr::NonNull;
use kernel::{prelude::*, str::CString};

/// A read-only filesystem whose files are mapped from a DAX device.
///
/// Every method may be called from several threads at once.
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// The name under which it is mounted.
    const NAME: &'static CStr;

    /// What all mounted filesystems share.
    type Shared: Send + Sync;

    /// Mount options while they are gathered.
    type Options: Default + Send + Sync;

    /// What a mounted filesystem keeps.
    type Super: Send + Sync;

    /// What keeps the memory of a filesystem, from before it is filled until after it is killed.
    type Held: Send + Sync;

    /// What an inode in memory keeps.
    type Inode: Send + Sync;

    /// Takes one mount option.
    ///
    /// # Errors
    ///
    /// `ENOPARAM` for an option that it does not know; the kernel then looks for those of its own.
    fn parse_param(options: &mut Self::Options, param: &Param<'_>, context: &Context) -> Result;

    /// Tells what kind of super block the mount takes.
    ///
    /// # Errors
    ///
    /// Fails the mount; the reason is to be told to `context`.
    fn backing(options: &Self::Options, context: &Context) -> Result<Backing>;

    /// Fill `sb` with the image, which is on `bdev` if it is on a block device. `held` is dropped after the result, or
    /// after a failure, and not under `s_umount`.
    ///
    /// # Errors
    ///
    /// Fails the mount; the reason is to be told to `context`.
    fn fill_super(
        sb: &NewSuper,
        shared: &Self::Shared,
        bdev: Option<&BlockDevice>,
        options: &mut Self::Options,
        held: &mut Option<Self::Held>,
        context: &Context,
    ) -> Result<(Self::Super, Geometry)>;

    /// The device of `sb` is gone. Called under `s_umount`, with a block device only.
    fn shutdown(sb: &SuperBlock<Self>);

    /// Return whether [`Self::fill_super`] has used `options`, and no super block was found that existed before.
    fn filled(options: &Self::Options) -> bool;

    /// Check that the memory still holds the image that `sb` was filled from, and do the checks that `options` ask
    /// for. Called when it is mounted again.
    ///
    /// # Errors
    ///
    /// Fails that mount; the reason is to be told to `context`.
    fn revalidate(sb: &SuperBlock<Self>, options: &mut Self::Options, context: &Context) -> Result;

    /// Apply `options` to `sb`, which is remounted with them.
    ///
    /// # Errors
    ///
    /// Fails the remount; the reason is to be told to `context`.
    fn reconfigure(sb: &SuperBlock<Self>, options: &mut Self::Options, context: &Context)
        -> Result;

    /// The root directory's inode.
    ///
    /// # Errors
    ///
    /// Fails the mount.
    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>>;

    /// The inode that `name` (1 to 255 bytes) leads to in `dir`, `None` when there is no such name.
    ///
    /// # Errors
    ///
    /// What look-up then returns to user space.
    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<INodeRef<Self>>>;

    /// Emits the entries of `dir` from the emitter's position on.
    ///
    /// # Errors
    ///
    /// What getdents(2) returns when nothing was emitted before.
    fn iterate(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result;

    /// Copies file content from byte `offset` on, which lies in front of the end of file, and returns the
    /// number of bytes copied, which is less than [`Destination::len`] only at the end of file or when the
    /// destination faults.
    ///
    /// # Errors
    ///
    /// `EIO` when the memory fails before the first byte.
    fn read(file: &INode<Self>, offset: u64, to: &mut Destination<'_>) -> Result<usize>;

    /// Copies file content, all of `into`, from byte `offset` on; all of it lies in front of the end of file.
    ///
    /// # Errors
    ///
    /// `EIO` when the memory fails.
    fn copy(file: &INode<Self>, offset: u64, into: &mut [u8]) -> Result;

    /// Told of each fault on a mapping of the regular file `file` that mapped or failed.
    fn faulted(file: &INode<Self>, outcome: Fault);

    /// Where the content of the regular file `file` stands.
    ///
    /// # Errors
    ///
    /// `EIO` when the inode is no regular file.
    fn extent(file: &INode<Self>) -> Result<Extent<'_>>;

    /// Return the address space of the extent of the regular file `file`, all of whose mappable pages are in it. It
    /// must live until [`Self::evict`]. Called for each mapping.
    ///
    /// # Errors
    ///
    /// Fails mmap(2).
    fn map(file: &INode<Self>) -> Result<NonNull<bindings::address_space>>;

    /// Called when `inode` is about to go away, and none of its pages is mapped any more.
    fn evict(inode: &INode<Self>);

    /// Writes the value of the extended attribute that `prefix` and `name` make up to `value`, and returns its
    /// length, of at most 64 KiB.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none; what [`ValueBuffer::room`] fails with.
    fn xattr(
        inode: &INode<Self>,
        prefix: XattrPrefix,
        name: &[u8],
        value: &mut ValueBuffer<'_>,
    ) -> Result<usize>;

    /// Lists the names of all extended attributes whose prefix `list` [shows](NameList::shows).
    ///
    /// # Errors
    ///
    /// What [`NameList::add`] fails with.
    fn list_xattrs(inode: &INode<Self>, list: &mut NameList<'_>) -> Result;

    /// Hands the access control list of `inode` to `take`, in the form that getxattr(2) shows, if it has one.
    ///
    /// # Errors
    ///
    /// Access then fails with it.
    fn acl(inode: &INode<Self>, kind: AclKind, take: impl FnOnce(&[u8]) -> Result) -> Result;

    /// The inode `ino` of the image whose inodes have this [`Attributes::generation`]. The numbers come from
    /// a file handle, that is, from anybody.
    ///
    /// # Errors
    ///
    /// `ESTALE` when there is none.
    fn inode_of_handle(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>>;

    /// The parent of the directory `dir`, itself a directory.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` when `dir` is none.
    fn parent(dir: &INode<Self>) -> Result<INodeRef<Self>>;

    /// Hands a name (1 to 255 bytes) under which `dir` holds `child` to `take`.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none, `ENOTDIR` when `dir` is no directory.
    fn name_in(dir: &INode<Self>, child: &INode<Self>, take: impl FnOnce(&[u8])) -> Result;

    /// The label, without NUL; what exceeds `FSLABEL_MAX` is not shown.
    fn label(sb: &SuperBlock<Self>) -> &[u8];

    /// Figures for statfs(2).
    fn statistics(sb: &SuperBlock<Self>) -> Statistics;

    /// Shows the mount options that differ from the default, each with a comma in front.
    fn show_options(sb: &SuperBlock<Self>, seq: &kernel::seq_file::SeqFile);
}

/// A block device opened for a mount.
///
/// # Invariants
///
/// Transparent over a `struct block_device` that stays open as long as a reference to this lives.
#[repr(transparent)]
pub(crate) struct BlockDevice(kernel::types::Opaque<bindings::block_device>);

impl BlockDevice {
    /// # Safety
    ///
    /// `bdev` must stay open for `'a`.
    unsafe fn from_raw<'a>(bdev: *mut bindings::block_device) -> &'a Self {
        // SAFETY: The type is transparent over the C one, which the caller keeps alive.
        unsafe { &*bdev.cast() }
    }

    /// The C object.
    pub(crate) fn as_raw(&self) -> *mut bindings::block_device {
        self.0.get()
    }
}

/// A super block that is being filled.
pub(crate) struct NewSuper(*mut bindings::super_block);

impl NewSuper {
    /// A name that no other super block has: the block device's, or the number of one of no device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn name(&self) -> Result<CString> {
        // SAFETY: The super block is valid, and its device and `s_id` are set before it is filled.
        let (device, id) = unsafe {
            (
                (*self.0).s_dev,
                CStr::from_char_ptr((*self.0).s_id.as_ptr()),
            )
        };
        let minor = device & ((1 << bindings::DAXFS_MINOR_BITS) - 1);
        match device >> bindings::DAXFS_MINOR_BITS {
            0 => CString::try_from_fmt(fmt!("0:{}", minor)),
            _ => CString::try_from_fmt(fmt!("{}", id)),
        }
    }
}

/// Bytes of a page of this kernel.
pub(crate) const PAGE_SIZE: u64 = bindings::DAXFS_PAGE_SIZE;

/// Errors that the kernel crate does not name.
#[derive(Clone, Copy)]
pub(crate) enum Errno {
    /// A checksum that does not match.
    BadMessage = bindings::DAXFS_EBADMSG as isize,
    /// The kernel's `EFSCORRUPTED`: a structure that needs cleaning.
    Corrupted = bindings::DAXFS_EUCLEAN as isize,
    /// Memory page has hardware error.
    HwPoison = bindings::DAXFS_EHWPOISON as isize,
    /// File name too long.
    NameTooLong = bindings::DAXFS_ENAMETOOLONG as isize,
    /// No data available: there is no such extended attribute.
    NoData = bindings::DAXFS_ENODATA as isize,
    /// Operation not supported.
    NotSupported = bindings::DAXFS_EOPNOTSUPP as isize,
    /// Stale file handle.
    Stale = bindings::DAXFS_ESTALE as isize,
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::from_errno(-(errno as kernel::ffi::c_int))
    }
}

/// Whether the log will bear another line about an image in use.
pub(crate) fn log_allowed() -> bool {
    // SAFETY: May be called in any context.
    unsafe { bindings::daxfs_helper_log_allowed() }
}

/// Runs `f` and turns its error into a negative errno.
fn errno_or_zero(f: impl FnOnce() -> Result) -> kernel::ffi::c_int {
    match f() {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
