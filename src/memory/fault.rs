// SPDX-License-Identifier: GPL-2.0-only

//! Page faults on mapped extents.

use super::access::Access;
use super::around::map_pages;
use super::extents::MappedExtent;
#[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
use super::pmd::insert_pmd;
use super::space::Info;
use super::{Gate, MapMethod};
use crate::bindings;
use crate::image::{self, Problem};
use crate::linux::fs::{Fault, FaultResult};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

const PAGE_SIZE: u64 = bindings::PAGE_SIZE;

/// Bytes that one fault verifies at most: the pieces of an entry of 2 MiB.
const MOST_VERIFIED: u64 = 2 * image::layout::DIGEST_PIECE;

impl MappedExtent {
    /// Handle a page fault. Map only pages that `gate` lets through.
    ///
    /// # Errors
    ///
    /// The fault gets SIGBUS if the gate refuses the page, or if the page has to be copied and the
    /// memory cannot be read.
    #[inline]
    pub(crate) fn fault<'a>(
        fault: &Fault<'a, Self>,
        gate: &impl Gate,
    ) -> image::Result<FaultResult<'a>> {
        let Some(extent) = fault.mapping() else {
            return Ok(FaultResult::SIGBUS);
        };
        let info = extent.info();
        let (page, order) = (fault.page(), fault.order());
        if page > info.length / PAGE_SIZE {
            return Ok(FaultResult::SIGBUS);
        }
        let (first, length) = part(info, page, order);
        if length > 0 && !gate.is_open(info.offset + first, length) {
            // Verify the pieces of a PMD of 2 MiB at once, but not those of larger entries.
            if order > 0 && length > MOST_VERIFIED {
                return Ok(FaultResult::FALLBACK);
            }
            // Other threads of the process may wait for the lock of the area. mlock(2) repeats
            // a fault as long as it is retried, so retry only what has no answer yet.
            if !gate.is_decided(info.offset + first, length) {
                if let Some(retry) = fault.retry() {
                    return Ok(retry);
                }
            }
            match gate.open(info.offset + first, length) {
                // A part of it may be good.
                Err(_) if order > 0 => return Ok(FaultResult::FALLBACK),
                Err(error) if error.problem == Problem::Unreadable => {
                    return Ok(match extent.access() {
                        Ok(_) => FaultResult::HWPOISON,
                        Err(_) => FaultResult::SIGBUS,
                    });
                }
                result => result?,
            }
        }
        // A revocation unmaps what is inserted while there is a reader.
        let Ok(access) = extent.access() else {
            return Ok(FaultResult::SIGBUS);
        };
        if page >= info.length / PAGE_SIZE {
            return tail_fault(fault, info, &access, gate);
        }
        let length = length.min(info.length - first);
        if access.readable(info.offset + first, length) < length {
            return Ok(match order {
                0 => FaultResult::HWPOISON,
                _ => FaultResult::FALLBACK,
            });
        }
        let result = match info.method {
            // SAFETY: `fault` is a fault on a page of the extent, whose memory `access` keeps.
            _ if order == 0 => unsafe { map_pages(fault, info, &access, gate) },
            // SAFETY: The extent is on a DAX device, and `access` keeps its memory.
            MapMethod::Dax(_) => unsafe { bindings::dax_iomap_fault(fault.as_raw(), order) },
            // SAFETY: `fault` is a fault on pages of the extent, whose memory `access` keeps.
            _ => return Ok(unsafe { insert_pmd(fault, info, &access, gate) }),
        };
        // SAFETY: This is the result of handling the fault.
        Ok(unsafe { fault.result(result) })
    }

    /// Have `gate` open what a fault for an entry of `order` on page `page` may map. This may take
    /// long, and needs no locks. The fault finds errors.
    pub(crate) fn prepare(&self, page: u64, order: u32, gate: &impl Gate) {
        let info = self.info();
        // If a part is bad, the fault falls back to the page.
        let open = |order| {
            let (first, length) = part(info, page, order);
            gate.open(info.offset + first, length).is_ok()
        };
        if !open(order) && order > 0 {
            open(0);
        }
    }
}

/// Return the part of the extent that an entry of `order` maps for page `page`, which is in the
/// extent or the one after it: where it starts, and its length, both in bytes.
#[inline]
fn part(info: &Info, page: u64, order: u32) -> (u64, u64) {
    let first = (page >> order << order) * PAGE_SIZE;
    let most = (info.length + info.tail).saturating_sub(first);
    (first, (PAGE_SIZE << order).min(most))
}

/// Handle a fault on the page after the extent, which other files use too, by a copy.
fn tail_fault<'a>(
    fault: &Fault<'a, MappedExtent>,
    info: &Info,
    access: &Access<'_>,
    gate: &impl Gate,
) -> image::Result<FaultResult<'a>> {
    if info.tail == 0 {
        return Ok(FaultResult::SIGBUS);
    }
    if fault.order() > 0 {
        return Ok(FaultResult::FALLBACK);
    }
    let Some(page) = tail_page(info, access)? else {
        return Ok(FaultResult::OOM);
    };
    if !fault.is_write() {
        // SAFETY: `fault` is a fault on the copy, and `access` keeps the memory of the extent.
        let result = unsafe { map_pages(fault, info, access, gate) };
        // SAFETY: This is the result of handling the fault.
        return Ok(unsafe { fault.result(result) });
    }
    // The MM copies the page.
    // SAFETY: The extent holds a reference to the page. The MM gets its own.
    unsafe { bindings::get_page(page.as_ptr()) };
    // SAFETY: The current thread handles the fault.
    unsafe { (*fault.as_raw()).page = page.as_ptr() };
    // SAFETY: The fault returns a page, with a reference.
    Ok(unsafe { fault.result(0) })
}

/// Return a page with a copy of the last bytes of the extent's files, or `None` if there is no
/// memory. The extent keeps the page for the next call.
fn tail_page(info: &Info, access: &Access<'_>) -> image::Result<Option<NonNull<bindings::page>>> {
    let old = match info.good_tail() {
        Ok(page) => return Ok(Some(page)),
        Err(old) => old,
    };
    let flags = bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_ZERO;
    // SAFETY: A page fault may sleep for memory.
    let Some(new) = NonNull::new(unsafe { bindings::alloc_page(flags) }) else {
        return Ok(None);
    };
    // SAFETY: The page was allocated above.
    let address = unsafe { bindings::page_address(new.as_ptr()) };
    let length = info.tail.min(PAGE_SIZE) as usize;
    // SAFETY: The page is initialized with zeros, and nothing else accesses it.
    let bytes = unsafe { core::slice::from_raw_parts_mut(address.cast::<u8>(), length) };
    let read = image::Memory::read(access, info.offset + info.length, bytes);
    let stored = read.map(|()| {
        let place = &info.tail_page;
        place.compare_exchange(old, new.as_ptr(), Ordering::AcqRel, Ordering::Acquire)
    });
    if let Ok(Ok(_)) = stored {
        // A copy that has failed keeps its reference: other page faults may still use it, and the
        // kernel would not use its memory again.
        return Ok(Some(new));
    }
    // SAFETY: This is the only reference to the page, which was not stored.
    unsafe { bindings::put_page(new.as_ptr()) };
    // Either the read failed, or another thread has stored a page.
    Ok(stored?.map_or_else(NonNull::new, |_| None))
}

/// Have the kernel map pages. Without transparent huge pages it cannot insert PMD entries.
///
/// # Safety
///
/// None.
#[cfg(not(CONFIG_TRANSPARENT_HUGEPAGE))]
unsafe fn insert_pmd<'a>(
    _: &Fault<'a, MappedExtent>,
    _: &Info,
    _: &Access<'_>,
    _: &impl Gate,
) -> FaultResult<'a> {
    FaultResult::FALLBACK
}
