// SPDX-License-Identifier: GPL-2.0-only

//! Lending pages of a region to a pipe.

use super::{MapMethod, Region};
use crate::bindings;
use crate::linux::fs::PipePages;
use core::ptr::NonNull;
use kernel::prelude::*;

impl Region {
    /// Add the pages of `length` bytes at `offset` to `pages`, as far as there is room and the
    /// memory has not failed. Return false if the memory of a page does not stay as long as the
    /// page has users: only a memfd's does.
    ///
    /// # Errors
    ///
    /// `EIO` if the range is not in the region, or if the memory of the first page has failed.
    pub(crate) fn lend(&self, offset: u64, length: u64, pages: &mut PipePages) -> Result<bool> {
        if !matches!(self.method, MapMethod::Pages) {
            return Ok(false);
        }
        let access = self.access()?;
        let end = offset.checked_add(length).ok_or(EIO)?;
        let readable = access.readable(offset, length);
        if end > self.window.size || readable == 0 {
            return Err(EIO);
        }
        let end = offset + readable;
        let mut at = offset;
        while at < end && !pages.is_full() {
            let within = at % bindings::PAGE_SIZE;
            let part = (bindings::PAGE_SIZE - within).min(end - at);
            let from = self.window.base.as_ptr().wrapping_add(at as usize);
            // SAFETY: Only memfds are mapped by pages, and vmap() has mapped their pages.
            let page = unsafe { bindings::vmalloc_to_page(from.cast()) };
            let page = NonNull::new(page).ok_or(EIO)?;
            // SAFETY: The memfd has a reference to its page, which is the page's own memory. The
            // numbers are smaller than a page.
            unsafe { pages.push(page, within as u32, part as u32) };
            at += part;
        }
        Ok(true)
    }
}
