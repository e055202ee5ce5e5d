// SPDX-License-Identifier: GPL-2.0-only

//! Splicing from files: pages that go into a pipe (`struct splice_pipe_desc`).

use super::{INode, Operations};
use crate::bindings;
use crate::linux::mm::Page;
use core::mem;
use core::ptr;

/// Number of pages that are put into a pipe at a time: the default size of a pipe.
const PAGES: usize = 16;

/// Parts of pages, in the order of their bytes.
///
/// # Invariants
///
/// The first `count` of `pages` are valid, and this owns a reference to each. The same elements of
/// `parts` lie within the pages.
pub(crate) struct PipePages {
    pages: [*mut bindings::page; PAGES],
    parts: [bindings::partial_page; PAGES],
    count: usize,
}

impl PipePages {
    /// Make an empty list.
    pub(super) fn new() -> Self {
        // INVARIANT: The array of pages is empty.
        PipePages {
            pages: [ptr::null_mut(); PAGES],
            parts: [pin_init::zeroed(); PAGES],
            count: 0,
        }
    }

    /// Add `length` bytes at `offset` of `page`, whose content must not change. Return false if it
    /// does not fit, or if the page does not have these bytes.
    pub(crate) fn push(&mut self, page: Page<'_>, offset: u32, length: u32) -> bool {
        let fits = u64::from(offset) + u64::from(length) <= bindings::PAGE_SIZE;
        if self.count == PAGES || !fits {
            return false;
        }
        self.pages[self.count] = page.get();
        self.parts[self.count] = bindings::partial_page {
            offset,
            len: length,
            private: 0,
        };
        // INVARIANT: `get` got a reference, and the bytes are in the page.
        self.count += 1;
        true
    }

    /// Put the pages into `pipe`. Return the number of bytes that had room, or an error code.
    ///
    /// # Safety
    ///
    /// `pipe` must be valid and locked.
    pub(super) unsafe fn give_to(mut self, pipe: *mut bindings::pipe_inode_info) -> isize {
        let mut description = bindings::splice_pipe_desc {
            pages: self.pages.as_mut_ptr(),
            partial: self.parts.as_mut_ptr(),
            nr_pages: mem::take(&mut self.count) as kernel::ffi::c_int,
            nr_pages_max: PAGES as u32,
            ops: &raw const bindings::nosteal_pipe_buf_ops,
            spd_release: Some(Self::release),
        };
        // SAFETY: The caller passes a locked pipe. The arrays have this many pages, whose
        // references go to the pipe and to `release`.
        unsafe { bindings::splice_to_pipe(pipe, &mut description) }
    }

    /// Release a page that had no room.
    ///
    /// # Safety
    ///
    /// The description must have that page, with a reference.
    unsafe extern "C" fn release(
        description: *mut bindings::splice_pipe_desc,
        number: kernel::ffi::c_uint,
    ) {
        // SAFETY: The caller passes a description with that page and its reference.
        unsafe { bindings::put_page(*(*description).pages.add(number as usize)) };
    }
}

impl Drop for PipePages {
    fn drop(&mut self) {
        for &page in &self.pages[..self.count] {
            // SAFETY: By the type invariant this owns the reference.
            unsafe { bindings::put_page(page) };
        }
    }
}

/// Put pages of a file into a pipe, or copies of them.
///
/// # Safety
///
/// `raw` must be an open file of type `T`, `position` valid, and `pipe` locked.
pub(super) unsafe extern "C" fn splice_read<T: Operations>(
    raw: *mut bindings::file,
    position: *mut bindings::loff_t,
    pipe: *mut bindings::pipe_inode_info,
    length: usize,
    flags: kernel::ffi::c_uint,
) -> isize {
    // SAFETY: The file is open, and the position belongs to this call.
    let (file, start) = unsafe { (INode::<T>::of_file(raw), *position) };
    // The VFS does not allow negative ones.
    let start = start as u64;
    let end = start.saturating_add(length as u64).min(file.size());
    let (mut at, mut result) = (start, 0);
    while at < end {
        let mut pages = PipePages::new();
        match T::splice_read(file, at, end - at, &mut pages) {
            Ok(true) => {}
            // SAFETY: The caller passes a file, a position and a pipe that are valid.
            Ok(false) => unsafe {
                return bindings::copy_splice_read(raw, position, pipe, length, flags);
            },
            Err(error) => {
                result = error.to_errno() as isize;
                break;
            }
        }
        // SAFETY: The caller passes a locked pipe.
        result = unsafe { pages.give_to(pipe) };
        if result <= 0 {
            break;
        }
        T::spliced(file, result as u64);
        at += result as u64;
    }
    if at == start {
        return result;
    }
    // SAFETY: The position belongs to this call.
    unsafe { *position = at as bindings::loff_t };
    (at - start) as isize
}
