// SPDX-License-Identifier: GPL-2.0

//! Memory that is known to have failed.
//!
//! The kernel marks the struct page of failed memory. Looking at it for each read and each fault costs more than
//! the rest of a small read, so pages are looked at only once any memory of the machine has failed. DAX devices
//! announce failures to their holder. For other memory the kernel has no notifier; its tracepoint
//! `memory_failure_event` reports every failure.
//!
//! A reserved range has struct pages only while it is mounted. Its failed frames are recorded here, so that the next
//! mount refuses them too, until the module is unloaded.

use super::registry;
use crate::bindings;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{prelude::*, sync::global_lock};

/// Whether memory of this machine has failed. Also set where the kernel would not tell.
static FAILED: AtomicBool = AtomicBool::new(false);

global_lock! {
    // SAFETY: Initialized in `Watch::start`, before anything else of this room is used.
    unsafe(uninit) static FRAMES: Mutex<KVec<usize>> = KVec::new();
}

/// Return whether any memory has failed, so that pages have to be looked at.
#[inline]
pub(super) fn any() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Return whether the memory of page frame `frame` is known to have failed.
pub(super) fn frame_has_failed(frame: usize) -> bool {
    // SAFETY: Looks at the struct page if there is one.
    unsafe { bindings::daxfs_helper_frame_failed(frame) }
}

/// Return whether the memory at kernel address `at` is known to have failed.
///
/// # Safety
///
/// `at` must be mapped in the direct mapping or by vmap().
pub(super) unsafe fn has_failed(at: *const u8) -> bool {
    // SAFETY: By the contract.
    frame_has_failed(unsafe { frame_at(at) })
}

/// Return the page frame at kernel address `at`.
///
/// # Safety
///
/// As for [`has_failed`].
pub(super) unsafe fn frame_at(at: *const u8) -> usize {
    // SAFETY: By the contract.
    unsafe { bindings::daxfs_helper_frame_at(at.cast()) }
}

/// Mark page frame `frame`, which has a struct page, as failed.
pub(super) fn mark(frame: usize) {
    FAILED.store(true, Ordering::Release);
    // SAFETY: Sets a flag of the struct page.
    unsafe { bindings::daxfs_helper_mark_failed(frame) };
}

/// Remove the mark of page frame `frame`.
pub(super) fn unmark(frame: usize) {
    // SAFETY: Clears a flag of the struct page.
    unsafe { bindings::daxfs_helper_unmark_failed(frame) };
}

/// Record page frame `frame`, whose struct page does not last.
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

/// The subscription to the kernel's announcements of failed memory. Dropping it ends it.
///
/// # Invariants
///
/// [`Self::failed`] is registered with the tracepoint, if there is one.
pub(super) struct Watch(
    #[cfg_attr(not(CONFIG_TRACEPOINTS), allow(dead_code))] Option<NonNull<bindings::tracepoint>>,
);

// SAFETY: A tracepoint may be used by any thread.
unsafe impl Send for Watch {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Watch {}

impl Watch {
    /// Start to watch. To be called once.
    pub(super) fn start() -> Self {
        // SAFETY: Called once, before the first mount.
        unsafe { FRAMES.init() };
        let found = Self::subscribe();
        // Look at all pages if memory has failed before, or if no failure would be reported.
        // SAFETY: Adds up counters of the machine's nodes.
        let before = unsafe { bindings::daxfs_helper_failures() };
        if found.is_none() || before > 0 {
            FAILED.store(true, Ordering::Release);
        }
        // INVARIANT: Registered just now.
        Watch(found)
    }

    /// Register with the tracepoint, if the kernel has it.
    #[cfg(CONFIG_TRACEPOINTS)]
    fn subscribe() -> Option<NonNull<bindings::tracepoint>> {
        let mut found: *mut bindings::tracepoint = ptr::null_mut();
        // SAFETY: The callback only writes to `found`, during this call.
        unsafe {
            bindings::for_each_kernel_tracepoint(Some(Self::find), (&raw mut found).cast());
        }
        let found = NonNull::new(found)?;
        // SAFETY: The probe has the tracepoint's prototype, and is unregistered in `drop`.
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

    /// Note the tracepoint of memory failures.
    ///
    /// # Safety
    ///
    /// `tracepoint` must be valid, and `found` the place for a pointer to one.
    #[cfg(CONFIG_TRACEPOINTS)]
    unsafe extern "C" fn find(
        tracepoint: *mut bindings::tracepoint,
        found: *mut kernel::ffi::c_void,
    ) {
        // SAFETY: By the contract the tracepoint is valid, and its name is a string.
        let name = unsafe { CStr::from_char_ptr((*tracepoint).name) };
        if name == c"memory_failure_event" {
            // SAFETY: By the contract.
            unsafe { *found.cast::<*mut bindings::tracepoint>() = tracepoint };
        }
    }

    /// Note that some memory of the machine has failed, no matter whose. Does not sleep.
    ///
    /// # Safety
    ///
    /// As for a probe of the tracepoint; all arguments are ignored.
    #[cfg(CONFIG_TRACEPOINTS)]
    unsafe extern "C" fn failed(
        _data: *mut kernel::ffi::c_void,
        _frame: kernel::ffi::c_ulong,
        _kind: kernel::ffi::c_int,
        _result: kernel::ffi::c_int,
    ) {
        FAILED.store(true, Ordering::Release);
        registry::look_for_failures();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *FRAMES.lock() = KVec::new();
        #[cfg(CONFIG_TRACEPOINTS)]
        if let Some(tracepoint) = self.0 {
            let tracepoint = tracepoint.as_ptr();
            // SAFETY: By the invariant it is registered.
            unsafe {
                bindings::tracepoint_probe_unregister(tracepoint, Self::probe(), ptr::null_mut());
            }
            // SAFETY: May be called in any context that can sleep. Waits until the probe does not run any more.
            unsafe { bindings::daxfs_helper_tracepoint_synchronize() };
        }
    }
}
