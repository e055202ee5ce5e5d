// SPDX-License-Identifier: GPL-2.0-only

//! Failures of memory, which the tracepoint `memory_failure_event` reports.

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// Says what happens when memory fails.
pub(crate) trait Failure: 'static {
    /// Handle the failure of page frame `frame`, which may be any of the machine. Do not sleep
    /// unless `may_sleep` is set.
    fn failed(frame: usize, may_sleep: bool);
}

/// A probe of the tracepoint. Dropping it unregisters the probe, and waits for it.
///
/// # Invariants
///
/// [`Self::probe`] is registered with the tracepoint, without data.
pub(crate) struct Probe<T: Failure>(NonNull<bindings::tracepoint>, PhantomData<T>);

// SAFETY: A probe may be unregistered by any thread.
unsafe impl<T: Failure> Send for Probe<T> {}
// SAFETY: No method takes a shared reference.
unsafe impl<T: Failure> Sync for Probe<T> {}

impl<T: Failure> Probe<T> {
    /// Register the probe, if the kernel has the tracepoint.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: Any context that can sleep may call this. Tracepoints of the kernel are static.
        let found = NonNull::new(unsafe { bindings::memory_failure_tracepoint() })?;
        let (tracepoint, none) = (found.as_ptr(), ptr::null_mut());
        // SAFETY: The probe has the prototype of the tracepoint, and `drop` unregisters it.
        let registered =
            unsafe { bindings::tracepoint_probe_register(tracepoint, Self::pointer(), none) };
        // INVARIANT: The probe was registered above.
        (registered == 0).then_some(Probe(found, PhantomData))
    }

    fn pointer() -> *mut kernel::ffi::c_void {
        let probe: bindings::btf_trace_memory_failure_event = Some(Self::probe);
        probe.map_or(ptr::null_mut(), |probe| probe as *mut kernel::ffi::c_void)
    }

    /// # Safety
    ///
    /// The caller must be able to sleep unless its tracepoint prevents that.
    unsafe extern "C" fn probe(
        _data: *mut kernel::ffi::c_void,
        frame: kernel::ffi::c_ulong,
        _kind: kernel::ffi::c_int,
        _result: kernel::ffi::c_int,
    ) {
        // SAFETY: This looks at the current thread.
        T::failed(frame, unsafe { bindings::may_sleep() });
    }
}

impl<T: Failure> Drop for Probe<T> {
    fn drop(&mut self) {
        let (tracepoint, none) = (self.0.as_ptr(), ptr::null_mut());
        // SAFETY: By the type invariant the probe is registered.
        unsafe { bindings::tracepoint_probe_unregister(tracepoint, Self::pointer(), none) };
        // SAFETY: This is dropped while the module is loaded or unloaded, which can sleep.
        unsafe { bindings::tracepoint_synchronize_unregister() };
    }
}
