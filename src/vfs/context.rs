// SPDX-License-Identifier: GPL-2.0

//! Mount options and the mount log (`struct fs_context`).

use super::{FileSystem, SuperBlock};
use crate::bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    fmt,
    prelude::*,
    types::Opaque,
};

/// A mount that is being set up.
///
/// # Invariants
///
/// Transparent over a valid `struct fs_context`, which the caller of the C operation holds.
#[repr(transparent)]
pub(crate) struct Context(Opaque<bindings::fs_context>);

impl Context {
    /// # Safety
    ///
    /// `fc` must be valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(fc: *mut bindings::fs_context) -> &'a Self {
        // SAFETY: The type is transparent over the C one, which the caller keeps valid.
        unsafe { &*fc.cast() }
    }

    /// Tells why the mount fails: to the log of the mount context, which mount(8) prints, and to the
    /// kernel's log.
    pub(crate) fn error(&self, message: fmt::Arguments<'_>) {
        pr_err!("{}\n", message);
        // SAFETY: The context is valid, and its log, if it has one, lives as long.
        let log = unsafe { (*self.0.get()).log.log };
        if !log.is_null() {
            // SAFETY: `%pA` takes a pointer to `fmt::Arguments`, which lives until logfc() has formatted it.
            unsafe {
                bindings::logfc(
                    log,
                    Self::NAME.as_char_ptr(),
                    b'e' as kernel::ffi::c_char,
                    c"%pA".as_char_ptr(),
                    ptr::from_ref(&message).cast::<kernel::ffi::c_void>(),
                )
            };
        }
    }

    const NAME: &'static CStr = c"daxfs";

    /// Whether the mount is there already and only its options are to change.
    pub(crate) fn is_remount(&self) -> bool {
        // SAFETY: The context is valid.
        let purpose = unsafe { (*self.0.get()).purpose() };
        purpose == bindings::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE
    }

    /// What kind of file the source names.
    ///
    /// # Errors
    ///
    /// As stat(2) on it; `EACCES` for a device on a filesystem mounted with `nodev`; `EINVAL` when there is none.
    pub(crate) fn source_kind(&self) -> Result<SourceKind> {
        // SAFETY: The context is valid.
        if unsafe { (*self.0.get()).source }.is_null() {
            return Err(EINVAL);
        }
        let (mut mode, mut number) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let name = self.source().as_char_ptr();
        // SAFETY: The name is a string; the other two are filled in on success.
        unsafe {
            to_result(bindings::daxfs_helper_lookup_device(
                name,
                mode.as_mut_ptr(),
                number.as_mut_ptr(),
            ))?;
            Ok(match mode.assume_init() & bindings::DAXFS_S_IFMT {
                bindings::DAXFS_S_IFBLK => SourceKind::BlockDevice,
                bindings::DAXFS_S_IFCHR => SourceKind::CharDevice(number.assume_init()),
                _ => SourceKind::Other,
            })
        }
    }

    /// Opens what the source names, for reading.
    ///
    /// # Errors
    ///
    /// As open(2); `ENXIO` for the node of a device that does not exist.
    pub(crate) fn open_source(&self) -> Result<FileRef> {
        let name = self.source().as_char_ptr();
        // SAFETY: The name is a string.
        let file = from_err_ptr(unsafe { bindings::daxfs_helper_open(name) })?;
        // INVARIANT: The reference was got just now.
        NonNull::new(file).map(FileRef).ok_or(ENXIO)
    }

    /// What is to be mounted, as the caller named it.
    pub(crate) fn source(&self) -> &CStr {
        // SAFETY: The context is valid, and its source, if there is one, is a string that stays.
        unsafe {
            match (*self.0.get()).source {
                source if source.is_null() => c"none",
                source => CStr::from_char_ptr(source),
            }
        }
    }
}

/// What kind of super block a mount takes.
pub(crate) enum Backing {
    /// One for the block device that the source names.
    BlockDevice,
    /// One of its own, for memory that no block device stands for.
    Memory,
}

/// What kind of file a mount's source names.
pub(crate) enum SourceKind {
    /// A block device.
    BlockDevice,
    /// A character device, with its number.
    CharDevice(bindings::dev_t),
    /// Another file.
    Other,
}

/// The value of a mount option.
pub(crate) enum Value<'a> {
    /// The option stands alone.
    Flag,
    /// `option=text`.
    Text(&'a CStr),
    /// A file descriptor (`FSCONFIG_SET_FD`).
    Descriptor(Descriptor<'a>),
    /// Another thing, which no option takes.
    Other,
}

/// A file descriptor given as the value of a mount option.
pub(crate) struct Descriptor<'a> {
    /// Its number in the calling process.
    pub(crate) number: i32,
    file: &'a FileRef,
}

impl Descriptor<'_> {
    /// The file behind it, which may be any.
    pub(crate) fn file(&self) -> FileRef {
        self.file.clone()
    }
}

/// A counted reference to an open file.
///
/// # Invariants
///
/// Owns one reference. Transparent over the pointer.
#[repr(transparent)]
pub(crate) struct FileRef(NonNull<bindings::file>);

// SAFETY: Files are counted by reference and may be used by any thread.
unsafe impl Send for FileRef {}
// SAFETY: As above.
unsafe impl Sync for FileRef {}

impl FileRef {
    /// The C object.
    pub(crate) fn as_raw(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }
}

impl Clone for FileRef {
    fn clone(&self) -> Self {
        // SAFETY: We hold a reference.
        unsafe { bindings::daxfs_helper_get_file(self.as_raw()) };
        // INVARIANT: Got just now.
        FileRef(self.0)
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours to give back.
        unsafe { bindings::fput(self.as_raw()) };
    }
}

/// One mount option.
pub(crate) struct Param<'a> {
    /// Its name.
    pub(crate) key: &'a CStr,
    /// Its value.
    pub(crate) value: Value<'a>,
}

impl<'a> Param<'a> {
    /// # Safety
    ///
    /// `param` must be valid for `'a`.
    unsafe fn from_raw(param: *const bindings::fs_parameter) -> Self {
        // SAFETY: The caller keeps it valid.
        let raw = unsafe { &*param };
        let value = match raw.type_() {
            bindings::fs_value_type_fs_value_is_flag => Value::Flag,
            bindings::fs_value_type_fs_value_is_string => {
                // SAFETY: The type says that `string` is the union's live member.
                let string = unsafe { raw.__bindgen_anon_1.string };
                if string.is_null() {
                    // An option given with an empty value.
                    Value::Flag
                } else {
                    // SAFETY: It is a NUL-terminated string that lives as long as the parameter.
                    Value::Text(unsafe { CStr::from_char_ptr(string) })
                }
            }
            bindings::fs_value_type_fs_value_is_file => {
                // SAFETY: The type says that `file` is the live member: a file that the parameter holds a
                // reference to as long as it lives, and so not null. `FileRef` is transparent.
                let file = unsafe { &*(&raw const raw.__bindgen_anon_1.file).cast::<FileRef>() };
                Value::Descriptor(Descriptor {
                    number: raw.dirfd,
                    file,
                })
            }
            _ => Value::Other,
        };
        Param {
            // SAFETY: Every parameter has a name, a NUL-terminated string that lives as long.
            key: unsafe { CStr::from_char_ptr(raw.key) },
            value,
        }
    }
}

/// `struct fs_context_operations` of a filesystem.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    pub(super) const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        dup: None,
        parse_monolithic: None,
    };

    /// `init_fs_context` of the filesystem type: hangs fresh options on the context.
    pub(super) unsafe extern "C" fn init(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            let options = KBox::new(T::Options::default(), GFP_KERNEL)?;
            // SAFETY: The VFS hands in a valid context of ours alone. Its `fs_private` is ours to use.
            unsafe {
                (*fc).fs_private = KBox::into_raw(options).cast();
                (*fc).ops = &Self::TABLE;
            }
            Ok(())
        })
    }

    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: `fs_private` is null or what `init` made; the VFS calls this once, last.
        unsafe {
            let options = (*fc).fs_private.cast::<T::Options>();
            if !options.is_null() {
                drop(KBox::from_raw(options));
            }
        }
    }

    /// # Safety
    ///
    /// `fc` must be a context that `init` succeeded on, and not be in use elsewhere.
    pub(super) unsafe fn options<'a>(fc: *mut bindings::fs_context) -> &'a mut T::Options {
        // SAFETY: By the contract `fs_private` is the box that `init` made, and nobody else looks at it.
        unsafe { &mut *(*fc).fs_private.cast::<T::Options>() }
    }

    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            // SAFETY: The VFS calls this on an initialised context, under its mutex, with a valid parameter.
            let (options, param, context) = unsafe {
                (
                    Self::options(fc),
                    Param::from_raw(param),
                    Context::from_raw(fc),
                )
            };
            T::parse_param(options, &param, context)
        })
    }

    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            // SAFETY: The VFS calls this once on an initialised context.
            let (options, context) = unsafe { (Self::options(fc), Context::from_raw(fc)) };
            let backing = T::backing(options, context)?;
            let fill = Some(
                super::super_block::Operations::<T>::fill
                    as unsafe extern "C" fn(*mut _, *mut _) -> kernel::ffi::c_int,
            );
            // Read-only whatever was asked for, also when a device is opened: a write-protected one will do.
            // SAFETY: `fc` is valid, and `fill` is a fill_super function for it.
            to_result(unsafe {
                (*fc).sb_flags |= bindings::DAXFS_SB_RDONLY as u32;
                match backing {
                    Backing::BlockDevice => bindings::get_tree_bdev(fc, fill),
                    Backing::Memory => bindings::get_tree_nodev(fc, fill),
                }
            })?;
            // A device that is mounted already keeps its super block, which was not filled for these options.
            // SAFETY: `root` is a dentry of a super block that `fill` has filled and that is locked for us.
            let sb = unsafe { SuperBlock::<T>::from_raw((*(*fc).root).d_sb) };
            if !T::filled(options) {
                T::revalidate(sb, options, context).inspect_err(|_| {
                    // SAFETY: These are the references, and the lock, that get_tree_bdev() has left us with.
                    unsafe {
                        bindings::dput((*fc).root);
                        (*fc).root = ptr::null_mut();
                        bindings::deactivate_locked_super(sb.as_raw());
                    }
                })?;
            }
            Ok(())
        })
    }

    /// Remounting may change what the VFS keeps by itself, but never to read-write.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            // SAFETY: The VFS hands in a valid context, with the root of a super block of ours.
            let (cleared, options, sb, context) = unsafe {
                (
                    (*fc).sb_flags_mask & !(*fc).sb_flags,
                    Self::options(fc),
                    SuperBlock::<T>::from_raw((*(*fc).root).d_sb),
                    Context::from_raw(fc),
                )
            };
            if cleared & bindings::DAXFS_SB_RDONLY as u32 != 0 {
                context.error(fmt!("cannot remount read-write: images are read-only"));
                return Err(EROFS);
            }
            T::reconfigure(sb, options, context)
        })
    }
}
