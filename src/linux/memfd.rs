// SPDX-License-Identifier: GPL-2.0-only

//! Sealed memfds: memory that cannot change, as the kernel guarantees
//! (`include/linux/memfd.h`, `include/linux/shmem_fs.h`).

use super::mm::{
    CacheMode,
    MapMethod,
    Mappable,
    Owner, //
};
use crate::linux::prelude::*;

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
    /// Takes a reference to `file`, if it is such a file. We keep no other kinds of files, because
    /// they may hold references themselves, such as a socket to the files sent over it.
    pub(crate) fn new(file: &File) -> Option<Self> {
        // INVARIANT: Checked below.
        let memfd = Memfd(ARef::from(file));
        (memfd.seals() >= 0).then_some(memfd)
    }

    fn raw(&self) -> *mut bindings::file {
        self.0.as_ptr().cast()
    }

    /// Returns the seals, or a negative number if the file cannot have any.
    fn seals(&self) -> i32 {
        // SAFETY: The file is open.
        unsafe { bindings::file_seals(self.raw()) }
    }

    /// Returns the size in bytes, which does not change.
    ///
    /// Errors: `EPERM` if seals are missing.
    pub(crate) fn sealed_size(&self) -> Result<u64> {
        if self.seals() as u32 & SEALS != SEALS {
            return Err(EPERM);
        }
        // SAFETY: The file is open, and a sealed one does not change its size.
        Ok(unsafe { (*(*self.raw()).f_inode).i_size as u64 })
    }
}

/// The folios of a memfd.
///
/// # Invariants
///
/// Each folio is pinned once.
struct Folios(KVVec<*mut bindings::folio>);

impl Folios {
    /// Pins the folios of the first `size` bytes, `pages` pages, of `memfd`.
    fn pin(memfd: &Memfd, size: u64, pages: usize) -> Result<Self> {
        let mut folios = KVVec::with_capacity(pages, GFP_KERNEL_ACCOUNT)?;
        let (last, mut offset) = ((size - 1) as bindings::loff_t, 0);
        let (file, place) = (memfd.raw(), folios.as_mut_ptr());
        // SAFETY: The file is open, and there is room for as many folios as it can have.
        let count =
            unsafe { bindings::memfd_pin_folios(file, 0, last, place, pages as u32, &mut offset) };
        if count < 0 {
            return Err(Error::from_errno(count as ffi::c_int));
        }
        // SAFETY: The function has written this many, which is not more than the capacity.
        unsafe { folios.inc_len(count as usize) };
        // INVARIANT: The folios were pinned above.
        let folios = Folios(folios);
        folios.bring_up_to_date(memfd)?;
        Ok(folios)
    }

    /// Keeps the folios pinned for good. Returns the list of them.
    fn keep(mut self) -> KVVec<*mut bindings::folio> {
        core::mem::replace(&mut self.0, KVVec::new())
    }

    /// Returns true if they are hugetlb's, not shmem's.
    fn is_hugetlb(&self) -> bool {
        // SAFETY: By the type invariant the folio is pinned.
        let is_hugetlb = |&folio: &*mut _| unsafe { bindings::folio_test_hugetlb(folio) };
        self.0.first().is_some_and(is_hugetlb)
    }

    /// Returns each folio with its number of pages.
    fn with_pages(&self) -> impl Iterator<Item = (*mut bindings::folio, usize)> + '_ {
        self.0.iter().map(|&folio| {
            // SAFETY: By the type invariant the folio is pinned.
            (folio, unsafe { bindings::folio_nr_pages(folio) } as usize)
        })
    }

    /// Brings all folios of `memfd` up to date, as the first read(2) does. Until then, shmem's
    /// folios contain old kernel memory after fallocate(2).
    ///
    /// Errors: `EIO` if a folio is not up to date then, for example if fallocate(2) fails at the
    /// same time and removes it; the errors of shmem.
    fn bring_up_to_date(&self, memfd: &Memfd) -> Result {
        let mut index = 0;
        for (folio, pages) in self.with_pages() {
            // SAFETY: By the type invariant the folio is pinned.
            let is_up_to_date = || unsafe { bindings::folio_test_uptodate(folio) };
            if !is_up_to_date() && !self.is_hugetlb() {
                // SAFETY: The file is open, and one of shmem. The returned reference is put.
                unsafe {
                    let mapping = (*memfd.raw()).f_mapping;
                    let read = from_err_ptr(bindings::shmem_read_folio(mapping, index))?;
                    bindings::put_page(read.cast());
                }
            }
            if !is_up_to_date() {
                return Err(EIO);
            }
            index += pages;
        }
        Ok(())
    }

    /// Maps the first `count` pages into the kernel.
    fn map(&self, count: usize) -> Result<NonNull<u8>> {
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for (folio, of_folio) in self.with_pages() {
            // The struct pages of a folio are contiguous, see helpers.c.
            let first = folio.cast::<bindings::page>();
            for number in 0..of_folio.min(count - pages.len()) {
                pages.push(first.wrapping_add(number), GFP_KERNEL_ACCOUNT)?;
            }
        }
        if pages.len() < count {
            return Err(EIO);
        }
        // SAFETY: The list has this many pages, which are pinned as long as the mapping lives.
        let base = unsafe { bindings::vmap_ro(pages.as_mut_ptr(), count as u32) };
        NonNull::new(base.cast()).ok_or(ENOMEM)
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        // SAFETY: By the type invariant each folio is pinned once.
        unsafe { bindings::unpin_folios(self.0.as_mut_ptr(), self.0.len()) };
    }
}

/// The content of a sealed memfd, mapped into the kernel.
///
/// # Invariants
///
/// `base` is what vmap() returned for the first `size` bytes of a sealed file. The folios that are
/// mapped there, in this order, are pinned once each.
pub(crate) struct Content {
    base: NonNull<u8>,
    size: u64,
    /// Bytes of the folios. The last one may extend beyond the file.
    pub(crate) pinned: u64,
    is_hugetlb: bool,
    file: Memfd,
}

// SAFETY: Folios may be unpinned, and mappings removed, by any thread.
unsafe impl Send for Content {}
// SAFETY: Values reachable through a shared reference do not change.
unsafe impl Sync for Content {}

impl Content {
    /// Maps the content of `memfd`.
    ///
    /// Errors: `EPERM` if seals are missing, `EINVAL` if the file is empty or has too many pages,
    /// `ENOMEM`.
    pub(crate) fn new(memfd: &Memfd) -> Result<Self> {
        let size = memfd.sealed_size()?;
        let count = size.div_ceil(bindings::PAGE_SIZE);
        if count == 0 || count > u32::MAX.into() {
            return Err(EINVAL);
        }
        let folios = Folios::pin(memfd, size, count as usize)?;
        let content = Content {
            base: folios.map(count as usize)?,
            size,
            pinned: folios
                .with_pages()
                .map(|(_, pages)| pages as u64)
                .sum::<u64>()
                * bindings::PAGE_SIZE,
            is_hugetlb: folios.is_hugetlb(),
            file: memfd.clone(),
        };
        // INVARIANT: The pages were mapped above. The content keeps the pins; it finds the folios
        // where they are mapped, which needs no list of them.
        drop(folios.keep());
        Ok(content)
    }

    /// Returns how files are mapped.
    ///
    /// The folios are in the memfd's page cache; its reverse mappings do not include the mappings
    /// of our files. They can be mapped as counted pages nevertheless, because nothing that needs
    /// reverse mappings can happen: the seals forbid hole punching and truncation, the reference to
    /// the file forbids eviction, and the pins forbid migration and swapping.
    ///
    /// A hugetlb folio is mapped by frame: its pages are not counted one by one, and its tail's
    /// struct pages may be read-only.
    fn method(&self) -> MapMethod {
        if self.is_hugetlb {
            MapMethod::Frames(CacheMode::WriteBack)
        } else {
            MapMethod::Pages
        }
    }
}

// SAFETY: Only the drop unmaps the pages. The file is sealed, see `method`. `Folios::map` maps all
// pages of a folio in order, and nothing splits a folio that is pinned.
unsafe impl Owner for Content {
    fn mappable(&self) -> Option<Mappable> {
        Some(Mappable::new(self.base, self.size, self.method()))
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file.0)
    }

    fn has_frame(&self, frame: usize) -> Option<bool> {
        // SAFETY: The function looks the number up.
        let mapping = unsafe { bindings::frame_mapping(frame) };
        // A failed page may have been removed from the page cache.
        // SAFETY: The file is open. The address spaces are only compared.
        (!mapping.is_null()).then(|| mapping == unsafe { (*self.file.raw()).f_mapping })
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut offset = 0;
        while offset < self.size {
            let address = self.base.as_ptr().wrapping_add(offset as usize);
            // SAFETY: By the type invariant a folio that is pinned begins here. Nothing uses the
            // mapping any longer, which ends below.
            let pages = unsafe {
                let mut folio = bindings::vmalloc_to_page(address.cast()).cast();
                let pages = bindings::folio_nr_pages(folio);
                bindings::unpin_folios(&mut folio, 1);
                pages
            };
            offset += pages as u64 * bindings::PAGE_SIZE;
        }
        // SAFETY: By the type invariant vmap() returned this.
        unsafe { bindings::vunmap(self.base.as_ptr().cast()) };
    }
}
