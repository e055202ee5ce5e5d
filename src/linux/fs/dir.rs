// SPDX-License-Identifier: GPL-2.0-only

//! Directories and file handles (`struct export_operations`).

use super::*;

/// Operations on a directory, and for file handles.
pub(crate) trait DirOperations: FileSystem {
    /// Returns the inode that `name` (1 to 255 bytes) refers to in `dir`, or `None`.
    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<INodeRef<Self>>>;

    /// Emits the entries of `dir`, starting at the position of `emitter`.
    ///
    /// Errors: getdents(2) returns the error unless entries were emitted before.
    fn iterate(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result;

    /// Returns the inode `ino` if it has this generation.
    ///
    /// Errors: `ESTALE` if the inode does not exist.
    fn get_inode(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<INodeRef<Self>>;

    /// Returns the parent of the directory `dir`.
    ///
    /// Errors: `ENOTDIR` if `dir` is not a directory.
    fn get_parent(dir: &INode<Self>) -> Result<INodeRef<Self>>;
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

#[allow(clippy::missing_safety_doc)] // See `VTable`.
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
            unlocked_ioctl: Some(file::ioctl::<T>),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: Some(bindings::compat_ptr_ioctl),
            ..pin_init::zeroed()
        },
    );

    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: ffi::c_uint,
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
            return ENAMETOOLONG.to_ptr();
        }
        let found = T::lookup(dir, name).transpose();
        let inode = found.map_or(ptr::null_mut(), inode::into_raw);
        // SAFETY: The dentry is new and unhashed. d_splice_alias() takes over the reference, and
        // passes errors through.
        unsafe { bindings::d_splice_alias(inode, dentry) }
    }

    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> ffi::c_int {
        // SAFETY: The directory is open. The VFS passes a context that belongs to this call.
        let (dir, context) = unsafe { (INode::<T>::of_file(file), &mut *context) };
        from_result(|| T::iterate(dir, &mut Emitter(context)).map(|()| 0))
    }
}

// File handles, for name_to_handle_at(2) and the NFS server: the number and the generation of an
// inode, and perhaps of its parent. Do not trust them, because user space may have forged them.
#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    pub(super) const EXPORT: &'static bindings::export_operations = &bindings::export_operations {
        encode_fh: Some(bindings::generic_encode_ino32_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: ffi::c_int,
        kind: ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: The caller passes a valid superblock, and a handle of this length.
        unsafe { bindings::generic_fh_to_dentry(sb, fid, length, kind, Some(Self::inode::<false>)) }
    }

    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        length: ffi::c_int,
        kind: ffi::c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: The caller passes a valid superblock, and a handle of this length.
        unsafe { bindings::generic_fh_to_parent(sb, fid, length, kind, Some(Self::inode::<true>)) }
    }

    /// Returns the inode that a handle refers to. The VFS looks up names in a `PARENT`, which must
    /// therefore be a directory.
    unsafe extern "C" fn inode<const PARENT: bool>(
        sb: *mut bindings::super_block,
        ino: u64,
        generation: u32,
    ) -> *mut bindings::inode {
        // SAFETY: A mounted superblock has been filled.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        let inode = T::get_inode(sb, ino, generation);
        into_raw(if PARENT {
            inode.and_then(check_directory)
        } else {
            inode
        })
    }

    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The caller passes a positive dentry.
        let child = unsafe { INode::<T>::of_dentry(child) };
        let parent = into_raw(T::get_parent(child).and_then(check_directory));
        // SAFETY: d_obtain_alias() takes over the reference, and passes errors through.
        unsafe { bindings::d_obtain_alias(parent) }
    }
}

fn check_directory<T: FileSystem>(inode: INodeRef<T>) -> Result<INodeRef<T>> {
    if inode.mode() & bindings::S_IFMT == bindings::S_IFDIR {
        Ok(inode)
    } else {
        Err(Errno::Stale.into())
    }
}
