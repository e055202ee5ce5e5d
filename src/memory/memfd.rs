// SPDX-License-Identifier: GPL-2.0-only

//! A sealed memfd: memory that the kernel guarantees not to change.
//!
//! The memfd's own folios are pinned and mapped.

use super::{MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::linux::fs::Refusal;
use crate::linux::mm::CacheMode;
use core::ptr::NonNull;
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// The seals that keep the content from changing.
const SEALS: u32 = bindings::F_SEAL_WRITE | bindings::F_SEAL_SHRINK | bindings::F_SEAL_GROW;

/// A file that memfd_create(2) made, or another one of shmem or hugetlbfs, open for reading.
///
/// # Invariants
///
/// The file is such a file.
#[derive(Clone)]
pub(crate) struct Memfd(ARef<File>);

impl Memfd {
    /// Get a reference to `file`, if it is such a file. Files of no other kind are kept: they may
    /// have references in turn, such as a socket to whatever is sent over it.
    pub(crate) fn new(file: &File) -> Option<Self> {
        // INVARIANT: Checked below.
        let memfd = Memfd(ARef::from(file));
        // SAFETY: The file is open, so these fields do not change.
        let (mode, inode) = unsafe { ((*memfd.raw()).f_mode, (*memfd.raw()).f_inode) };
        // SAFETY: The open file keeps its inode.
        let is_regular = unsafe { (*inode).i_mode } & bindings::S_IFMT == bindings::S_IFREG;
        let is_readable = mode & bindings::FMODE_READ != 0;
        (is_readable && is_regular && (memfd.is_shmem() || memfd.is_hugetlb())).then_some(memfd)
    }

    /// Return the C object.
    fn raw(&self) -> *mut bindings::file {
        self.0.as_ptr().cast()
    }

    fn is_shmem(&self) -> bool {
        // SAFETY: The file is open.
        let mapping = unsafe { (*self.raw()).f_mapping };
        // SAFETY: The open file keeps its address space.
        unsafe { bindings::shmem_mapping(mapping) }
    }

    fn is_hugetlb(&self) -> bool {
        // SAFETY: The file is open.
        unsafe { bindings::is_file_hugepages(self.raw()) }
    }

    /// Return the seals.
    fn seals(&self) -> u32 {
        // SAFETY: An open file has an inode.
        let inode = unsafe { (*self.raw()).f_inode };
        if self.is_shmem() {
            // SAFETY: This is an inode of shmem, which the open file keeps.
            return unsafe { bindings::shmem_seals(inode) };
        }
        #[cfg(CONFIG_HUGETLBFS)]
        // SAFETY: By the type invariant this is an inode of hugetlbfs, which the open file keeps.
        return unsafe { bindings::hugetlbfs_seals(inode) };
        #[cfg(not(CONFIG_HUGETLBFS))]
        0
    }
}

/// The folios of a memfd.
///
/// # Invariants
///
/// Each folio is pinned once.
struct Folios(KVVec<*mut bindings::folio>);

impl Folios {
    /// Return how files are mapped.
    ///
    /// The folios are in the memfd's page cache, whose reverse mappings do not include the mappings
    /// of our files. They can be mapped as counted pages nevertheless, because nothing that needs
    /// reverse mappings can happen: the seals forbid hole punching and truncation, the reference to
    /// the file forbids eviction, and the pins forbid migration and swapping.
    ///
    /// A hugetlb folio is mapped by frame: its pages are not counted one by one, and its tail's
    /// struct pages may be read-only.
    fn method(&self) -> MapMethod {
        let is_hugetlb = |&folio: &*mut bindings::folio| {
            // SAFETY: By the type invariant the folio is pinned.
            unsafe { bindings::folio_test_hugetlb(folio) }
        };
        match self.0.iter().any(is_hugetlb) {
            true => MapMethod::Frames(CacheMode::WriteBack),
            false => MapMethod::Pages,
        }
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        // SAFETY: By the type invariant each folio is pinned once.
        unsafe { bindings::unpin_folios(self.0.as_mut_ptr(), self.0.len()) };
    }
}

/// A mapped memfd.
///
/// # Invariants
///
/// `base` is what vmap() returned for the pages of `folios`.
struct Mapped {
    base: NonNull<u8>,
    folios: Folios,
    _file: Memfd,
}

// SAFETY: Folios may be unpinned, and mappings removed, by any thread.
unsafe impl Send for Mapped {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Mapped {}

// SAFETY: Only the drop unmaps the pages.
unsafe impl Owner for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: By the type invariant vmap() returned this. The folios are unpinned after this.
        unsafe { bindings::vunmap(self.base.as_ptr().cast()) };
    }
}

/// Open the region of `memfd`.
///
/// # Errors
///
/// `EPERM` if seals are missing, `ENOMEM`.
pub(crate) fn open(memfd: &Memfd, tenure: &Tenure) -> Result<Region, Refusal> {
    if memfd.seals() & SEALS != SEALS {
        return Err(Refusal::new(
            EPERM,
            fmt!("must be sealed against writing, shrinking and growing"),
        ));
    }
    // SAFETY: An open file has an inode. The seals keep its size.
    let size = unsafe { bindings::i_size_read((*memfd.raw()).f_inode) } as u64;
    let pages = size.div_ceil(bindings::PAGE_SIZE);
    if pages == 0 || pages > u32::MAX.into() {
        return Err(EINVAL.into());
    }

    let folios = pin(memfd, size, pages as usize)?;
    let mut list = KVVec::with_capacity(pages as usize, GFP_KERNEL)?;
    for &folio in &folios.0 {
        // SAFETY: The folio is pinned.
        let count = unsafe { bindings::folio_nr_pages(folio) };
        for number in 0..count {
            if list.len() < pages as usize {
                // SAFETY: The folio is pinned, and has this page.
                let page = unsafe { bindings::folio_page(folio, number) };
                list.push(page, GFP_KERNEL)?;
            }
        }
    }
    if list.len() != pages as usize {
        return Err(EIO.into());
    }
    // SAFETY: The list has this many pages, which are pinned as long as the mapping lives.
    let base = unsafe { bindings::vmap_ro(list.as_mut_ptr(), list.len() as u32) };
    // INVARIANT: The pages were mapped above.
    let mapped = Mapped {
        base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
        folios,
        _file: memfd.clone(),
    };
    let window = Window {
        base: mapped.base,
        size,
        io: false,
    };
    let method = mapped.folios.method();
    let mapped = KBox::new(mapped, GFP_KERNEL)?;
    tenure.lease().open(mapped)?;
    // SAFETY: The owner in the lease is the memfd, which keeps the pages mapped.
    Ok(unsafe { Region::new(window, method, Shown::Option("memfd"), tenure) })
}

/// Pin the folios of the first `size` bytes, `pages` pages, of `memfd`.
fn pin(memfd: &Memfd, size: u64, pages: usize) -> Result<Folios> {
    let mut folios = KVVec::with_capacity(pages, GFP_KERNEL)?;
    let mut offset = 0;
    // SAFETY: The file is open, and there is room for as many folios as it can have.
    let count = unsafe {
        bindings::memfd_pin_folios(
            memfd.raw(),
            0,
            (size - 1) as bindings::loff_t,
            folios.as_mut_ptr(),
            pages as u32,
            &mut offset,
        )
    };
    if count < 0 {
        return Err(Error::from_errno(count as kernel::ffi::c_int));
    }
    // SAFETY: The function has written this many, which is not more than the capacity.
    unsafe { folios.inc_len(count as usize) };
    // INVARIANT: The folios were pinned above.
    Ok(Folios(folios))
}
