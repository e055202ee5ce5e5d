// SPDX-License-Identifier: GPL-2.0-only

//! Regular files.

use super::*;
use crate::linux::mm::{
    Fault,
    FaultResult,
    FileMapping,
    MapMethod, //
};
use kernel::uaccess::{
    UserPtr,
    UserSlice, //
};

/// Operations on a regular file.
pub(crate) trait FileOperations: FileSystem {
    /// Copies bytes at `position`, which is before the end of the file, to `to`, which is not
    /// empty. Returns the number of bytes copied: fewer than there is room for only at the end of
    /// the file, or if the destination faults, a later byte cannot be read, or it would have to be
    /// waited for and `wait` is not set.
    ///
    /// Errors: `EIO` if the first byte cannot be read; `EAGAIN` if it would have to be waited for.
    fn read_iter(
        file: &INode<Self>,
        position: u64,
        to: &mut IovIterDest<'_>,
        wait: bool,
    ) -> Result<usize>;

    /// If another file has the content of `file`, calls `splice` with it, the offset there, and how
    /// many of `length` bytes at `position` may be taken from it. Returns `None` if none has.
    fn splice(
        file: &INode<Self>,
        position: u64,
        length: usize,
        splice: impl FnOnce(&File, u64, usize) -> Result<usize>,
    ) -> Option<Result<usize>>;

    /// Prepares `file` for the other operations. Called by open(2), before them.
    ///
    /// Errors: What open(2) returns; after `ENOMEDIUM` fanotify(7) opens the file nevertheless.
    fn prepare(file: &INode<Self>) -> Result;

    /// Returns a mapping for `file`. Called when the file is mapped first. The mapping is dropped
    /// when the inode is evicted.
    fn map(file: &INode<Self>) -> Result<FileMapping<Self::Claim>>;

    /// Handles a page fault on a mapping of `file`. This maps the page itself, except for a write
    /// to a private mapping, for which it may leave the page to the MM.
    fn fault<'a>(file: &INode<Self>, fault: &Fault<'a, Self::Claim>) -> FaultResult<'a>;

    /// Returns the extent of `file`, for `FS_IOC_FIEMAP`.
    fn extent(file: &INode<Self>) -> Result<Extent>;
}

/// The extent of a file.
pub(crate) struct Extent {
    /// Offset of the first byte on the block device; `None` if it is somewhere else.
    pub(crate) start: Option<u64>,
    pub(crate) length: u64,
    /// Set if the extent does not consist of whole blocks.
    pub(crate) unaligned: bool,
    /// Set if other files share the extent.
    pub(crate) shared: bool,
}

#[allow(clippy::missing_safety_doc)] // See `VTable`.
impl<T: Operations> VTable<T> {
    /// Operations of regular files.
    pub(super) const REGULAR: &'static bindings::inode_operations = &bindings::inode_operations {
        fiemap: Some(Self::fiemap),
        ..Self::INODE
    };

    /// Operations of open files.
    pub(super) const FILE: &'static bindings::file_operations = &bindings::file_operations {
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        open: Some(Self::open),
        release: Some(backing::release),
        mmap: Some(Self::mmap),
        // A kernel without huge pages lacks this function, and mappings require no alignment.
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        splice_read: Some(Self::splice_read),
        setlease: Some(bindings::generic_setlease),
        // io_uring then reads on to the end of the file itself, without a worker.
        fop_flags: bindings::FOP_BUFFER_RASYNC,
        unlocked_ioctl: Some(ioctl::<T>),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: Some(bindings::compat_ptr_ioctl),
        ..pin_init::zeroed()
    };

    /// Operations of the inode's own address space, which stays empty.
    pub(super) const ADDRESS_SPACE: &'static bindings::address_space_operations =
        &bindings::address_space_operations {
            dirty_folio: Some(bindings::noop_dirty_folio),
            // Never called. Without it, open(2) refuses O_DIRECT.
            direct_IO: Some(bindings::noop_direct_IO),
            ..pin_init::zeroed()
        };

    const AREA: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
        map_pages: Some(Self::map_pages),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        mut length: u64,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The VFS passes an inode that has been set up, and a valid description of the
            // request.
            let file = unsafe {
                to_result(bindings::fiemap_prep(inode, info, start, &mut length, 0))?;
                INode::<T>::from_raw(inode)
            };
            let extent = T::extent(file)?;
            if start >= extent.length {
                return Ok(0);
            }
            let mut flags = bindings::FIEMAP_EXTENT_LAST;
            if extent.unaligned {
                flags |= bindings::FIEMAP_EXTENT_NOT_ALIGNED;
            }
            if extent.shared {
                flags |= bindings::FIEMAP_EXTENT_SHARED;
            }
            if extent.start.is_none() {
                flags |= bindings::FIEMAP_EXTENT_UNKNOWN;
            }
            let (start, length) = (extent.start.unwrap_or(0), extent.length);
            // SAFETY: The description is valid.
            let filled =
                unsafe { bindings::fiemap_fill_next_extent(info, 0, start, length, flags) };
            // 1 means that this was the last extent.
            to_result(filled.min(0)).map(|()| 0)
        })
    }

    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> ffi::c_int {
        // Nonblocking reads that would have to wait fail with EAGAIN. No other read requires an
        // io_uring worker.
        // SAFETY: Nothing else accesses a file that is being opened.
        let mode = unsafe { &mut (*file).f_mode };
        *mode |= bindings::FMODE_NOWAIT;
        // fanotify(7) opens it first for a listener, which can supply the missing pack.
        let to_bring = *mode & bindings::FMODE_FSNOTIFY_MASK == bindings::FMODE_NONOTIFY;
        // SAFETY: The VFS passes an inode that has been set up.
        let inode = unsafe { INode::<T>::from_raw(inode) };
        from_result(|| match T::prepare(inode) {
            Err(error) if to_bring && error == Errno::NoMedium.into() => Ok(0),
            prepared => prepared.map(|()| 0),
        })
    }

    /// Moves the position. The generic operation would read the file's end from the host of its
    /// address space, which belongs to the [mapping](FileMapping) once a stacking filesystem has
    /// mapped the file.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: ffi::c_int,
    ) -> bindings::loff_t {
        let most = bindings::MAX_LFS_FILESIZE;
        // SAFETY: The file is open.
        unsafe {
            let end = INode::<T>::of_file(file).size() as bindings::loff_t;
            bindings::generic_file_llseek_size(file, offset, whence, most, end)
        }
    }

    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The iocb, which keeps the open file, and the destination belong to this call.
        let (file, iocb, to) = unsafe {
            let file = INode::<T>::of_file((*iocb).ki_filp);
            (file, &mut *iocb, IovIterDest::from_raw(iter.cast()))
        };
        // The VFS does not allow negative positions.
        let position = iocb.ki_pos as u64;
        if position >= file.size() || to.is_empty() {
            return 0;
        }
        // Even with O_DIRECT, a read is a copy. io_uring looks at this after the call, and hands
        // the rest of a short direct read to a worker.
        iocb.ki_flags &= !bindings::IOCB_DIRECT;
        // io_uring repeats a read with IOCB_WAITQ in the same thread, which must not wait either.
        let wait = iocb.ki_flags & (bindings::IOCB_NOWAIT | bindings::IOCB_WAITQ) == 0;
        match T::read_iter(file, position, to, wait) {
            Ok(0) => EFAULT.to_errno() as isize,
            Ok(copied) => {
                iocb.ki_pos += copied as i64;
                copied as isize
            }
            Err(error) => error.to_errno() as isize,
        }
    }

    /// Moves pages of the file that has the content into a pipe, or else copies of them.
    unsafe extern "C" fn splice_read(
        raw: *mut bindings::file,
        position: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        length: usize,
        flags: ffi::c_uint,
    ) -> isize {
        // SAFETY: The file is open, and the position belongs to this call.
        let (file, start) = unsafe { (INode::<T>::of_file(raw), *position) };
        // The VFS does not allow negative positions.
        let spliced = T::splice(file, start as u64, length, |from, offset, length| {
            let (from, mut offset) = (from.as_ptr().cast(), offset as bindings::loff_t);
            // SAFETY: The file is open, and its operations take a locked pipe.
            let done = unsafe { bindings::splice_from(from, &mut offset, pipe, length, flags) };
            usize::try_from(done).map_err(|_| Error::from_errno(done as ffi::c_int))
        });
        match spliced {
            Some(Ok(done)) => {
                // SAFETY: The position belongs to this call.
                unsafe { *position = start + done as bindings::loff_t };
                done as isize
            }
            Some(Err(error)) if error != Errno::NotSupported.into() => error.to_errno() as isize,
            // SAFETY: The arguments are those of this call.
            _ => unsafe { bindings::copy_splice_read(raw, position, pipe, length, flags) },
        }
    }

    /// Sets up a memory area. A shared one cannot become writable: the file is not open for
    /// writing, so the MM clears `VM_MAYWRITE`.
    ///
    /// We don't use `mmap_prepare`, which loses references to the file that it sets if the area is
    /// merged or belongs to a stacking filesystem. The price is that new areas are not merged.
    unsafe extern "C" fn mmap(
        raw: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> ffi::c_int {
        from_result(|| {
            // SAFETY: The file is open.
            let file = unsafe { INode::<T>::of_file(raw) };
            let mapping = match file.mapping() {
                Some(mapping) => mapping,
                None => file.set_mapping(T::map(file)?)?,
            };
            let raw = NonNull::new(raw).ok_or(EBADF)?;
            // SAFETY: The file is open, it has the operations of this type, and the mapping, which
            // never changes, lives as long as the inode.
            let backing = unsafe { backing::open(raw, mapping.space().as_raw()) }?;
            // Huge entries cost nothing here, so request them even if `thp` is set to `madvise`.
            let mut flags = bindings::VM_HUGEPAGE;
            let is_copied = mapping.space().length == 0;
            if let (MapMethod::Frames(_), false) = (mapping.space().memory.method, is_copied) {
                // Struct pages may be missing. get_user_pages() refuses I/O mappings.
                flags |= bindings::VM_MIXEDMAP | bindings::VM_IO;
            }
            // SAFETY: The area is new, and the caller holds the mmap lock for writing. Both files
            // are valid, and `raw` is the user of the backing file.
            unsafe {
                bindings::vma_set_file(vma, backing.as_ptr());
                if backing != raw {
                    let (backing, raw) = (backing.as_ptr(), raw.as_ptr());
                    to_result(bindings::security_mmap_backing_file(vma, backing, raw))?;
                }
                (*vma).vm_ops = &Self::AREA;
                bindings::vm_flags_set(vma, flags);
            }
            Ok(0)
        })
    }

    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // Pages are inserted only into empty entries, without a marker of userfaultfd(2). Without
        // the marker, reading a page counts as writing to it (`PAGE_IS_WRITTEN`).
        // SAFETY: The fault is valid, and its area is locked.
        unsafe {
            bindings::vmf_clear_marker(vmf);
            Self::huge_fault(vmf, 0)
        }
    }

    unsafe extern "C" fn huge_fault(
        vmf: *mut bindings::vm_fault,
        order: ffi::c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: The MM handles a fault on an area that `mmap` has set up.
        let (result, is_write) = unsafe { Self::try_fault(vmf, order) };
        let fall_back = result & bindings::VM_FAULT_FALLBACK != 0;
        if order != bindings::PMD_ORDER || is_write || !fall_back {
            return result;
        }
        // The MM would call `fault` next. But first it would allocate a page table that is freed
        // again, because inserting a page allocates its own.
        // SAFETY: As above. A fault for a huge entry can also be handled by a page.
        unsafe { Self::try_fault(vmf, 0) }.0
    }

    /// Handles a fault for an entry of `order`. Returns the result, and true if it was a write.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault on an [area](Self::AREA) that `mmap` has set up, which the MM handles.
    #[inline(always)]
    unsafe fn try_fault(
        vmf: *mut bindings::vm_fault,
        order: ffi::c_uint,
    ) -> (bindings::vm_fault_t, bool) {
        // SAFETY: The fault has a memory area, which keeps its file. The MM holds a lock that keeps
        // the area.
        let file = unsafe { INode::<T>::of_file((*(*vmf).__bindgen_anon_1.vma).vm_file) };
        // `mmap` has set it.
        let Some(mapping) = file.mapping() else {
            return (bindings::VM_FAULT_SIGBUS, false);
        };
        // INVARIANT: `mmap` has set this area up for the mapping of this file, which does not
        // change once it is set.
        // SAFETY: The MM calls this to handle the fault, and holds a lock that keeps the area.
        let fault = unsafe { Fault::new(vmf, order, mapping) };
        (T::fault(file, &fault).into_raw(), fault.is_write())
    }

    /// Maps no pages: [`Self::fault`] maps the pages around the address as well. The MM handles
    /// faults under the lock of the memory area only if there is such a function, as is the case
    /// with the page cache. Otherwise the MM restarts the fault with `mmap_lock`.
    extern "C" fn map_pages(
        _vmf: *mut bindings::vm_fault,
        _first: ffi::c_ulong,
        _last: ffi::c_ulong,
    ) -> bindings::vm_fault_t {
        0
    }
}

/// Number of bytes that `FS_IOC_GETFSLABEL` writes: the label, then zeros.
const LABEL_MAX: usize = bindings::FSLABEL_MAX as usize;

/// ioctl(2) on files and directories: the label. The VFS handles the UUID itself.
///
/// # Safety
///
/// `file` must be an open file or directory of type `T`.
pub(super) unsafe extern "C" fn ioctl<T: Operations>(
    file: *mut bindings::file,
    command: ffi::c_uint,
    argument: ffi::c_ulong,
) -> ffi::c_long {
    from_result(|| {
        if command != bindings::FS_IOC_GETFSLABEL {
            return Err(ENOTTY);
        }
        // SAFETY: The file is open.
        let sb = unsafe { INode::<T>::of_file(file) }.super_block();
        let mut answer = [0; LABEL_MAX];
        for (to, from) in answer.iter_mut().zip(T::label(sb)) {
            *to = *from;
        }
        let user = UserSlice::new(UserPtr::from_addr(argument), LABEL_MAX);
        user.writer().write_slice(&answer)?;
        Ok(0)
    })
}
