// SPDX-License-Identifier: GPL-2.0-only

//! Dma-bufs: memory of a device, or of a heap that devices share
//! (`include/linux/dma-buf.h`, `include/linux/dma-resv.h`).

use super::fs::*;
use super::mm::{
    cache_mode,
    MapMethod,
    Mappable,
    Owner, //
};
use crate::linux::prelude::*;

/// The processor reads what devices have written.
const DIRECTION: bindings::dma_data_direction = bindings::DMA_FROM_DEVICE;

owned! {
    /// A reference to a dma-buf.
    pub(crate) struct DmaBuf(dma_buf, dma_buf_put);
}

impl DmaBuf {
    /// Returns the dma-buf of file descriptor `fd` of the calling process.
    ///
    /// Errors: `EBADF` if the descriptor is not open, `EINVAL` if it is not a dma-buf.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: The function looks the number up in the table of the process.
        let found = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: dma_buf_get() returned a reference.
        NonNull::new(found).map(DmaBuf).ok_or(EINVAL)
    }

    /// Returns the size in bytes, which never changes.
    fn size(&self) -> u64 {
        // SAFETY: By the type invariant the dma-buf is valid.
        unsafe { (*self.0.as_ptr()).size as u64 }
    }

    /// Returns the reservation object, which never changes.
    fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: By the type invariant the dma-buf is valid.
        unsafe { (*self.0.as_ptr()).resv }
    }

    /// Waits until the kernel has moved or cleared the buffer, or a signal arrives.
    fn wait(&self) -> Result {
        let (kernel, forever) = (
            bindings::DMA_RESV_USAGE_KERNEL,
            ffi::c_long::MAX as ffi::c_ulong,
        );
        // SAFETY: By the type invariant the dma-buf is valid. Its reservation lock is not held.
        let left = unsafe { bindings::dma_resv_wait_timeout(self.resv(), kernel, true, forever) };
        to_result(left.min(0) as ffi::c_int)
    }

    /// Calls `inside` under the reservation lock, unless a signal arrives first.
    fn locked(&self, inside: impl FnOnce() -> Result) -> Result {
        let (resv, context) = (self.resv(), ptr::null_mut());
        // SAFETY: By the type invariant the dma-buf is valid.
        to_result(unsafe { bindings::dma_resv_lock_interruptible(resv, context) })?;
        let result = inside();
        // SAFETY: The lock was taken above.
        unsafe { bindings::dma_resv_unlock(resv) };
        result
    }
}

impl Clone for DmaBuf {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant the dma-buf is valid.
        unsafe { bindings::get_dma_buf(self.0.as_ptr()) };
        // INVARIANT: The reference was got above.
        DmaBuf(self.0)
    }
}

owned! {
    /// A device in place of the CPU. The interface of `kernel::faux` differs between 7.2 and 7.3.
    struct FauxDevice(faux_device, faux_device_destroy);
}

impl FauxDevice {
    /// Registers a device that can access all memory. Names on a bus must be unique.
    ///
    /// Errors: `ENODEV`; `EIO` if the device cannot access all memory.
    fn new(name: &CStr) -> Result<Self> {
        let name = name.as_char_ptr();
        // SAFETY: The name is a NUL-terminated string, which the function copies.
        let made = from_err_ptr(unsafe { bindings::faux_device_for_dma(name) })?;
        // INVARIANT: The device was registered above.
        Ok(FauxDevice(NonNull::new(made).ok_or(ENODEV)?))
    }

    /// Returns the generic part of the C object.
    fn as_raw(&self) -> *mut bindings::device {
        // SAFETY: By the type invariant the device is valid.
        unsafe { &raw mut (*self.0.as_ptr()).dev }
    }
}

/// The target of `importer_priv` of an attachment.
struct Private<F> {
    revoked: F,
    /// Modified under the reservation lock. The buffer may move until it is pinned, and pinning
    /// itself may move it. Nothing is mapped then.
    is_pinned: Atomic<bool>,
}

/// Returns why a buffer is refused if the exporter fails at `step`.
#[cold]
fn failed(step: &str, remedy: &'static str, error: Error) -> Refusal {
    match error {
        // The system call must not be restarted, because the mount context cannot be reused.
        ERESTARTSYS | EINTR => refusal!(EINTR => "{step} was interrupted"),
        error => refusal!(error => "{step} failed: {error:?}"; remedy),
    }
}

/// An attached dma-buf, which may also be pinned, mapped, and accessible to the processor.
///
/// Each has its own device, because debugfs shows which device uses a buffer.
///
/// # Invariants
///
/// * `attachment` attaches `_device` to `buffer`, with the address of `private` as private pointer.
/// * The buffer is pinned if `private.is_pinned` is set. `map` and `is_accessible` are only set
///   then.
/// * `map` is what dma_buf_vmap() has filled in. CPU access has begun if `is_accessible` is set.
pub(crate) struct Attachment<F: Fn() + Send + Sync + 'static> {
    attachment: NonNull<bindings::dma_buf_attachment>,
    map: Option<bindings::iosys_map>,
    is_accessible: bool,
    private: KBox<Private<F>>,
    _device: FauxDevice,
    buffer: DmaBuf,
}

// SAFETY: An attachment may be used and detached by any thread.
unsafe impl<F: Fn() + Send + Sync> Send for Attachment<F> {}
// SAFETY: Values reachable through a shared reference do not change.
unsafe impl<F: Fn() + Send + Sync> Sync for Attachment<F> {}

impl<F: Fn() + Send + Sync> Attachment<F> {
    const OPERATIONS: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
        // The CPU needs no struct pages, so device memory need not be moved.
        allow_peer2peer: true,
        invalidate_mappings: Some(Self::invalidate_mappings),
    };

    /// Attaches a new device with a unique name to `buffer`.
    ///
    /// If the exporter reclaims the pinned memory, calls `revoked`, which must end all use of the
    /// memory. This happens under the reservation lock, which is taken under VFS locks.
    ///
    /// Errors: The exporter's errors, `ENOMEM`.
    pub(crate) fn new(buffer: DmaBuf, device: &CStr, revoked: F) -> Result<Self, Refusal> {
        let device = FauxDevice::new(device)?;
        let private = Private {
            revoked,
            is_pinned: Atomic::new(false),
        };
        let private = KBox::new(private, GFP_KERNEL)?;
        let pointer = ptr::from_ref(&*private).cast_mut().cast();
        let (raw, operations) = (buffer.0.as_ptr(), &Self::OPERATIONS);
        // SAFETY: The buffer, the device and the private data live until `drop` detaches the
        // device. The table is static. The reservation lock is not held.
        let attachment = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(raw, device.as_raw(), operations, pointer)
        });
        let remedy = "allocate it so that it can be shared with other devices";
        let attachment =
            attachment.map_err(|error| failed("attaching to the buffer", remedy, error))?;
        // INVARIANT: The device was attached above, and nothing else has been done.
        Ok(Attachment {
            attachment: NonNull::new(attachment).ok_or(EINVAL)?,
            map: None,
            is_accessible: false,
            private,
            _device: device,
            buffer,
        })
    }

    /// Handles the exporter's announcement that the memory moves. It holds the reservation lock.
    ///
    /// # Safety
    ///
    /// `attachment` must be one of this type.
    unsafe extern "C" fn invalidate_mappings(attachment: *mut bindings::dma_buf_attachment) {
        // SAFETY: By the type invariant the attachment has the private data, which outlive it and
        // are only shared, never borrowed mutably.
        let private = unsafe { &*(*attachment).importer_priv.cast::<Private<F>>() };
        if private.is_pinned.load(Acquire) {
            (private.revoked)();
        }
    }

    /// Pins the buffer, maps it into the kernel, and begins CPU access.
    ///
    /// Errors: The exporter's errors, including those for an unmappable buffer; `EINTR` if a signal
    /// arrived first; `EBUSY` if this was called before.
    pub(crate) fn prepare(&mut self) -> Result<(), Refusal> {
        let buffer = self.buffer.0.as_ptr();
        let pin = || {
            if self.private.is_pinned.load(Acquire) {
                return Err(EBUSY);
            }
            // SAFETY: By the type invariant the device is attached, dynamically. `locked` calls
            // this under the reservation lock.
            to_result(unsafe { bindings::dma_buf_pin(self.attachment.as_ptr()) })?;
            // INVARIANT: The buffer was pinned above.
            self.private.is_pinned.store(true, Release);
            Ok(())
        };
        let remedy = "free some memory of the device, or allocate it in system memory";
        let pinned = self.buffer.locked(pin);
        pinned.map_err(|error| failed("pinning the buffer", remedy, error))?;
        let moved = self.buffer.wait();
        moved.map_err(|error| failed("waiting for the device", "mount again", error))?;
        let mut map = bindings::iosys_map::default();
        // SAFETY: The dma-buf is valid, and `locked` calls this under its reservation lock.
        let vmap = || to_result(unsafe { bindings::dma_buf_vmap(buffer, &mut map) });
        let remedy = "use a udmabuf, a heap, or a driver that supports it";
        let mapped = self.buffer.locked(vmap);
        mapped.map_err(|error| failed("mapping the buffer into the kernel", remedy, error))?;
        // INVARIANT: The buffer was mapped above.
        self.map = Some(map);
        // SAFETY: The dma-buf is valid and its reservation lock is not held.
        let begun = unsafe { bindings::dma_buf_begin_cpu_access(buffer, DIRECTION) };
        let remedy = "allocate the buffer where the processor can read it";
        to_result(begun).map_err(|error| failed("beginning CPU access", remedy, error))?;
        // INVARIANT: CPU access was begun above.
        self.is_accessible = true;
        if self.mappable().is_none() {
            refuse!(Errno::NotSupported =>
                "the exporter caches its pages in different ways, or shares them with the host";
                "use one buffer for each, of encrypted memory");
        }
        Ok(())
    }
}

// SAFETY: Only the drop unmaps and unpins the buffer. Its pages are not counted.
unsafe impl<F: Fn() + Send + Sync> Owner for Attachment<F> {
    fn mappable(&self) -> Option<Mappable> {
        let map = self.map.as_ref()?;
        // SAFETY: Both members of the union are pointers to the first byte.
        let base = unsafe { map.__bindgen_anon_1.vaddr };
        let (base, size, io) = (NonNull::new(base.cast())?, self.buffer.size(), map.is_iomem);
        // SAFETY: By the type invariant the buffer is mapped.
        let cache = unsafe { cache_mode::mode(base, size, io) }?;
        let mappable = Mappable::new(base, size, MapMethod::Frames(cache));
        Some(Mappable { io, ..mappable })
    }
}

impl<F: Fn() + Send + Sync> Drop for Attachment<F> {
    fn drop(&mut self) {
        let (buffer, resv) = (self.buffer.0.as_ptr(), self.buffer.resv());
        let attachment = self.attachment.as_ptr();
        // SAFETY: By the type invariants CPU access has begun if `is_accessible` is set, the buffer
        // is pinned if `is_pinned` is set, `map` is its mapping, and the device is attached.
        // Nothing else undoes this. The reservation lock is held for unmapping and unpinning only:
        // the other calls take it.
        unsafe {
            if self.is_accessible {
                // A reader can ignore this error.
                bindings::dma_buf_end_cpu_access(buffer, DIRECTION);
            }
            if self.private.is_pinned.xchg(false, Full) {
                bindings::dma_resv_lock(resv, ptr::null_mut());
                if let Some(map) = &mut self.map {
                    bindings::dma_buf_vunmap(buffer, map);
                }
                bindings::dma_buf_unpin(attachment);
                bindings::dma_resv_unlock(resv);
            }
            bindings::dma_buf_detach(buffer, attachment);
        }
    }
}
