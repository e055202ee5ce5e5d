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
    /// Offset of the first byte in the region, a multiple of the page size if any of it can be mapped.
    pub(crate) offset: u64,
    /// Bytes, from the first on, whose pages hold nothing else and can be mapped: a multiple of the page size,
    /// which reaches to the end of the file, or less than a page in front of it, or is 0.
    pub(crate) mappable: u64,
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
            let extent = T::extent(file)?;
            let mut flags = bindings::DAXFS_FIEMAP_EXTENT_LAST;
            let mut allocated = extent.mappable;
            if allocated < file.size() {
                // Others stand around it on its pages.
                flags |= bindings::DAXFS_FIEMAP_EXTENT_NOT_ALIGNED;
                allocated = file.size();
            }
            if file.shares_pages() {
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
            let file = unsafe { INode::<T>::from_raw((*(*(*desc).file).f_mapping).host) };
            let extent = T::extent(file)?;
            if extent.mappable == 0 && file.size() > 0 {
                // SAFETY: As above.
                return to_result(unsafe { bindings::generic_file_readonly_mmap_prepare(desc) });
            }
            T::map(file)?;
            let (table, mixed, io) = match extent.region.files() {
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
        unsafe {
            Self::serve(vmf, order, |extent, page| {
                Self::failed_fault(extent, page, order)
                    .unwrap_or_else(|| bindings::daxfs_helper_dax_fault(vmf, order, &Self::IOMAP))
            })
        }
    }

    /// Serves a fault: `mapped` maps a page of the extent, or the pages of `order` around it.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault on a mapping of a file of ours.
    #[inline]
    unsafe fn serve(
        vmf: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
        mapped: impl FnOnce(&Extent<'_>, u64) -> bindings::vm_fault_t,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the contract. The mapping is of the file itself, or of the one that it shares its pages with.
        let (file, page) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            let mapping = (*(*fault.vma).vm_file).f_mapping;
            (INode::<T>::from_raw((*mapping).host), fault.pgoff as u64)
        };
        let result = match T::extent(file) {
            Ok(extent) if page < extent.mappable >> bindings::DAXFS_PAGE_SHIFT => {
                mapped(&extent, page)
            }
            // SAFETY: By the contract.
            Ok(extent) => unsafe { Self::tail_fault(vmf, order, file, &extent, page) },
            Err(_) => bindings::DAXFS_VM_FAULT_SIGBUS,
        };
        // SAFETY: By the contract.
        unsafe { super::trace::fault(vmf, order, result) };
        Self::tell(file, order, result);
        result
    }

    /// Serves a fault behind what can be mapped: on the last page of a file if that page holds other files, too,
    /// with a copy.
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
        if offset >= file.size() || extent.region.gone() {
            return bindings::DAXFS_VM_FAULT_SIGBUS;
        }
        if order > 0 {
            return bindings::DAXFS_VM_FAULT_FALLBACK;
        }
        match file.tail_page(offset) {
            Ok(page) => {
                // SAFETY: The inode keeps the page as long as it lives, and the MM gets a reference of its own.
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

    /// Refuses a fault on a page whose memory has failed.
    #[inline]
    fn failed_fault(
        extent: &Extent<'_>,
        page: u64,
        order: kernel::ffi::c_uint,
    ) -> Option<bindings::vm_fault_t> {
        // All that an entry of this order would map, as far as it is in the file.
        let first = (page >> order << order) << bindings::DAXFS_PAGE_SHIFT;
        let length = (super::PAGE_SIZE << order).min(extent.mappable.checked_sub(first)?);
        if extent.region.sound(extent.offset + first, length) == length {
            return None;
        }
        Some(match order {
            0 => bindings::DAXFS_VM_FAULT_HWPOISON,
            _ => bindings::DAXFS_VM_FAULT_FALLBACK,
        })
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
            Self::serve(vmf, order, |extent, _| {
                extent
                    .region
                    .fault(vmf, order, extent.offset, extent.mappable)
            })
        }
    }

    /// Tells where the content is: one extent from the first byte to the end of the last page that can be mapped.
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
            iomap.length = extent.mappable;
            iomap.dax_dev = range.device.as_ptr();
            Ok(())
        })
    }
}
