// SPDX-License-Identifier: GPL-2.0-only

//! Watching for memory that fails: the tracepoint `memory_failure_event` reports all failures.

use super::{poison, registry};
use crate::bindings;
use crate::linux::workqueue;
use core::ptr::{self, NonNull};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    workqueue::{Work, WorkItem},
};

/// The registration of a probe that is called when memory fails. Dropping it unregisters the probe.
///
/// # Invariants
///
/// [`Self::failed`] is registered with the tracepoint, if there is one, without data.
pub(super) struct Watch(Option<NonNull<bindings::tracepoint>>);

// SAFETY: A probe may be unregistered by any thread.
unsafe impl Send for Watch {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Watch {}

impl Watch {
    /// Register the probe.
    pub(super) fn start() -> Self {
        let tracepoint = Self::subscribe();
        // Check all pages if memory has failed before, or if no failure would be reported.
        if tracepoint.is_none() || poison::failed_before() {
            poison::check_pages();
        }
        // INVARIANT: `subscribe` has registered the probe.
        Watch(tracepoint)
    }

    /// Register with the tracepoint, if the kernel has it.
    fn subscribe() -> Option<NonNull<bindings::tracepoint>> {
        let mut found: *mut bindings::tracepoint = ptr::null_mut();
        let argument = (&raw mut found).cast();
        // SAFETY: `find` gets a place for a pointer, and is not called after this returns.
        unsafe { bindings::for_each_kernel_tracepoint(Some(Self::find), argument) };
        let found = NonNull::new(found)?;
        let (tracepoint, none) = (found.as_ptr(), ptr::null_mut());
        // SAFETY: The probe has the prototype of the tracepoint, and `drop` unregisters it.
        let registered =
            unsafe { bindings::tracepoint_probe_register(tracepoint, Self::probe(), none) };
        (registered == 0).then_some(found)
    }

    fn probe() -> *mut kernel::ffi::c_void {
        let probe: bindings::btf_trace_memory_failure_event = Some(Self::failed);
        probe.map_or(ptr::null_mut(), |probe| probe as *mut kernel::ffi::c_void)
    }

    /// Store the tracepoint of memory failures.
    ///
    /// # Safety
    ///
    /// `tracepoint` must be valid, and `found` the place for a pointer to one.
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

    /// Handle the failure of page frame `frame`, which may be any of the machine.
    ///
    /// # Safety
    ///
    /// The caller must be able to sleep unless its tracepoint prevents that.
    unsafe extern "C" fn failed(
        _data: *mut kernel::ffi::c_void,
        frame: kernel::ffi::c_ulong,
        _kind: kernel::ffi::c_int,
        _result: kernel::ffi::c_int,
    ) {
        poison::check_pages();
        // When memory_failure() returns, no process should have the page.
        // SAFETY: This looks at the current thread.
        if unsafe { bindings::may_sleep() } {
            return unmap(frame);
        }
        let Ok(failure) = Arc::pin_init(Failure::new(frame), GFP_ATOMIC) else {
            pr_warn!("no memory to unmap page frame {frame:#x}, which has failed\n");
            return;
        };
        workqueue::enqueue(failure);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(tracepoint) = self.0 else {
            return;
        };
        let (tracepoint, none) = (tracepoint.as_ptr(), ptr::null_mut());
        // SAFETY: By the type invariant the probe is registered.
        unsafe { bindings::tracepoint_probe_unregister(tracepoint, Self::probe(), none) };
        // SAFETY: This may be called in any context that can sleep. It waits for the probe.
        unsafe { bindings::tracepoint_synchronize_unregister() };
    }
}

/// Unmap what fails with page frame `frame`.
fn unmap(frame: usize) {
    let frames = poison::failing_with(frame);
    registry::for_each(|lease| lease.unmap_frames(&frames));
}

/// The work item that unmaps a page frame whose memory has failed.
#[pin_data]
struct Failure {
    frame: usize,
    #[pin]
    work: Work<Failure>,
}

impl_has_work! {
    impl HasWork<Failure> for Failure { self.work }
}

impl Failure {
    fn new(frame: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            frame,
            work <- new_work!("daxfs_failure"),
        })
    }
}

impl WorkItem for Failure {
    type Pointer = Arc<Failure>;

    fn run(this: Arc<Failure>) {
        unmap(this.frame);
    }
}
