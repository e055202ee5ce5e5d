// SPDX-License-Identifier: GPL-2.0-only

//! Directories.

use super::{
    inode,
    ioctl,
    FileSystem,
    INode,
    INodeRef,
    Operations,
    VTable, //
};
use crate::bindings;
use crate::linux::Errno;
use core::{
    ptr,
    slice, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Operations on a directory.
pub(crate) trait DirOperations: FileSystem {
    /// Returns the inode that `name` (1 to 255 bytes) refers to in `dir`, or `None`.
    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<INodeRef<Self>>>;

    /// Emits the entries of `dir`, starting at the position of `emitter`.
    ///
    /// # Errors
    ///
    /// getdents(2) returns the error unless entries were emitted before.
    fn iterate(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result;
}

/// The destination of a listing (`struct dir_context`).
pub(crate) struct Emitter<'a>(&'a mut bindings::dir_context);

impl Emitter<'_> {
    /// Returns the position to start at: where the last call stopped, or where lseek(2) set it.
    pub(crate) fn position(&self) -> u64 {
        // The VFS does not allow negative positions.
        self.0.pos as u64
    }

    /// Emits an entry with the current position and the type `d_type`, and advances the position by
    /// 1. Returns false if the entry does not fit.
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, d_type: u8) -> bool {
        let (start, length) = (name.as_ptr().cast(), name.len() as i32);
        // SAFETY: The context is borrowed exclusively, and dir_emit() only reads the name.
        let emitted = unsafe { bindings::dir_emit(self.0, start, length, ino, d_type.into()) };
        if emitted {
            // A listing ends long before this overflows.
            self.0.pos = self.0.pos.wrapping_add(1);
        }
        emitted
    }
}

impl<T: Operations> VTable<T> {
    /// Operations on directories, and on open ones.
    pub(super) const DIRECTORY: (
        &'static bindings::inode_operations,
        &'static bindings::file_operations,
    ) = (
        &bindings::inode_operations {
            lookup: Some(Self::lookup),
            ..Self::INODE
        },
        &bindings::file_operations {
            llseek: Some(bindings::generic_file_llseek),
            read: Some(bindings::generic_read_dir),
            iterate_shared: Some(Self::iterate_shared),
            setlease: Some(bindings::generic_setlease),
            unlocked_ioctl: Some(ioctl::ioctl::<T>),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: Some(bindings::compat_ptr_ioctl),
            ..pin_init::zeroed()
        },
    );

    /// # Safety
    ///
    /// `dir` must be a directory of type `T`, and `dentry` a new dentry in it.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: kernel::ffi::c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: The VFS passes a directory that has been set up, and holds its lock, so the
        // name does not change. Both members of its union have the length in the same place.
        let (dir, name) = unsafe {
            let name = &(*dentry).__bindgen_anon_1.d_name;
            let length = name.__bindgen_anon_1.__bindgen_anon_1.len as usize;
            let name = slice::from_raw_parts(name.name, length);
            (INode::<T>::from_raw(dir), name)
        };
        if name.len() > bindings::NAME_MAX {
            return Error::from(Errno::NameTooLong).to_ptr();
        }
        let found = T::lookup(dir, name).transpose();
        let inode = found.map_or(ptr::null_mut(), inode::into_raw);
        // SAFETY: The dentry is new and unhashed. d_splice_alias() takes over the reference, and
        // passes errors through.
        unsafe { bindings::d_splice_alias(inode, dentry) }
    }

    /// # Safety
    ///
    /// `file` must be an open directory of type `T`, and nothing else may use `context`.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> kernel::ffi::c_int {
        // SAFETY: The directory is open. The VFS passes a context that belongs to this call.
        let (dir, context) = unsafe { (INode::<T>::of_file(file), &mut *context) };
        from_result(|| T::iterate(dir, &mut Emitter(context)).map(|()| 0))
    }
}
