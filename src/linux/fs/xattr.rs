// SPDX-License-Identifier: GPL-2.0-only

//! Extended attributes and access control lists.

use super::*;
use crate::linux::security;

/// Operations on the extended attributes of an inode.
pub(crate) trait XattrOperations: FileSystem {
    /// The prefixes of extended attributes, each with a number. The VFS handles access control
    /// lists itself.
    const XATTR_PREFIXES: [(&'static CStr, u8); 3];

    /// Writes the value of the extended attribute `name`, after the prefix with this number, to
    /// `value`. It has at most 64 KiB.
    ///
    /// Errors: `ENODATA` if the attribute does not exist; the errors of [`XattrBuffer::reserve`].
    fn get_xattr(
        inode: &INode<Self>,
        prefix: u8,
        name: &[u8],
        value: &mut XattrBuffer<'_>,
    ) -> Result;

    /// Adds the names of all extended attributes to `list`, except those with a prefix that it
    /// [does not show](XattrBuffer::shows).
    fn list_xattrs(inode: &INode<Self>, list: &mut XattrBuffer<'_>) -> Result;

    /// Returns the access control list of `inode`, or that for new files in it if `is_default`, if
    /// it has one.
    fn get_acl(inode: &INode<Self>, is_default: bool) -> Result<Option<PosixAcl>>;
}

/// The buffer of getxattr(2) or listxattr(2).
///
/// # Invariants
///
/// `buffer` is valid for writing `size` bytes, and nothing else accesses them. It may be null if
/// `size` is 0. If `size` is not 0, `used` is not greater.
pub(crate) struct XattrBuffer<'a> {
    buffer: *mut u8,
    size: usize,
    used: usize,
    _buffer: PhantomData<&'a mut u8>,
}

impl XattrBuffer<'_> {
    /// # Safety
    ///
    /// `buffer` must be null, or valid for writing `size` bytes, which nothing else accesses.
    unsafe fn new(buffer: *mut u8, size: usize) -> Self {
        // INVARIANT: The caller guarantees them.
        XattrBuffer {
            buffer,
            size: if buffer.is_null() { 0 } else { size },
            used: 0,
            _buffer: PhantomData,
        }
    }

    /// Returns space for `length` more bytes, or `None` if the caller only requests the length.
    ///
    /// Errors: `ERANGE` if there is less space.
    pub(crate) fn reserve(&mut self, length: usize) -> Result<Option<&mut [u8]>> {
        let start = self.used;
        if self.size != 0 && length > self.size - start {
            return Err(ERANGE);
        }
        self.used += length;
        if self.size == 0 {
            return Ok(None);
        }
        let room = self.buffer.wrapping_add(start);
        // SAFETY: By the type invariant these bytes can be written, and nothing accesses them.
        Ok(Some(unsafe {
            room.write_bytes(0, length);
            slice::from_raw_parts_mut(room, length)
        }))
    }

    /// Returns true if the calling process may see names with `prefix`, such as `user.`.
    pub(crate) fn shows(&self, prefix: &str) -> bool {
        match prefix {
            "user." | "security." => true,
            "trusted." => security::is_admin(),
            "system.posix_acl_access" | "system.posix_acl_default" => bindings::SB_POSIXACL != 0,
            _ => false,
        }
    }

    /// Adds the name of the attribute `prefix` and `name` to a list.
    ///
    /// Errors: `ERANGE` if it does not fit.
    pub(crate) fn add(&mut self, prefix: &str, name: &[u8]) -> Result {
        for part in [prefix.as_bytes(), name, b"\0"] {
            if let Some(room) = self.reserve(part.len())? {
                room.copy_from_slice(part);
            }
        }
        Ok(())
    }
}

owned! {
    /// An access control list.
    pub(crate) struct PosixAcl(posix_acl, posix_acl_release);
}

impl PosixAcl {
    /// Parses an extended attribute's value as a list. Returns `None` if the list is empty.
    ///
    /// Errors: `ENOMEM`; `EACCES` if it names owners that the superblock's user namespace does not
    /// have; another error if the value is not a valid list.
    pub(crate) fn from_xattr<T: Operations>(
        sb: &SuperBlock<T>,
        value: &[u8],
    ) -> Result<Option<Self>> {
        let (start, length) = (value.as_ptr().cast(), value.len());
        // SAFETY: The superblock keeps its user namespace, and the value is only read.
        let acl = unsafe { bindings::valid_posix_acl((*sb.as_raw()).s_user_ns, start, length) };
        Ok(NonNull::new(from_err_ptr(acl)?).map(PosixAcl))
    }

    /// Returns the C object, with the reference.
    fn into_raw(self) -> *mut bindings::posix_acl {
        mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    /// The operations on an inode that are about its attributes.
    pub(super) const XATTR_OPERATIONS: bindings::inode_operations = bindings::inode_operations {
        listxattr: Some(Self::list_xattrs),
        get_inode_acl: Some(Self::get_acl),
        ..pin_init::zeroed()
    };

    /// The handlers, then null.
    pub(super) const XATTR_HANDLERS: *const *const bindings::xattr_handler =
        Self::HANDLERS.as_ptr();
    const HANDLERS: &'static [*const bindings::xattr_handler] =
        &[Self::FIRST, Self::SECOND, Self::THIRD, ptr::null()];
    const FIRST: &'static bindings::xattr_handler = &Self::xattr_handler(0);
    const SECOND: &'static bindings::xattr_handler = &Self::xattr_handler(1);
    const THIRD: &'static bindings::xattr_handler = &Self::xattr_handler(2);

    /// Returns the handler of a prefix.
    const fn xattr_handler(index: usize) -> bindings::xattr_handler {
        let (prefix, number) = T::XATTR_PREFIXES[index];
        bindings::xattr_handler {
            // A pointer to a C string is one to its first byte.
            prefix: ptr::from_ref(prefix).cast(),
            flags: number as ffi::c_int,
            get: Some(Self::get_xattr),
            ..pin_init::zeroed()
        }
    }

    unsafe extern "C" fn get_xattr(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const ffi::c_char,
        buffer: *mut ffi::c_void,
        size: usize,
    ) -> ffi::c_int {
        // SAFETY: The handlers are static. The VFS passes an inode that has been set up, a
        // NUL-terminated string, and a buffer, which live and belong to us during this call.
        let (inode, number, name, mut value) = unsafe {
            let (inode, name) = (INode::<T>::from_raw(inode), CStr::from_char_ptr(name));
            let value = XattrBuffer::new(buffer.cast(), size);
            (inode, (*handler).flags as u8, name, value)
        };
        match T::get_xattr(inode, number, name.to_bytes(), &mut value) {
            // A value has at most 64 KiB.
            Ok(()) => value.used as ffi::c_int,
            Err(error) => error.to_errno(),
        }
    }

    /// `listxattr` of all inodes.
    unsafe extern "C" fn list_xattrs(
        dentry: *mut bindings::dentry,
        buffer: *mut ffi::c_char,
        size: usize,
    ) -> isize {
        // SAFETY: The VFS passes a positive dentry, and a buffer that belongs to this call.
        let (inode, mut list) = unsafe {
            let list = XattrBuffer::new(buffer.cast(), size);
            (INode::<T>::of_dentry(dentry), list)
        };
        match T::list_xattrs(inode, &mut list) {
            Ok(()) => list.used as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// `get_inode_acl` of all inodes but symlinks. The VFS caches the list.
    unsafe extern "C" fn get_acl(
        inode: *mut bindings::inode,
        kind: ffi::c_int,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            return ECHILD.to_ptr();
        }
        let is_default = match kind {
            bindings::ACL_TYPE_ACCESS => false,
            bindings::ACL_TYPE_DEFAULT => true,
            _ => return EINVAL.to_ptr(),
        };
        // SAFETY: The VFS passes an inode that has been set up, and keeps it.
        let inode = unsafe { INode::<T>::from_raw(inode) };
        match T::get_acl(inode, is_default) {
            Ok(acl) => acl.map_or(ptr::null_mut(), PosixAcl::into_raw),
            Err(error) => error.to_ptr(),
        }
    }
}
