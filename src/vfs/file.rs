// SPDX-License-Identifier: GPL-2.0

//! Reads and mappings of regular files.

use super::{xattr, FileSystem, INode};
use crate::bindings;
use crate::memory::{CacheMode, Files, Region};
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

    /// Bring in what comes next, up to `length` bytes, so that it can be written without a page fault. This may wait
    /// for anything. Return false if nothing of it can be written.
    pub(crate) fn make_present(&mut self, length: usize) -> bool {
        let length = length.min(PRESENT);
        // SAFETY: The iterator is valid, and has that much room.
        let missing = unsafe { bindings::fault_in_iov_iter_writeable(self.0, length) };
        missing < length
    }

    /// The C object.
    #[inline]
    pub(crate) fn as_raw(&mut self) -> *mut bindings::iov_iter {
        self.0
    }
}

/// Bytes of a destination that are brought in at a time.
const PRESENT: usize = 2 << 20;

/// The one extent of a file's content.
pub(crate) struct Extent<'a> {
    /// The region that holds it.
    pub(crate) region: &'a Region,
    /// Offset of the first byte in the region, a multiple of the page size if any of it can be mapped.
    pub(crate) offset: u64,
    /// Bytes, from the first on, whose pages hold nothing else and can be mapped: a multiple of the page size,
    /// which reaches to the end of the file, or less than a page in front of it, or is 0.
    pub(crate) mappable: u64,
    /// Whether other files share it.
    pub(crate) shared: bool,
}

/// What a fault came to.
pub(crate) enum Fault {
    /// A page was mapped, or some side by side.
    Page,
    /// 2 MiB were mapped.
    Huge,
    /// The process gets a signal.
    Failed,
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
        // Without huge pages the kernel has no such function, and mappings need no alignment.
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        splice_read: Some(bindings::copy_splice_read),
        setlease: Some(bindings::generic_setlease),
        unlocked_ioctl: Some(super::ioctl::Operations::<T>::ioctl),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: Some(bindings::compat_ptr_ioctl),
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

    /// Files that are mapped by copies of their pages. Reads of them are as direct as any.
    pub(super) const COPIED: bindings::address_space_operations =
        bindings::address_space_operations {
            read_folio: Some(Self::read_folio),
            ..Self::MAPPING
        };

    const VM: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
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
                // Every read is direct, from any byte to any other. The loop driver takes the alignment of offsets
                // for the size of its blocks, so it is that of the smallest device.
                (*stat).result_mask |=
                    bindings::DAXFS_STATX_DIOALIGN | bindings::DAXFS_STATX_DIO_READ_ALIGN;
                (*stat).dio_mem_align = 1;
                (*stat).dio_offset_align = bindings::DAXFS_SECTOR_SIZE;
                (*stat).dio_read_offset_align = bindings::DAXFS_SECTOR_SIZE;
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
            let extent = T::extent(file)?;
            let mut flags = bindings::DAXFS_FIEMAP_EXTENT_LAST;
            let mut allocated = extent.mappable;
            if allocated < file.size() {
                // Others stand around it on its pages.
                flags |= bindings::DAXFS_FIEMAP_EXTENT_NOT_ALIGNED;
                allocated = file.size();
            }
            if extent.shared {
                flags |= bindings::DAXFS_FIEMAP_EXTENT_SHARED;
            }
            if start >= allocated {
                return Ok(());
            }
            // SAFETY: As above.
            let result = unsafe {
                bindings::fiemap_fill_next_extent(info, 0, extent.offset, allocated, flags)
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
            let (raw, file) = unsafe {
                let raw = (*desc).file;
                (raw, INode::<T>::from_raw((*raw).f_inode))
            };
            let extent = T::extent(file)?;
            if extent.mappable == 0 && file.size() > 0 {
                // SAFETY: As above.
                return to_result(unsafe { bindings::generic_file_readonly_mmap_prepare(desc) });
            }
            if extent.mappable > 0 {
                let mapping = T::map(file)?;
                // SAFETY: The address space lives as long as the inode, and the file keeps that. Nothing of the file
                // has been mapped by its former one, which is the inode's own.
                unsafe { (*raw).f_mapping = mapping.as_ptr() };
            }
            let (mixed, cache) = match extent.region.files() {
                Files::Dax(_) | Files::Pages => (false, CacheMode::WriteBack),
                Files::Frames { cache, .. } => (true, cache),
            };
            // SAFETY: As above; the table is static.
            unsafe { bindings::daxfs_helper_mmap_prepare(desc, &Self::VM, mixed) };
            match cache {
                CacheMode::WriteBack => {}
                // SAFETY: As above.
                CacheMode::WriteCombine => unsafe {
                    bindings::daxfs_helper_mmap_writecombine(desc)
                },
                // SAFETY: As above.
                CacheMode::Uncached => unsafe { bindings::daxfs_helper_mmap_noncached(desc) },
            }
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
        // SAFETY: The MM calls this on a mapping of a file of ours, which it keeps open.
        let (file, page) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            let inode = (*(*fault.vma).vm_file).f_inode;
            (INode::<T>::from_raw(inode), fault.pgoff as u64)
        };
        let result = match T::extent(file) {
            // SAFETY: `mmap_prepare` set the mapping up for the region, with the extent's address space.
            Ok(extent) if page < extent.mappable >> bindings::DAXFS_PAGE_SHIFT => unsafe {
                extent
                    .region
                    .fault(vmf, order, extent.offset, extent.mappable)
            },
            // SAFETY: As above.
            Ok(extent) => unsafe { Self::tail_fault(vmf, order, file, &extent, page) },
            Err(_) => bindings::DAXFS_VM_FAULT_SIGBUS,
        };
        // SAFETY: As above.
        unsafe { super::trace::fault(vmf, order, result) };
        Self::tell(file, order, result);
        result
    }

    /// Serve a fault after what can be mapped: on the last page of a file that shares that page with other files, with
    /// a copy.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault on page `page` of `file`.
    unsafe fn tail_fault(
        vmf: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
        file: &INode<T>,
        extent: &Extent<'_>,
        page: u64,
    ) -> bindings::vm_fault_t {
        let offset = page << bindings::DAXFS_PAGE_SHIFT;
        if offset >= file.size() || extent.region.access().is_err() {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        }
        if order > 0 {
            return bindings::DAXFS_VM_FAULT_FALLBACK;
        }
        // SAFETY: By the contract; a file with pages after its extent has claimed that, as part of it can be mapped.
        let tail = unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            crate::memory::tail((*(*vma).vm_file).f_mapping)
        };
        match file.tail_page(offset, tail) {
            Ok(page) => {
                // SAFETY: The extent keeps the page as long as it lives, and the MM gets a reference of its own.
                unsafe {
                    bindings::daxfs_helper_get_page(page.as_ptr());
                    (*vmf).page = page.as_ptr();
                }
                0
            }
            Err(error) if error == ENOMEM => bindings::DAXFS_VM_FAULT_OOM,
            Err(_) => bindings::DAXFS_VM_FAULT_SIGBUS,
        }
    }

    /// Tells the filesystem what a fault came to.
    #[inline]
    fn tell(file: &INode<T>, order: kernel::ffi::c_uint, result: bindings::vm_fault_t) {
        // VM_FAULT_ERROR has the bit of VM_FAULT_FALLBACK in it, so this comes first.
        if result & (bindings::DAXFS_VM_FAULT_FALLBACK | bindings::DAXFS_VM_FAULT_RETRY) != 0 {
            // It comes again, for a smaller page or from the start.
            return;
        }
        let outcome = if result & bindings::DAXFS_VM_FAULT_ERROR != 0 {
            Fault::Failed
        } else if order > 0 {
            Fault::Huge
        } else {
            Fault::Page
        };
        T::faulted(file, outcome);
    }

    /// Fills a page of the page cache with a copy of what it shows.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> kernel::ffi::c_int {
        // SAFETY: The MM calls this with a locked folio of a page, which is not up to date, so nobody reads it,
        // and which belongs to a file of ours.
        let (file, offset, bytes) = unsafe {
            let host = bindings::daxfs_helper_folio_host(folio);
            let address = bindings::daxfs_helper_page_address(folio.cast()).cast::<u8>();
            (
                INode::<T>::from_raw(host),
                bindings::daxfs_helper_folio_offset(folio),
                core::slice::from_raw_parts_mut(address, super::PAGE_SIZE as usize),
            )
        };
        let length = file.size().saturating_sub(offset).min(super::PAGE_SIZE) as usize;
        let (content, rest) = bytes.split_at_mut(length);
        rest.fill(0);
        let result = T::copy(file, offset, content);
        // SAFETY: As above; this unlocks the folio.
        unsafe { bindings::daxfs_helper_folio_end_read(folio, result.is_ok()) };
        super::errno_or_zero(|| result)
    }
}
