// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists.

use super::{Errno, FileSystem, INode};
use crate::bindings;
use crate::image::layout::XattrPrefix;
use core::marker::PhantomData;
use core::{ptr, slice};
use kernel::{error::to_result, prelude::*};

/// Where getxattr(2) puts a value.
///
/// # Invariants
///
/// `buffer` is valid for writing `size` bytes, and nobody else looks at them; it may be null if `size` is 0.
pub(crate) struct ValueBuffer<'a> {
    buffer: *mut u8,
    size: usize,
    _call: PhantomData<&'a mut u8>,
}

impl ValueBuffer<'_> {
    /// Room for a value of `length` bytes; `None` when only its length is asked for.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there is less room.
    pub(crate) fn room(&mut self, length: usize) -> Result<Option<&mut [u8]>> {
        if self.size == 0 {
            return Ok(None);
        }
        if length > self.size {
            return Err(ERANGE);
        }
        // SAFETY: By the invariant that many bytes may be written; then they may be read, too.
        unsafe {
            self.buffer.write_bytes(0, length);
            Ok(Some(slice::from_raw_parts_mut(self.buffer, length)))
        }
    }
}

/// Where listxattr(2) puts names.
///
/// # Invariants
///
/// `buffer` is valid for writing `size` bytes, and nobody else looks at them; it may be null if `size` is 0.
pub(crate) struct NameList<'a> {
    buffer: *mut u8,
    size: usize,
    used: usize,
    _call: PhantomData<&'a mut u8>,
}

impl NameList<'_> {
    /// Whether the caller may see that names under `prefix` exist.
    pub(crate) fn shows(&self, prefix: XattrPrefix) -> bool {
        match prefix {
            // SAFETY: May be called by any process.
            XattrPrefix::Trusted => unsafe { bindings::daxfs_helper_capable_sys_admin() },
            XattrPrefix::AclAccess | XattrPrefix::AclDefault => {
                // Kernels can be built without them.
                bindings::DAXFS_SB_POSIXACL != 0
            }
            XattrPrefix::User | XattrPrefix::Security => true,
        }
    }

    /// Adds the name that consists of the text of `prefix` and `name`, without NUL.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there is no room for it.
    pub(crate) fn add(&mut self, prefix: XattrPrefix, name: &[u8]) -> Result {
        let start = prefix.text().as_bytes();
        let length = start.len() + name.len() + 1;
        if self.size != 0 {
            if length > self.size - self.used {
                return Err(ERANGE);
            }
            // SAFETY: By the invariant there is room for `length` bytes behind those used.
            unsafe {
                let mut to = self.buffer.add(self.used);
                for part in [start, name, b"\0"] {
                    ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
                    to = to.add(part.len());
                }
            }
        }
        self.used += length;
        Ok(())
    }
}

/// The two access control lists of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AclKind {
    /// Who may access the file.
    Access,
    /// What files made in the directory start with.
    Default,
}

/// The C operations on extended attributes.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    /// One handler for each prefix, null at the end. The kernel looks after lists of access control itself.
    pub(super) const HANDLERS: &'static [*const bindings::xattr_handler; 4] = &[
        &Self::handler(c"user.", XattrPrefix::User),
        &Self::handler(c"trusted.", XattrPrefix::Trusted),
        &Self::handler(c"security.", XattrPrefix::Security),
        ptr::null(),
    ];

    const fn handler(text: &'static CStr, prefix: XattrPrefix) -> bindings::xattr_handler {
        bindings::xattr_handler {
            // A C string starts with its first byte.
            prefix: ptr::from_ref(text).cast(),
            flags: prefix as i32,
            get: Some(Self::get),
            // SAFETY: Zero is a valid value of every member: a null pointer is an absent operation.
            ..unsafe { core::mem::zeroed() }
        }
    }

    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        buffer: *mut kernel::ffi::c_void,
        size: usize,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS calls this with one of our handlers, an inode of ours, what is left of the name behind the
        // handler's prefix, and a buffer of its own.
        let (flags, inode, name) = unsafe {
            (
                (*handler).flags,
                INode::<T>::from_raw(inode),
                CStr::from_char_ptr(name),
            )
        };
        let Some(prefix) = XattrPrefix::from_number(flags as u8) else {
            return Error::from(Errno::NotSupported).to_errno();
        };
        // INVARIANT: The buffer is this call's alone.
        let mut value = ValueBuffer {
            buffer: buffer.cast(),
            size: if buffer.is_null() { 0 } else { size },
            _call: PhantomData,
        };
        match T::xattr(inode, prefix, name.to_bytes(), &mut value) {
            // No value is longer than 64 KiB.
            Ok(length) => length as kernel::ffi::c_int,
            Err(error) => error.to_errno(),
        }
    }

    /// `listxattr` of every inode.
    pub(super) unsafe extern "C" fn list(
        dentry: *mut bindings::dentry,
        buffer: *mut kernel::ffi::c_char,
        size: usize,
    ) -> isize {
        // SAFETY: The VFS calls this on a dentry that leads to an inode of ours.
        let inode = unsafe { INode::<T>::from_raw((*dentry).d_inode) };
        // INVARIANT: The buffer is this call's alone.
        let mut list = NameList {
            buffer: buffer.cast(),
            size: if buffer.is_null() { 0 } else { size },
            used: 0,
            _call: PhantomData,
        };
        match T::list_xattrs(inode, &mut list) {
            Ok(()) => list.used as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// `get_inode_acl` of every inode that can have one; the VFS caches what it returns.
    pub(super) unsafe extern "C" fn acl(
        inode: *mut bindings::inode,
        kind: kernel::ffi::c_int,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            return ECHILD.to_ptr();
        }
        let kind = match kind {
            bindings::DAXFS_ACL_TYPE_ACCESS => AclKind::Access,
            bindings::DAXFS_ACL_TYPE_DEFAULT => AclKind::Default,
            _ => return EINVAL.to_ptr(),
        };
        // SAFETY: The VFS calls this on an inode of ours.
        let this = unsafe { INode::<T>::from_raw(inode) };
        let mut acl = ptr::null_mut();
        let result = T::acl(this, kind, |value| {
            // SAFETY: The super block is the inode's; the value is read during the call only, and the list is
            // ours to hand on.
            to_result(unsafe {
                bindings::daxfs_helper_acl(
                    (*inode).i_sb,
                    value.as_ptr().cast(),
                    value.len(),
                    &mut acl,
                )
            })
        });
        match result {
            Ok(()) => acl,
            Err(error) => error.to_ptr(),
        }
    }
}
