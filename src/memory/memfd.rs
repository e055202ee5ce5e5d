// SPDX-License-Identifier: GPL-2.0

//! A sealed memfd: memory that the kernel promises never to change.
//!
//! The memfd's own folios are pinned and mapped; nothing is copied.

use super::lease::Lease;
use super::{CacheMode, Files, Mapping, Region, Shown, Source};
use crate::bindings;
use crate::vfs::FileRef;
use core::ptr::NonNull;
use kernel::{prelude::*, sync::Arc};

/// Seals without which the content could change.
const SEALS: u32 = bindings::F_SEAL_WRITE | bindings::F_SEAL_SHRINK | bindings::F_SEAL_GROW;

/// Why a file descriptor's memory cannot be had.
pub(crate) enum OpenError {
    /// It is no memfd, or not readable.
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
    /// Decide how files are mapped.
    ///
    /// The folios are in the memfd's page cache, whose reverse mappings do not know the mappings of our files. They
    /// may be mapped as ordinary pages all the same, because nothing that needs reverse mappings can happen: the
    /// seals forbid punching holes and truncation, our reference to the file forbids eviction, and the pins forbid
    /// migration and swapping.
    ///
    /// A hugetlb folio is mapped by frame: its pages are not counted one by one, and the struct pages of its tail may
    /// be read-only.
    fn files(&self) -> Files {
        let hugetlb = |&folio: &*mut bindings::folio| {
            // SAFETY: By the invariant the folio is pinned.
            unsafe { bindings::daxfs_helper_folio_is_hugetlb(folio) }
        };
        if self.0.iter().any(hugetlb) {
            Files::Frames {
                io: false,
                cache: CacheMode::WriteBack,
            }
        } else {
            Files::Pages
        }
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        // SAFETY: By the invariant the pins are ours to give back.
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
    _file: FileRef,
}

// SAFETY: Pins and mappings are bound to no thread.
unsafe impl Send for Memfd {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Memfd {}

// SAFETY: The mapping lives as long as the object.
unsafe impl Source for Memfd {}

impl Drop for Memfd {
    fn drop(&mut self) {
        // SAFETY: By the invariant; the folios are unpinned behind this.
        unsafe { bindings::vunmap(self.base.as_ptr().cast()) };
    }
}

/// Map the whole of the memfd `file`.
///
/// # Errors
///
/// See [`OpenError`].
pub(crate) fn open(file: FileRef, lease: &Arc<Lease>) -> Result<Region, OpenError> {
    let mut seals = 0;
    // SAFETY: The file is valid; the function looks at it only as far as it has proved what it is.
    if !unsafe { bindings::daxfs_helper_memfd_seals(file.as_raw(), &mut seals) } {
        return Err(OpenError::NoMemfd);
    }
    if seals & SEALS != SEALS {
        return Err(OpenError::NotSealed);
    }
    // SAFETY: The file is valid; the seals keep its size.
    let size = unsafe { bindings::daxfs_helper_file_size(file.as_raw()) };
    let pages = size.div_ceil(bindings::DAXFS_PAGE_SIZE);
    if pages == 0 || pages > u32::MAX.into() {
        return Err(EINVAL.into());
    }

    let folios = pin(&file, size, pages as usize)?;
    let mut list = KVVec::with_capacity(pages as usize, GFP_KERNEL).map_err(Error::from)?;
    for &folio in &folios.0 {
        // SAFETY: The folio is pinned.
        let count = unsafe { bindings::daxfs_helper_folio_pages(folio) };
        for number in 0..count {
            if list.len() < pages as usize {
                // SAFETY: The folio has that page.
                let page = unsafe { bindings::daxfs_helper_folio_page(folio, number) };
                list.push(page, GFP_KERNEL).map_err(Error::from)?;
            }
        }
    }
    if list.len() != pages as usize {
        return Err(EIO.into());
    }
    // SAFETY: The list holds that many pages, pinned for as long as the mapping will live.
    let base = unsafe { bindings::daxfs_helper_map_pages(list.as_mut_ptr(), list.len() as u32) };
    // INVARIANT: Mapped just now.
    let memfd = Memfd {
        base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
        folios,
        _file: file,
    };
    let mapping = Mapping {
        base: memfd.base,
        size,
        io: false,
    };
    let files = memfd.folios.files();
    lease.open(KBox::new(memfd, GFP_KERNEL).map_err(Error::from)?);
    Ok(Region::new(
        mapping,
        files,
        Shown::Option("memfd"),
        lease.clone(),
    ))
}

/// Pins the folios of the first `size` bytes, `pages` pages, of `file`.
fn pin(file: &FileRef, size: u64, pages: usize) -> Result<Folios> {
    let mut folios = KVVec::with_capacity(pages, GFP_KERNEL)?;
    let mut offset = 0;
    // SAFETY: The file is valid, and there is room for as many folios as it can have.
    let count = unsafe {
        bindings::memfd_pin_folios(
            file.as_raw(),
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
    // SAFETY: That many were written, within the capacity.
    unsafe { folios.inc_len(count as usize) };
    // INVARIANT: They were pinned just now.
    Ok(Folios(folios))
}
