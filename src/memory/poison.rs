// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is known to have failed.
//!
//! The kernel marks the struct page of failed memory. Checking it costs more than the rest of a
//! small read, so pages are not checked before any memory of the machine has failed. DAX devices
//! announce failures to their holder. For other memory the kernel has no notifier, but the
//! tracepoint `memory_failure_event` reports all failures.
//!
//! A reserved range has struct pages only while it is mounted. Its failed frames are recorded here
//! until the module is unloaded, so that the next mount refuses them too.

#[cfg(CONFIG_TRACEPOINTS)]
use super::registry;
use crate::bindings;
#[cfg(CONFIG_TRACEPOINTS)]
use core::ptr;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{prelude::*, sync::global_lock};

/// Set if memory of this machine has failed, or if the kernel does not report failures.
static FAILED: AtomicBool = AtomicBool::new(false);

global_lock! {
    // SAFETY: `Watch::start` initializes it, before the first region is opened.
    unsafe(uninit) static FRAMES: Mutex<KVec<usize>> = KVec::new();
}

/// Return true if any memory has failed, so that pages must be checked.
#[inline]
pub(super) fn any() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Return the struct page of page frame `frame`, if it has one.
fn page(frame: usize) -> Option<*mut bindings::page> {
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

/// Mark page frame `frame` as failed, if it has a struct page.
pub(super) fn mark(frame: usize) {
    FAILED.store(true, Ordering::Release);
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

/// Return true if memory has failed since boot.
fn failed_before() -> bool {
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

/// The registration of a probe that is called when memory fails. Dropping it unregisters the probe.
///
/// # Invariants
///
/// [`Self::failed`] is registered with the tracepoint, if there is one.
pub(super) struct Watch(
    #[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))] Option<NonNull<bindings::tracepoint>>,
);

// SAFETY: A probe may be unregistered by any thread.
unsafe impl Send for Watch {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Watch {}

impl Watch {
    /// Register the probe.
    ///
    /// # Safety
    ///
    /// This must be called once, and the result be dropped before the registry.
    pub(super) unsafe fn start() -> Self {
        // SAFETY: The caller guarantees that this is called once.
        unsafe { FRAMES.init() };
        let found = Self::subscribe();
        // Check all pages if memory has failed before, or if no failure would be reported.
        if found.is_none() || failed_before() {
            FAILED.store(true, Ordering::Release);
        }
        // INVARIANT: `subscribe` has registered the probe.
        Watch(found)
    }

    /// Register with the tracepoint, if the kernel has it.
    #[cfg(CONFIG_TRACEPOINTS)]
    fn subscribe() -> Option<NonNull<bindings::tracepoint>> {
        let mut found: *mut bindings::tracepoint = ptr::null_mut();
        let argument = (&raw mut found).cast();
        // SAFETY: `find` gets a place for a pointer, and is not called after this returns.
        unsafe { bindings::for_each_kernel_tracepoint(Some(Self::find), argument) };
        let found = NonNull::new(found)?;
        // SAFETY: The probe has the prototype of the tracepoint, and `drop` unregisters it.
        let registered = unsafe {
            bindings::tracepoint_probe_register(found.as_ptr(), Self::probe(), ptr::null_mut())
        };
        (registered == 0).then_some(found)
    }

    #[cfg(not(CONFIG_TRACEPOINTS))]
    fn subscribe() -> Option<NonNull<bindings::tracepoint>> {
        None
    }

    #[cfg(CONFIG_TRACEPOINTS)]
    fn probe() -> *mut kernel::ffi::c_void {
        let probe: unsafe extern "C" fn(_, _, _, _) = Self::failed;
        probe as *mut kernel::ffi::c_void
    }

    /// Store the tracepoint of memory failures.
    ///
    /// # Safety
    ///
    /// `tracepoint` must be valid, and `found` the place for a pointer to one.
    #[cfg(CONFIG_TRACEPOINTS)]
    unsafe extern "C" fn find(
        tracepoint: *mut bindings::tracepoint,
        found: *mut kernel::ffi::c_void,
    ) {
        // SAFETY: The caller passes a valid tracepoint.
        let name = unsafe { (*tracepoint).name };
        // SAFETY: The name of a tracepoint is a static string.
        let name = unsafe { CStr::from_char_ptr(name) };
        if name == c"memory_failure_event" {
            // SAFETY: The caller passes a place for a pointer.
            unsafe { *found.cast::<*mut bindings::tracepoint>() = tracepoint };
        }
    }

    /// Handle the failure of any memory of the machine. This does not sleep.
    ///
    /// # Safety
    ///
    /// None. All arguments are ignored.
    #[cfg(CONFIG_TRACEPOINTS)]
    unsafe extern "C" fn failed(
        _data: *mut kernel::ffi::c_void,
        _frame: kernel::ffi::c_ulong,
        _kind: kernel::ffi::c_int,
        _result: kernel::ffi::c_int,
    ) {
        FAILED.store(true, Ordering::Release);
        // SAFETY: The registry is dropped after the probe is unregistered.
        unsafe { registry::look_for_failures() };
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *FRAMES.lock() = KVec::new();
        #[cfg(CONFIG_TRACEPOINTS)]
        if let Some(tracepoint) = self.0 {
            let tracepoint = tracepoint.as_ptr();
            // SAFETY: By the type invariant the probe is registered.
            unsafe {
                bindings::tracepoint_probe_unregister(tracepoint, Self::probe(), ptr::null_mut())
            };
            // SAFETY: This may be called in any context that can sleep. It waits for the probe.
            unsafe { bindings::tracepoint_synchronize_unregister() };
        }
    }
}
