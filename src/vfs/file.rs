// SPDX-License-Identifier: GPL-2.0

//! Reads and mappings of regular files.

use super::{xattr, FileSystem, INode};
use crate::bindings;
use crate::memory::{Files, Region};
use core::marker::PhantomData;
use kernel::{error::to_result, prelude::*};

/// Where a read puts the bytes (`struct iov_iter`).
///
/// # Invariants
///
/// Holds an iterator with room for data that this call of `read_iter` alone uses.
pub(crate) struct Destination<'a>(&'a mut bindings::iov_iter);

impl Destination<'_> {
    /// Bytes of room.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: The iterator is valid.
        unsafe { bindings::daxfs_helper_iov_iter_count(self.0) }
    }

    /// The C object.
    #[inline]
    pub(crate) fn as_raw(&mut self) -> *mut bindings::iov_iter {
        self.0
    }
}

/// The one extent of a file's content.
pub(crate) struct Extent<'a> {
    /// The region that holds it.
    pub(crate) region: &'a Region,
    /// Offset of the first byte in the region, a multiple of the page size.
    pub(crate) offset: u64,
}

/// The C operations on regular files.
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(Self::getattr),
        fiemap: Some(Self::fiemap),
        listxattr: Some(xattr::Operations::<T>::list),
        get_inode_acl: Some(xattr::Operations::<T>::acl),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    pub(super) const FILE: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read_iter: Some(Self::read_iter),
        open: Some(Self::open),
        mmap_prepare: Some(Self::mmap_prepare),
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        splice_read: Some(bindings::copy_splice_read),
        setlease: Some(bindings::generic_setlease),
        // SAFETY: Zero is a valid value of every member: a null function pointer is an absent operation.
        ..unsafe { core::mem::zeroed() }
    };

    pub(super) const MAPPING: bindings::address_space_operations =
        bindings::address_space_operations {
            dirty_folio: Some(bindings::noop_dirty_folio),
            // Never called: it tells open(2) that O_DIRECT, which every read is, may be asked for.
            direct_IO: Some(bindings::noop_direct_IO),
            // SAFETY: As above.
            ..unsafe { core::mem::zeroed() }
        };

    const VM: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
        // SAFETY: As above.
        ..unsafe { core::mem::zeroed() }
    };

    const PAGED_VM: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::paged_fault),
        huge_fault: Some(Self::paged_huge_fault),
        // SAFETY: As above.
        ..unsafe { core::mem::zeroed() }
    };

    const IOMAP: bindings::iomap_ops = bindings::iomap_ops {
        iomap_begin: Some(Self::iomap_begin),
        // SAFETY: As above.
        ..unsafe { core::mem::zeroed() }
    };

    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        wanted: u32,
        _flags: kernel::ffi::c_uint,
    ) -> kernel::ffi::c_int {
        // SAFETY: The VFS hands in a path that leads to an inode of ours, and a buffer to fill.
        unsafe {
            bindings::generic_fillattr(idmap, wanted, (*(*path).dentry).d_inode, stat);
            if wanted & (bindings::DAXFS_STATX_DIOALIGN | bindings::DAXFS_STATX_DIO_READ_ALIGN) != 0
            {
                // Every read is direct, from any byte to any other.
                (*stat).result_mask |=
                    bindings::DAXFS_STATX_DIOALIGN | bindings::DAXFS_STATX_DIO_READ_ALIGN;
                (*stat).dio_mem_align = 1;
                (*stat).dio_offset_align = 1;
                (*stat).dio_read_offset_align = 1;
            }
        }
        0
    }

    /// Tells where in the image, and so on a block device, the content is.
    unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        mut length: u64,
    ) -> kernel::ffi::c_int {
        super::errno_or_zero(|| {
            // SAFETY: The VFS calls this on an inode of ours.
            let file = unsafe { INode::<T>::from_raw(inode) };
            // SAFETY: As above, and `info` describes what the caller wants.
            to_result(unsafe { bindings::fiemap_prep(inode, info, start, &mut length, 0) })?;
            let allocated = file.size().next_multiple_of(bindings::DAXFS_PAGE_SIZE);
            if start >= allocated {
                return Ok(());
            }
            let extent = T::extent(file)?;
            // SAFETY: As above.
            let result = unsafe {
                bindings::fiemap_fill_next_extent(
                    info,
                    0,
                    extent.offset,
                    allocated,
                    bindings::DAXFS_FIEMAP_EXTENT_LAST,
                )
            };
            // 1 says that this was the last.
            if result < 0 {
                return Err(Error::from_errno(result));
            }
            Ok(())
        })
    }

    unsafe extern "C" fn open(
        _inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> kernel::ffi::c_int {
        // Reads never wait, so io_uring need not hand them to a worker.
        // SAFETY: The file is being opened, so nobody else sees it yet.
        unsafe { (*file).f_mode |= bindings::DAXFS_FMODE_NOWAIT };
        0
    }

    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS calls this on an open file of ours, with an iocb and an iterator of this call alone.
        let (file, iocb, iter) = unsafe {
            (
                INode::<T>::from_raw((*(*iocb).ki_filp).f_inode),
                &mut *iocb,
                &mut *iter,
            )
        };
        // Never negative: the VFS checks positions.
        let position = iocb.ki_pos as u64;
        let mut to = Destination(iter);
        if position >= file.size() || to.len() == 0 {
            return 0;
        }
        match T::read(file, position, &mut to) {
            Ok(0) => EFAULT.to_errno() as isize,
            Ok(copied) => {
                iocb.ki_pos += copied as i64;
                copied as isize
            }
            Err(error) => error.to_errno() as isize,
        }
    }

    unsafe extern "C" fn mmap_prepare(desc: *mut bindings::vm_area_desc) -> kernel::ffi::c_int {
        // A shared mapping cannot become writable: the file is not open for writing, and the VFS clears
        // VM_MAYWRITE then.
        super::errno_or_zero(|| {
            // SAFETY: The VFS hands in a valid description of a mapping of a file of ours.
            let file = unsafe { INode::<T>::from_raw((*(*desc).file).f_inode) };
            let (table, mixed, io) = match T::extent(file)?.region.files() {
                Files::Dax(_) => (&Self::VM, false, false),
                Files::Pages => (&Self::PAGED_VM, false, false),
                Files::Frames { io } => (&Self::PAGED_VM, true, io),
            };
            // SAFETY: As above; the table is static.
            unsafe { bindings::daxfs_helper_mmap_prepare(desc, table, mixed, io) };
            Ok(())
        })
    }

    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As this function's own contract.
        unsafe { Self::huge_fault(vmf, 0) }
    }

    unsafe extern "C" fn huge_fault(
        vmf: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: The MM calls this on a mapping of a file of ours.
        unsafe { bindings::daxfs_helper_dax_fault(vmf, order, &Self::IOMAP) }
    }

    unsafe extern "C" fn paged_fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As this function's own contract.
        unsafe { Self::paged_huge_fault(vmf, 0) }
    }

    /// A fault on memory without a DAX device.
    unsafe extern "C" fn paged_huge_fault(
        vmf: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: The MM calls this on a mapping of a file of ours that `mmap_prepare` set up for its region.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let file = INode::<T>::from_raw((*(*vma).vm_file).f_inode);
            match T::extent(file) {
                Ok(extent) => extent.region.fault(vmf, order, extent.offset, file.size()),
                Err(_) => bindings::DAXFS_VM_FAULT_SIGBUS,
            }
        }
    }

    /// Tells where the content is: one extent from the first byte to the end of the last page.
    unsafe extern "C" fn iomap_begin(
        inode: *mut bindings::inode,
        _position: bindings::loff_t,
        _length: bindings::loff_t,
        _flags: kernel::ffi::c_uint,
        iomap: *mut bindings::iomap,
        _source: *mut bindings::iomap,
    ) -> kernel::ffi::c_int {
        // SAFETY: The iomap code calls this on an inode of ours, with an iomap to fill.
        let (file, iomap) = unsafe { (INode::<T>::from_raw(inode), &mut *iomap) };
        super::errno_or_zero(|| {
            let extent = T::extent(file)?;
            let Files::Dax(range) = extent.region.files() else {
                return Err(EIO);
            };
            if extent.region.gone() {
                return Err(EIO);
            }
            iomap.type_ = bindings::DAXFS_IOMAP_MAPPED;
            iomap.addr = range.offset + extent.offset;
            iomap.offset = 0;
            iomap.length = file.size().next_multiple_of(bindings::DAXFS_PAGE_SIZE);
            iomap.dax_dev = range.device.as_ptr();
            Ok(())
        })
    }
}
