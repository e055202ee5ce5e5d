// SPDX-License-Identifier: GPL-2.0-only

//! References to superblocks, and finding mounted ones.

use super::{
    FileSystem,
    Operations,
    Registration,
    SuperBlock,
    VTable, //
};
use crate::bindings;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

/// A reference to a superblock, which stays as if it were mounted.
///
/// # Invariants
///
/// [`VTable::fill`] has filled the superblock, for type `T`, and this has one of its active
/// references (`s_active`).
pub(crate) struct SuperRef<T: FileSystem>(NonNull<bindings::super_block>, PhantomData<T>);

// SAFETY: `T::Super` is `Send` and `Sync`, and a reference may be given up by any thread.
unsafe impl<T: FileSystem> Send for SuperRef<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for SuperRef<T> {}

impl<T: FileSystem> Deref for SuperRef<T> {
    type Target = SuperBlock<T>;

    fn deref(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariant it was filled, and the reference keeps it.
        unsafe { SuperBlock::from_raw(self.0.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for SuperRef<T> {
    fn drop(&mut self) {
        // Without other users, this unmounts the superblock, under its `s_umount`.
        // SAFETY: By the type invariant this gives up an active reference.
        unsafe { bindings::deactivate_super(self.0.as_ptr()) };
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Returns a reference to a mounted superblock, unless the last one was given up.
    pub(crate) fn get(&self) -> Option<SuperRef<T>> {
        let sb = NonNull::new(self.as_raw())?;
        // SAFETY: The superblock is valid, and gets no reference after its last one was given up.
        let taken = unsafe { bindings::atomic_inc_not_zero(&raw mut (*sb.as_ptr()).s_active) };
        // INVARIANT: `from_raw` guarantees that it was filled. The reference was taken above.
        taken.then_some(SuperRef(sb, PhantomData))
    }
}

impl<T: Operations> Registration<T> {
    /// Calls `visit` with each mounted superblock, under its `s_umount`. So this waits for each
    /// that is being mounted, unmounted or remounted, whatever signal there is. The caller must not
    /// hold such a lock.
    pub(crate) fn each_super_block(&self, mut visit: impl FnMut(&SuperBlock<T>)) {
        let mut visit: &mut dyn FnMut(&SuperBlock<T>) = &mut visit;
        let arg = (&raw mut visit).cast();
        // SAFETY: By the type invariant the type is registered. `visit` lives during this call.
        // The function gets superblocks of the type with SB_BORN and without SB_DYING, under their
        // lock: `get_tree` has filled them, and `kill` drops their data later.
        unsafe { bindings::iterate_supers_type(self.as_raw(), Some(VTable::<T>::visit), arg) };
    }
}

impl<T: Operations> VTable<T> {
    /// Calls the function in `arg`.
    ///
    /// # Safety
    ///
    /// `sb` must be a mounted superblock of type `T`, and `arg` the address of a reference to a
    /// function that nothing else uses.
    unsafe extern "C" fn visit(sb: *mut bindings::super_block, arg: *mut kernel::ffi::c_void) {
        // SAFETY: The caller guarantees both. A mounted superblock has been filled.
        unsafe {
            let visit = &mut *arg.cast::<&mut dyn FnMut(&SuperBlock<T>)>();
            visit(SuperBlock::from_raw(sb));
        }
    }
}
