// SPDX-License-Identifier: GPL-2.0-only

//! Watching for memory that fails: the tracepoint `memory_failure_event` reports all failures.

use super::{poison, queue, registry};
use crate::bindings;
use core::ptr::{self, NonNull};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{Arc, ArcBorrow},
    workqueue::{Work, WorkItem},
};

/// The registration of a probe that is called when memory fails. Dropping it unregisters the probe.
///
/// # Invariants
///
/// [`Self::failed`] is registered with the tracepoint, if there is one, with the address of `look`
/// as its data.
pub(super) struct Watch {
    tracepoint: Option<NonNull<bindings::tracepoint>>,
    look: Arc<Look>,
}

// SAFETY: A probe may be unregistered by any thread.
unsafe impl Send for Watch {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Watch {}

impl Watch {
    /// Register the probe.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The result must be dropped before the workqueue and the list of leases.
    pub(super) unsafe fn start() -> Result<Self> {
        let look = Arc::pin_init(Look::new(), GFP_KERNEL)?;
        let tracepoint = Self::subscribe(&look);
        // Check all pages if memory has failed before, or if no failure would be reported.
        if tracepoint.is_none() || poison::failed_before() {
            poison::check_pages();
        }
        // INVARIANT: `subscribe` has registered the probe.
        Ok(Watch { tracepoint, look })
    }

    /// Register with the tracepoint, if the kernel has it.
    fn subscribe(look: &Arc<Look>) -> Option<NonNull<bindings::tracepoint>> {
        let mut found: *mut bindings::tracepoint = ptr::null_mut();
        let argument = (&raw mut found).cast();
        // SAFETY: `find` gets a place for a pointer, and is not called after this returns.
        unsafe { bindings::for_each_kernel_tracepoint(Some(Self::find), argument) };
        let found = NonNull::new(found)?;
        let data = Arc::as_ptr(look).cast_mut().cast();
        // SAFETY: The probe has the prototype of the tracepoint, and `drop` unregisters it before
        // the data are dropped.
        let registered =
            unsafe { bindings::tracepoint_probe_register(found.as_ptr(), Self::probe(), data) };
        (registered == 0).then_some(found)
    }

    fn probe() -> *mut kernel::ffi::c_void {
        let probe: unsafe extern "C" fn(_, _, _, _) = Self::failed;
        probe as *mut kernel::ffi::c_void
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

    /// Handle the failure of any memory of the machine. This does not sleep.
    ///
    /// # Safety
    ///
    /// `look` must be the data that the probe was registered with. All other arguments are ignored.
    unsafe extern "C" fn failed(
        look: *mut kernel::ffi::c_void,
        _frame: kernel::ffi::c_ulong,
        _kind: kernel::ffi::c_int,
        _result: kernel::ffi::c_int,
    ) {
        poison::check_pages();
        // SAFETY: The watch owns a reference to the work item, and waits for the probe before it
        // drops that.
        let look = unsafe { ArcBorrow::from_raw(look.cast_const().cast::<Look>()) };
        // SAFETY: The workqueue is dropped after the probe is unregistered.
        unsafe { queue::queue(Arc::from(look)) };
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(tracepoint) = self.tracepoint else {
            return;
        };
        let (tracepoint, data) = (tracepoint.as_ptr(), Arc::as_ptr(&self.look).cast_mut());
        // SAFETY: By the type invariant the probe is registered.
        unsafe { bindings::tracepoint_probe_unregister(tracepoint, Self::probe(), data.cast()) };
        // SAFETY: This may be called in any context that can sleep. It waits for the probe.
        unsafe { bindings::tracepoint_synchronize_unregister() };
    }
}

/// The work item that unmaps pages whose memory has failed.
#[pin_data]
struct Look {
    #[pin]
    work: Work<Look>,
}

impl_has_work! {
    impl HasWork<Look> for Look { self.work }
}

impl Look {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- new_work!("daxfs_look"),
        })
    }
}

impl WorkItem for Look {
    type Pointer = Arc<Look>;

    fn run(_this: Arc<Look>) {
        registry::for_each(|lease| lease.unmap_failed());
    }
}
