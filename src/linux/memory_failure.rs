// SPDX-License-Identifier: GPL-2.0-only

//! Watches memory fail, by the tracepoint `memory_failure_event`.

use crate::linux::prelude::*;

/// Called with the number of a page frame when it fails. It may sleep: memory_failure() does, and
/// probes of a tracepoint run under SRCU.
pub(crate) type Failed = fn(usize);

/// A probe of the tracepoint. Drop it to unregister the probe, which waits for its calls.
///
/// # Invariants
///
/// The probe is registered with the tracepoint. Its data is a [`Failed`].
pub(crate) struct Probe {
    tracepoint: NonNull<bindings::tracepoint>,
    probe: *mut ffi::c_void,
    data: *mut ffi::c_void,
}

// SAFETY: A probe may be unregistered by any thread.
unsafe impl Send for Probe {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Probe {}

impl Probe {
    /// Registers a probe that calls `failed`, if the kernel has the tracepoint.
    pub(crate) fn new(failed: Failed) -> Option<Self> {
        if !cfg!(CONFIG_TRACEPOINTS) {
            return None;
        }
        // SAFETY: Any context that can sleep may call this. Tracepoints of the kernel are static.
        let tracepoint = NonNull::new(unsafe { bindings::memory_failure_tracepoint() })?;
        let probe: bindings::btf_trace_memory_failure_event = Some(Self::probe);
        // The address of a function need not be the same each time.
        let probe = probe.map_or(ptr::null_mut(), |probe| probe as *mut ffi::c_void);
        let (raw, data) = (tracepoint.as_ptr(), failed as *mut ffi::c_void);
        // SAFETY: The probe has the prototype of the tracepoint, and `drop` unregisters it.
        let registered = unsafe { bindings::tracepoint_probe_register(raw, probe, data) };
        // INVARIANT: The probe was registered above.
        (registered == 0).then_some(Probe {
            tracepoint,
            probe,
            data,
        })
    }

    /// # Safety
    ///
    /// `data` must be a [`Failed`]. The caller must be able to sleep: memory_failure() holds only
    /// mutexes and the lock of a folio.
    unsafe extern "C" fn probe(
        data: *mut ffi::c_void,
        frame: ffi::c_ulong,
        _kind: ffi::c_int,
        _result: ffi::c_int,
    ) {
        // SAFETY: The caller passes what `new` has registered, the address of such a function.
        let failed = unsafe { mem::transmute::<*mut ffi::c_void, Failed>(data) };
        failed(frame);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // A kernel without tracepoints lacks the functions.
        if cfg!(CONFIG_TRACEPOINTS) {
            let raw = self.tracepoint.as_ptr();
            // SAFETY: By the type invariant the probe is registered. This is dropped while the
            // module is loaded or unloaded, which can sleep.
            unsafe {
                bindings::tracepoint_probe_unregister(raw, self.probe, self.data);
                bindings::tracepoint_synchronize_unregister();
            }
        }
    }
}
