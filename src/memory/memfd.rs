// SPDX-License-Identifier: GPL-2.0-only

//! A sealed memfd: memory that the kernel guarantees not to change.
//!
//! The memfd's own folios are pinned and mapped.

use super::{MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::vfs::CacheMode;
use core::ptr::NonNull;
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// The seals that keep the content from changing.
const SEALS: u32 = bindings::F_SEAL_WRITE | bindings::F_SEAL_SHRINK | bindings::F_SEAL_GROW;

/// Reasons why a memfd cannot be opened.
pub(crate) enum OpenError {
    /// The file is not a memfd, or not readable.
    NoMemfd,
    /// Seals are missing.
    NotSealed,
    /// Something else.
    Other(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Other(error)
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
struct Memfd {
    base: NonNull<u8>,
    folios: Folios,
    _file: ARef<File>,
}

// SAFETY: Folios may be unpinned, and mappings removed, by any thread.
unsafe impl Send for Memfd {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Memfd {}

// SAFETY: Only the drop unmaps the pages.
unsafe impl Owner for Memfd {}

impl Drop for Memfd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant vmap() returned this. The folios are unpinned after this.
        unsafe { bindings::vunmap(self.base.as_ptr().cast()) };
    }
}

/// Open the region of the memfd `file`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open(file: ARef<File>, tenure: &Tenure) -> Result<Region, OpenError> {
    let seals = seals(&file).ok_or(OpenError::NoMemfd)?;
    if seals & SEALS != SEALS {
        return Err(OpenError::NotSealed);
    }
    // SAFETY: An open file has an inode. The seals keep its size.
    let size = unsafe { bindings::i_size_read((*raw(&file)).f_inode) } as u64;
    let pages = size.div_ceil(bindings::PAGE_SIZE);
    if pages == 0 || pages > u32::MAX.into() {
        return Err(EINVAL.into());
    }

    let folios = pin(&file, size, pages as usize)?;
    let mut list = KVVec::with_capacity(pages as usize, GFP_KERNEL).map_err(Error::from)?;
    for &folio in &folios.0 {
        // SAFETY: The folio is pinned.
        let count = unsafe { bindings::folio_nr_pages(folio) };
        for number in 0..count {
            if list.len() < pages as usize {
                // SAFETY: The folio is pinned, and has this page.
                let page = unsafe { bindings::folio_page(folio, number) };
                list.push(page, GFP_KERNEL).map_err(Error::from)?;
            }
        }
    }
    if list.len() != pages as usize {
        return Err(EIO.into());
    }
    // SAFETY: The list has this many pages, which are pinned as long as the mapping lives.
    let base = unsafe { bindings::vmap_ro(list.as_mut_ptr(), list.len() as u32) };
    // INVARIANT: The pages were mapped above.
    let memfd = Memfd {
        base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
        folios,
        _file: file,
    };
    let window = Window {
        base: memfd.base,
        size,
        io: false,
    };
    let method = memfd.folios.method();
    let memfd = KBox::new(memfd, GFP_KERNEL).map_err(Error::from)?;
    tenure.lease().open(memfd)?;
    // SAFETY: The owner in the lease is the memfd, which keeps the pages mapped.
    Ok(unsafe { Region::new(window, method, Shown::Option("memfd"), tenure) })
}

fn raw(file: &File) -> *mut bindings::file {
    file.as_ptr().cast()
}

/// Return the seals of `file`, or `None` if it is not a readable memfd.
fn seals(file: &File) -> Option<u32> {
    // SAFETY: The file is open, so these fields do not change.
    let (mode, inode) = unsafe { ((*raw(file)).f_mode, (*raw(file)).f_inode) };
    // SAFETY: The open file keeps its inode.
    let is_regular = unsafe { (*inode).i_mode } & bindings::S_IFMT == bindings::S_IFREG;
    if mode & bindings::FMODE_READ == 0 || !is_regular {
        return None;
    }
    // SAFETY: The file is open.
    let mapping = unsafe { (*raw(file)).f_mapping };
    // SAFETY: The open file keeps its address space.
    if unsafe { bindings::shmem_mapping(mapping) } {
        // SAFETY: This is an inode of shmem.
        return Some(unsafe { bindings::shmem_seals(inode) });
    }
    #[cfg(CONFIG_HUGETLBFS)]
    // SAFETY: The file is open.
    if unsafe { bindings::is_file_hugepages(raw(file)) } {
        // SAFETY: This is an inode of hugetlbfs.
        return Some(unsafe { bindings::hugetlbfs_seals(inode) });
    }
    None
}

/// Pin the folios of the first `size` bytes, `pages` pages, of `file`.
fn pin(file: &File, size: u64, pages: usize) -> Result<Folios> {
    let mut folios = KVVec::with_capacity(pages, GFP_KERNEL)?;
    let mut offset = 0;
    // SAFETY: The file is open, and there is room for as many folios as it can have.
    let count = unsafe {
        bindings::memfd_pin_folios(
            raw(file),
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
