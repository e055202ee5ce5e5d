// SPDX-License-Identifier: GPL-2.0

//! Look-up and listing of directories.

use super::{xattr, Errno, FileSystem, INode};
use crate::bindings;
use crate::image::FileType;
use core::marker::PhantomData;
use core::{ptr, slice};
use kernel::prelude::*;

/// Longest name of a directory entry in bytes.
const NAME_MAX: usize = 255;

/// Where a listing puts the entries (`struct dir_context`).
///
/// # Invariants
///
/// Holds a context that this call of `iterate_shared` alone uses.
pub(crate) struct Emitter<'a>(&'a mut bindings::dir_context);

impl Emitter<'_> {
    /// The position from which to go on, as the last call left it or lseek(2) set it; never negative.
    pub(crate) fn position(&self) -> u64 {
        self.0.pos as u64
    }

    /// Emits the entry at the present position and steps to the next. `false` when there is no room for it.
    #[inline]
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, file_type: FileType) -> bool {
        // SAFETY: The context is valid, and the name is read during the call only.
        let taken = unsafe {
            bindings::daxfs_helper_dir_emit(
                self.0,
                name.as_ptr().cast(),
                name.len() as i32,
                ino,
                file_type as u32,
            )
        };
        if taken {
            self.0.pos += 1;
        }
        taken
    }
}

/// The C operations on directories.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(Self::lookup),
        listxattr: Some(xattr::Operations::<T>::list),
        get_inode_acl: Some(xattr::Operations::<T>::acl),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    pub(super) const FILE: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate),
        setlease: Some(bindings::generic_setlease),
        unlocked_ioctl: Some(super::ioctl::Operations::<T>::ioctl),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: Some(bindings::compat_ptr_ioctl),
        // SAFETY: As above.
        ..unsafe { core::mem::zeroed() }
    };

    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: kernel::ffi::c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: The VFS calls this on a directory of ours, with a new dentry whose name stays as it is
        // while the directory is locked.
        let (dir, name) = unsafe {
            let name = &(*dentry).__bindgen_anon_1.d_name;
            let length = name.__bindgen_anon_1.__bindgen_anon_1.len as usize;
            (
                INode::<T>::from_raw(dir),
                slice::from_raw_parts(name.name, length),
            )
        };
        if name.len() > NAME_MAX {
            return Error::from(Errno::NameTooLong).to_ptr();
        }
        let inode = match T::lookup(dir, name) {
            Ok(Some(inode)) => inode.into_raw(),
            Ok(None) => ptr::null_mut(),
            Err(error) => return error.to_ptr(),
        };
        // SAFETY: The dentry is new and unhashed; the reference to the inode passes over.
        unsafe { bindings::d_splice_alias(inode, dentry) }
    }

    unsafe extern "C" fn iterate(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS calls this on an open directory of ours, with a context of this call alone.
        let (dir, context) = unsafe { (INode::<T>::from_raw((*file).f_inode), &mut *context) };
        super::errno_or_zero(|| T::iterate(dir, &mut Emitter(context)))
    }
}
