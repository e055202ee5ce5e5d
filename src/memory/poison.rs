// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is known to have failed.
//!
//! The kernel marks the struct page of failed memory. Checking it costs more than the rest of a
//! small read, so pages are not checked before any memory of the machine has failed. DAX devices
//! announce failures to their holder, or list them as bad blocks, which readers of a
//! [`lease`](super::lease) notice. For other memory the kernel has no notifier, so
//! [`failures`](super::failures) watches a tracepoint.
//!
//! A reserved range has struct pages only while it is mounted. Its failed frames are recorded here
//! until the module is unloaded, so that the next mount refuses them too.

use crate::bindings;
use crate::linux::global_mutex;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;

/// Set if memory of this machine has failed, or if the kernel does not report failures.
static FAILED: AtomicBool = AtomicBool::new(false);

global_mutex! {
    static FRAMES: KVec<usize> = KVec::new();
}

/// Return true if any memory has failed, so that pages must be checked.
#[inline]
pub(super) fn any() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Return the struct page of page frame `frame`, if it has one.
pub(super) fn page(frame: usize) -> Option<*mut bindings::page> {
    // SAFETY: This takes any number.
    if !unsafe { bindings::pfn_valid(frame) } {
        return None;
    }
    // SAFETY: The frame has a struct page.
    Some(unsafe { bindings::pfn_to_page(frame) })
}

/// Return true if the memory of page frame `frame` is known to have failed.
pub(super) fn frame_has_failed(frame: usize) -> bool {
    let Some(page) = page(frame) else {
        return false;
    };
    // SAFETY: The struct page is valid.
    if unsafe { bindings::page_hwpoison(page) } {
        return true;
    }
    // hugetlb marks the folio only.
    // SAFETY: The struct page is valid.
    let folio = unsafe { bindings::page_folio(page) };
    // SAFETY: The struct page is valid, and so is that of its folio.
    unsafe { bindings::folio_test_hugetlb(folio) && bindings::folio_test_hwpoison(folio) }
}

/// Return true if the memory at kernel address `at` is known to have failed.
///
/// # Safety
///
/// `at` must be mapped, in the direct mapping or the vmalloc area.
pub(super) unsafe fn has_failed(at: *const u8) -> bool {
    // SAFETY: The caller guarantees what `frame_at` requires.
    frame_has_failed(unsafe { frame_at(at) })
}

/// Return the page frame at kernel address `at`.
///
/// # Safety
///
/// As for [`has_failed`].
#[inline]
pub(super) unsafe fn frame_at(at: *const u8) -> usize {
    // SAFETY: This takes any address.
    if unsafe { bindings::is_vmalloc_addr(at.cast()) } {
        // SAFETY: The caller guarantees that the address is mapped.
        unsafe { bindings::vmalloc_to_pfn(at.cast()) }
    } else {
        // SAFETY: The caller guarantees that the address is in the direct mapping.
        unsafe { bindings::virt_to_pfn(at.cast()) }
    }
}

/// Return the first page frame of the folio that page frame `frame` is part of.
pub(super) fn first_of_folio(frame: usize) -> usize {
    let Some(page) = page(frame) else {
        return frame;
    };
    // SAFETY: The struct page is valid.
    let folio = unsafe { bindings::page_folio(page) };
    // SAFETY: The struct page is valid, and so is that of its folio.
    unsafe { bindings::folio_pfn(folio) }
}

/// Return the page frames that fail with page frame `frame`: a hugetlb folio fails as a whole.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(super) fn failing_with(frame: usize) -> Range<usize> {
    let single = frame..frame + 1;
    let Some(page) = page(frame) else {
        return single;
    };
    // SAFETY: The struct page is valid.
    let folio = unsafe { bindings::page_folio(page) };
    // SAFETY: The struct page of the folio is valid.
    if !unsafe { bindings::folio_test_hugetlb(folio) } {
        return single;
    }
    // SAFETY: As above.
    let first = unsafe { bindings::folio_pfn(folio) };
    // SAFETY: As above.
    let count = unsafe { bindings::folio_nr_pages(folio) };
    first..first + count
}

/// Mark page frame `frame` as failed, if it has a struct page.
pub(super) fn mark(frame: usize) {
    check_pages();
    if let Some(page) = page(frame) {
        // SAFETY: The struct page is valid.
        unsafe { bindings::set_page_hwpoison(page) };
    }
}

/// Remove the mark of page frame `frame`.
pub(super) fn unmark(frame: usize) {
    if let Some(page) = page(frame) {
        // SAFETY: The struct page is valid.
        unsafe { bindings::clear_page_hwpoison(page) };
    }
}

/// Empties the record of failed frames when it is dropped.
pub(super) struct Record;

impl Drop for Record {
    fn drop(&mut self) {
        *FRAMES.lock() = KVec::new();
    }
}

/// Have pages checked from now on.
pub(super) fn check_pages() {
    FAILED.store(true, Ordering::Release);
}

/// Return true if memory has failed since boot.
#[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))]
pub(super) fn failed_before() -> bool {
    #[cfg(CONFIG_MEMORY_FAILURE)]
    for node in 0..bindings::MAX_NUMNODES {
        // SAFETY: This takes any number of a possible node. An online node has the data.
        if unsafe { bindings::node_online(node) && bindings::node_failures(node) > 0 } {
            return true;
        }
    }
    false
}

/// Record page frame `frame` as failed, because its struct page does not last.
pub(super) fn record(frame: usize) {
    let mut frames = FRAMES.lock();
    if !frames.contains(&frame) && frames.push(frame, GFP_KERNEL).is_err() {
        pr_warn!(
            "no memory to record that page frame {:#x} has failed\n",
            frame
        );
    }
}

/// Mark the recorded frames among `count` frames from `first` on, all of which have struct pages.
pub(super) fn mark_recorded(first: usize, count: usize) {
    for &frame in FRAMES.lock().iter() {
        if frame >= first && frame - first < count {
            mark(frame);
        }
    }
}
