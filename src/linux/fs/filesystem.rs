// SPDX-License-Identifier: GPL-2.0-only

//! Filesystem types (`struct file_system_type`).

use super::*;
use crate::linux::{
    block::BlockDevice,
    fatal_signal_pending, //
};
use kernel::{
    new_condvar,
    sync::CondVar, //
};

/// Interval for checking a key while a signal is pending.
const INTERVAL: Delta = Delta::from_millis(10);

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
    type Options: Send + Sync;

    /// Facts about the source of a mount.
    type Found;

    /// Private data of a superblock. They are dropped without `s_umount`.
    type Super: Send + Sync;

    /// Private data of an inode. It is dropped in an RCU callback, which must not sleep.
    type INode: Send + Sync;

    /// The claim of a regular file on its [mapping](crate::linux::mm::FileMapping).
    type Claim: Send + Sync;

    /// Returns the options of a new mount by `user`, or by root.
    fn new_options(user: Option<User>) -> Self::Options;

    /// Parses one mount option. A remount is one of the superblock `sb`, whose lock is not held.
    ///
    /// Errors: `ENOPARAM` for an unknown option, which the VFS then looks for among its own.
    fn parse_param(
        options: &mut Self::Options,
        param: &Param<'_>,
        sb: Option<&SuperBlock<Self>>,
    ) -> Result<(), Refusal>;

    /// Returns the kind of superblock that this mount requires, and facts about its source.
    fn super_kind(
        options: &Self::Options,
        context: &Context,
    ) -> Result<(SuperKind, Self::Found), Refusal>;

    /// Opens the source, and returns the data for a new superblock. This can take a long time: the
    /// superblock does not exist yet, so the VFS holds only the context's lock.
    fn open(
        shared: &Self::Shared,
        options: &Self::Options,
        found: Self::Found,
        context: &Context,
    ) -> Result<Self::Super, Refusal>;

    /// Returns the block device that holds the filesystem, if there is one.
    fn block_device(data: &Self::Super) -> Option<&BlockDevice>;

    /// Shows the superblock with these data, which has the number `device` now, to users.
    fn publish(data: &mut Self::Super, shared: &Self::Shared, device: u32) -> Result;

    /// Returns the inode of the root directory.
    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>>;

    /// Returns true if the memory of `sb` has gone away. A mount with its key then gets another
    /// superblock.
    fn is_gone(sb: &SuperBlock<Self>) -> bool;

    /// Checks that `sb`, which exists already, may be mounted once more with `options`. Like
    /// [`Self::open`], this can take a long time.
    fn reuse(
        sb: &SuperBlock<Self>,
        options: &Self::Options,
        context: &Context,
    ) -> Result<(), Refusal>;

    /// Remounts `sb` with `options`. Called under `s_umount`, for which sync(2) waits.
    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &Self::Options,
        context: &Context,
    ) -> Result<(), Refusal>;

    /// Returns the size in pages and the number of inodes, for statfs(2).
    fn statfs(sb: &SuperBlock<Self>) -> (u64, u64);

    /// Shows the mount options that differ from the default, each after a comma.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile);

    /// Releases what only one superblock with this device number can own. Called under `s_umount`
    /// before the number is freed for another superblock, even if mounting failed. Inodes may be in
    /// use.
    fn retire(sb: &SuperBlock<Self>);

    /// Returns the label, without a NUL. Bytes after the first `FSLABEL_MAX` are not shown.
    fn label(sb: &SuperBlock<Self>) -> &[u8];

    /// Returns the UUID. Also called while the superblock is filled, when only its data are set.
    fn uuid(sb: &SuperBlock<Self>) -> &[u8; 16];
}

/// A registered filesystem type. Drop it to unregister the type.
///
/// # Invariants
///
/// `fs_type` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Operations> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    // Dropped first, after the last inode is freed.
    pub(super) cache: Cache,
    pub(crate) shared: T::Shared,
    /// The keys in use: from before their superblocks are made until the data of these are dropped,
    /// or their memory is gone. Each has the address of its superblock, or 0 before and after it.
    #[pin]
    keys: Mutex<KVec<(Key, usize)>>,
    /// Wakes those who wait for a change of `keys`.
    #[pin]
    changed: CondVar,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `T::Shared` is `Sync`, and so is `Cache`. `fs_type` is used by its address only, and
// the VFS serializes its accesses.
unsafe impl<T: Operations> Sync for Registration<T> {}
// SAFETY: `T::Shared` is `Send`, and so is `Cache`. A filesystem type may be unregistered by any
// thread.
unsafe impl<T: Operations> Send for Registration<T> {}

impl<T: Operations> Registration<T> {
    /// Registers `T` for `module`.
    ///
    /// Errors: `EBUSY` if a filesystem of that name exists, `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule, shared: T::Shared) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cache: VTable::<T>::new_cache()?,
            shared,
            keys <- new_mutex!(KVec::new()),
            changed <- new_condvar!(),
            fs_type <- Opaque::try_ffi_init(|place: *mut bindings::file_system_type| {
                let fs_type = bindings::file_system_type {
                    name: T::NAME.as_char_ptr(),
                    fs_flags: bindings::FS_ALLOW_IDMAP | bindings::FS_USERNS_MOUNT,
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

    /// Returns the registration that `fs_type` is part of.
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

    /// Returns the address of the superblock with `key`. If there is none, reserves the key and
    /// returns 0. Waits while the key is reserved. Without a key, every mount has its superblock.
    ///
    /// Errors: `EINTR` if a signal kills the process first, `ENOMEM`.
    pub(super) fn find_or_reserve(
        &self,
        key: Option<Key>,
    ) -> Result<(usize, Option<Reserved<'_, T>>)> {
        let Some(key) = key else {
            return Ok((0, None));
        };
        let mut keys = self.keys.lock();
        loop {
            match keys.iter().find(|entry| entry.0 == key) {
                None => break,
                Some((_, 0)) => {}
                Some((_, sb)) => return Ok((*sb, None)),
            }
            if self.changed.wait_interruptible(&mut keys) {
                if fatal_signal_pending() {
                    return Err(EINTR);
                }
                // Other signals, such as the freezer's, do not interrupt mount(2).
                drop(keys);
                fsleep(INTERVAL);
                keys = self.keys.lock();
            }
        }
        keys.push((key, 0), GFP_KERNEL)?;
        Ok((0, Some(Reserved(self, key))))
    }

    /// Returns true if the superblock at this address has the key.
    pub(super) fn has_key(&self, sb: usize, key: Option<Key>) -> bool {
        key.is_some_and(|key| self.keys.lock().contains(&(key, sb)))
    }

    /// Removes the key from the superblock at this address, if any. The key stays reserved until
    /// the result is dropped.
    pub(super) fn take_key(&self, sb: usize) -> Option<Reserved<'_, T>> {
        let mut keys = self.keys.lock();
        let entry = keys.iter_mut().find(|entry| entry.1 == sb)?;
        entry.1 = 0;
        Some(Reserved(self, entry.0))
    }
}

/// A reserved key without a superblock. No other mount can create a superblock with it.
pub(super) struct Reserved<'a, T: Operations>(&'a Registration<T>, Key);

impl<T: Operations> Reserved<'_, T> {
    /// Assigns the key to the superblock at this address.
    pub(super) fn give_to(self, sb: usize) {
        for entry in self.0.keys.lock().iter_mut() {
            if entry.0 == self.1 {
                entry.1 = sb;
            }
        }
    }
}

impl<T: Operations> Drop for Reserved<'_, T> {
    fn drop(&mut self) {
        // Once assigned, the key stays with the superblock.
        self.0.keys.lock().retain(|entry| *entry != (self.1, 0));
        self.0.changed.notify_all();
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered, so this cannot fail. Mounts hold
        // references to the module, so none is left. Their inodes are freed after a grace period,
        // for which a thread that removes the module can wait.
        unsafe {
            bindings::unregister_filesystem(self.fs_type.get());
            bindings::rcu_barrier();
        }
    }
}
