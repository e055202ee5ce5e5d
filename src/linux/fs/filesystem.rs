// SPDX-License-Identifier: GPL-2.0-only

//! Filesystem types (`struct file_system_type`).

use super::context::Key;
use super::slab::Cache;
use super::{Context, INodeRef, Operations, Param, Refusal, SuperBlock, SuperKind, VTable};
use crate::bindings;
use crate::linux::block::BlockDevice;
use core::marker::PhantomPinned;
use kernel::{error::to_result, new_spinlock, prelude::*, sync::SpinLock, types::Opaque};

/// A read-only filesystem.
///
/// Several threads may call a method at the same time.
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// Name of the filesystem type.
    const NAME: &'static CStr;

    /// Name of the slab for inodes.
    const INODE_CACHE: &'static CStr;

    /// `f_type` of statfs(2).
    const MAGIC: u32;

    /// Data that all superblocks of the type share.
    type Shared: Send + Sync;

    /// Mount options while they are parsed.
    type Options: Default + Send + Sync;

    /// Facts about the source of a mount, found before it has a superblock.
    type Found: Send + Sync;

    /// Private data of a superblock.
    type Super: Send + Sync;

    /// Resources of a superblock that must not be released under `s_umount`.
    type Resources: Send + Sync;

    /// Private data of an inode. It is dropped in an RCU callback, which must not sleep.
    type INode: Send + Sync;

    /// The claim of a regular file on its [mapping](crate::linux::mm::FileMapping).
    type Claim: Send + Sync;

    /// Parse one mount option.
    ///
    /// # Errors
    ///
    /// `ENOPARAM` for an unknown option, which the VFS then looks for among its own.
    fn parse_param(
        options: &mut Self::Options,
        param: &Param<'_>,
        context: &Context,
    ) -> Result<(), Refusal>;

    /// Return the kind of superblock that this mount needs, and what is known of its source.
    fn super_kind(
        options: &Self::Options,
        context: &Context,
    ) -> Result<(SuperKind, Self::Found), Refusal>;

    /// Fill the superblock with the number `device`, which is on `bdev` if it is on a block device.
    /// Resources that are put into `resources` are dropped after the private data, or after a
    /// failure, without `s_umount`.
    fn fill_super(
        device: u32,
        shared: &Self::Shared,
        bdev: Option<&BlockDevice>,
        options: &Self::Options,
        found: &Self::Found,
        resources: &mut Option<Self::Resources>,
        context: &Context,
    ) -> Result<Self::Super, Refusal>;

    /// Return the inode of the root directory.
    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>>;

    /// Return true if the memory of `sb` has gone away. A mount with its key then gets another
    /// superblock.
    fn is_gone(sb: &SuperBlock<Self>) -> bool;

    /// Check that `sb`, which exists already, may be mounted once more with `options`.
    fn reuse(
        sb: &SuperBlock<Self>,
        options: &Self::Options,
        context: &Context,
    ) -> Result<(), Refusal>;

    /// Remount `sb` with `options`.
    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &Self::Options,
        context: &Context,
    ) -> Result<(), Refusal>;
}

/// A registered filesystem type. Dropping it unregisters the type.
///
/// # Invariants
///
/// `fs_type` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Operations> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    // Dropped first, after the last inode is freed.
    pub(super) cache: Cache<T>,
    pub(super) shared: T::Shared,
    /// Superblocks, sorted by their address, and their keys: from before they can be found by them
    /// until their resources are released, or their memory is gone. The lock is taken under
    /// `sb_lock`.
    #[pin]
    pub(super) keys: SpinLock<KVec<(usize, Key)>>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `T::Shared` is `Sync`, and so is `Cache`. Nothing but `drop` uses `fs_type` through a
// reference, and the VFS serializes its own accesses.
unsafe impl<T: Operations> Sync for Registration<T> {}
// SAFETY: `T::Shared` is `Send`, and so is `Cache`. A filesystem type may be unregistered by any
// thread.
unsafe impl<T: Operations> Send for Registration<T> {}

impl<T: Operations> Registration<T> {
    /// Register `T` for `module`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a filesystem of that name exists, `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule, shared: T::Shared) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cache: Cache::new()?,
            shared,
            keys <- new_spinlock!(KVec::new()),
            fs_type <- Opaque::try_ffi_init(|place: *mut bindings::file_system_type| {
                let fs_type = bindings::file_system_type {
                    name: T::NAME.as_char_ptr(),
                    fs_flags: bindings::FS_ALLOW_IDMAP,
                    owner: module.as_ptr().cast(),
                    init_fs_context: Some(VTable::<T>::init),
                    kill_sb: Some(VTable::<T>::kill),
                    ..pin_init::zeroed()
                };
                // SAFETY: `try_ffi_init` passes a place that is valid for writing.
                unsafe { place.write(fs_type) };
                // SAFETY: `place` is initialized just above, is pinned, and `drop` unregisters it.
                to_result(unsafe { bindings::register_filesystem(place) })
            }),
            _pin: PhantomPinned,
        })
    }

    /// Return the registration that `fs_type` is part of.
    ///
    /// # Safety
    ///
    /// `fs_type` must be the field of a `Registration<T>` that stays registered for `'a`: as long
    /// as a context or a superblock of the type exists, which has a reference to the module.
    pub(super) unsafe fn from_raw<'a>(fs_type: *mut bindings::file_system_type) -> &'a Self {
        let fs_type = fs_type.cast::<Opaque<bindings::file_system_type>>();
        // SAFETY: The caller guarantees that `fs_type` is the field of a live `Self`.
        unsafe { &*kernel::container_of!(fs_type, Self, fs_type) }
    }

    /// Forget the key of a superblock, if it has one.
    pub(super) fn forget_key(&self, sb: *mut bindings::super_block) {
        self.keys.lock().retain(|entry| entry.0 != sb as usize);
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered, so this cannot fail. Mounts hold
        // references to the module, so none is left.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
    }
}
