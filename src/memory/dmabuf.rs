// SPDX-License-Identifier: GPL-2.0-only

//! A dma-buf: memory of a device, or of a heap that devices share.
//!
//! Follows `include/linux/dma-buf.h`. daxfs is a dynamic importer whose device is the processor:
//!
//! * It attaches a faux device, so that the exporter can notify it. Each mount has its own: debugfs
//!   shows which mounts use a buffer.
//! * It pins the buffer from mount until the memory is released, so that the content does not move.
//!   Only processes with `CAP_SYS_ADMIN` can mount, and so pin memory.
//! * If the exporter invalidates the mappings of the pinned buffer, it takes the memory back: the
//!   [`Lease`] is revoked, and after the last use [`Owner::release`] unmaps and unpins the buffer.
//! * CPU access begins at mount and ends at release, because processes may read the memory through
//!   their mappings at any time.
//!
//! The pages belong to the exporter, or to where it got them: a memfd, a heap, a driver. So
//! mappings of files insert page frames and do not count pages, with the cache attributes of the
//! exporter.
//!
//! The reservation lock of the buffer is taken under locks of the VFS. Under it, this file and
//! [`Lease::revoke`] take no lock of daxfs or of the VFS.

use super::cache;
use super::lease::Lease;
use super::{MapMethod, Owner, Region, Shown, Tenure, Window};
use crate::bindings;
use crate::linux::fs::Refusal;
use crate::linux::Errno;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    str::CString,
    sync::Arc,
    task::MAX_SCHEDULE_TIMEOUT,
};

/// The processor reads what devices have written.
const DIRECTION: bindings::dma_data_direction = bindings::dma_data_direction_DMA_FROM_DEVICE;

/// What an exporter can fail at, and what the user can do about it.
type Step = (&'static str, &'static str);

const ATTACH: Step = (
    "attaching to the buffer",
    "allocate it so that it can be shared with other devices",
);
const PIN: Step = (
    "pinning the buffer",
    "free some memory of the device, or allocate it in system memory",
);
const WAIT: Step = ("waiting for the device", "mount again");
const MAP: Step = (
    "mapping the buffer into the kernel",
    "use a udmabuf, a heap, or a driver that supports it",
);
const ACCESS: Step = (
    "beginning CPU access",
    "allocate the buffer where the processor can read it",
);

/// Return why a mount is refused if the exporter fails at a step.
fn failed((step, remedy): Step) -> impl FnOnce(Error) -> Refusal {
    move |error| {
        // The system call must not be restarted, because the mount context cannot be used again.
        if error == ERESTARTSYS || error == EINTR {
            return Refusal::new(EINTR, fmt!("{step} was interrupted"));
        }
        Refusal::new(error, fmt!("{step} failed: {error:?}")).remedy(remedy)
    }
}

/// A reference to a dma-buf.
///
/// # Invariants
///
/// Owns the reference.
pub(crate) struct DmaBuf(NonNull<bindings::dma_buf>);

// SAFETY: A reference to a dma-buf may be put by any thread.
unsafe impl Send for DmaBuf {}
// SAFETY: A dma-buf may be used by several threads at the same time.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// Return the dma-buf of file descriptor `fd` of the calling process.
    ///
    /// # Errors
    ///
    /// `EBADF` if there is no such descriptor, `EINVAL` if it is not a dma-buf.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: This takes any number.
        let found = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: dma_buf_get() returned a reference.
        NonNull::new(found).map(DmaBuf).ok_or(EINVAL)
    }

    /// Return the reservation object, which never changes.
    fn reservation(&self) -> *mut bindings::dma_resv {
        // SAFETY: By the type invariant the dma-buf is valid.
        unsafe { (*self.0.as_ptr()).resv }
    }

    /// Take the reservation lock.
    fn reserve(&self) -> Reserved<'_> {
        // SAFETY: The reservation object lives as long as the dma-buf.
        unsafe { bindings::dma_resv_lock(self.reservation()) };
        // INVARIANT: The lock was taken above.
        Reserved(self)
    }

    /// Take the reservation lock, unless a signal arrives first.
    fn reserve_interruptible(&self) -> Result<Reserved<'_>> {
        // SAFETY: The reservation object lives as long as the dma-buf.
        to_result(unsafe { bindings::dma_resv_lock_interruptible(self.reservation()) })?;
        // INVARIANT: The lock was taken above.
        Ok(Reserved(self))
    }

    /// Wait until the kernel has moved or cleared the buffer.
    fn wait(&self) -> Result {
        let reservation = self.reservation();
        // SAFETY: The reservation object lives as long as the dma-buf. Its lock is not held.
        let left = unsafe {
            bindings::dma_resv_wait_timeout(
                reservation,
                bindings::dma_resv_usage_DMA_RESV_USAGE_KERNEL,
                true,
                MAX_SCHEDULE_TIMEOUT as usize,
            )
        };
        match left {
            error if error < 0 => Err(Error::from_errno(error as kernel::ffi::c_int)),
            _ => Ok(()),
        }
    }

    /// Return the size in bytes.
    fn size(&self) -> u64 {
        // SAFETY: By the type invariant the dma-buf is valid. Its size never changes.
        let size = unsafe { (*self.0.as_ptr()).size };
        size as u64
    }
}

impl Clone for DmaBuf {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant the dma-buf is valid.
        let file = unsafe { (*self.0.as_ptr()).file };
        // SAFETY: The reference of this object keeps the file. A reference to the file is one to
        // the dma-buf.
        unsafe { bindings::get_file(file) };
        // INVARIANT: The reference was got above.
        DmaBuf(self.0)
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::dma_buf_put(self.0.as_ptr()) };
    }
}

/// The reservation lock of a dma-buf.
///
/// # Invariants
///
/// The lock is held.
struct Reserved<'a>(&'a DmaBuf);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held.
        unsafe { bindings::dma_resv_unlock(self.0.reservation()) };
    }
}

/// A device that represents the CPU.
///
/// The interface of `kernel::faux` differs between 7.2 and 7.3, so this uses the C functions.
///
/// # Invariants
///
/// The device is registered, and only this object can unregister it.
struct FauxDevice(NonNull<bindings::faux_device>);

// SAFETY: A device may be unregistered by any thread.
unsafe impl Send for FauxDevice {}
// SAFETY: A shared reference only gives access to the pointer.
unsafe impl Sync for FauxDevice {}

impl FauxDevice {
    /// Register a device that can access all memory.
    fn new() -> Result<Self> {
        /// Number of the next device. Names on a bus must be unique.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = CString::try_from_fmt(fmt!("daxfs-dmabuf.{}", number))?;
        // SAFETY: The function copies the name. The device needs no parent and no operations.
        let made = unsafe {
            bindings::faux_device_create(name.as_char_ptr().cast(), ptr::null_mut(), ptr::null())
        };
        // INVARIANT: The device was registered above.
        let device = FauxDevice(NonNull::new(made).ok_or(ENODEV)?);
        // Exporters may use the mask to allocate memory that the device can access.
        // SAFETY: By the type invariant the device is valid. Nothing else uses it yet.
        to_result(unsafe { bindings::dma_coerce_mask_and_coherent(device.as_raw(), u64::MAX) })?;
        Ok(device)
    }

    /// Return the generic part of the C object.
    fn as_raw(&self) -> *mut bindings::device {
        // SAFETY: By the type invariant the device is valid.
        unsafe { &raw mut (*self.0.as_ptr()).dev }
    }
}

impl Drop for FauxDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the device is registered.
        unsafe { bindings::faux_device_destroy(self.0.as_ptr()) };
    }
}

/// The stages of an import. Each includes the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    Attached,
    Pinned,
    Mapped,
    Accessible,
}

/// The `importer_priv` of an attachment.
struct Importer {
    lease: Arc<Lease>,
    /// A [`Stage`]. It grows under the reservation lock up to `Pinned`.
    stage: AtomicU8,
}

impl Importer {
    const OPERATIONS: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
        // The CPU needs no struct pages, so device memory need not be moved.
        allow_peer2peer: true,
        invalidate_mappings: Some(Self::invalidate_mappings),
    };

    fn reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    fn advance(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Handle the exporter's announcement that the memory moves. It holds the reservation lock.
    ///
    /// # Safety
    ///
    /// `attachment` must be one of ours.
    unsafe extern "C" fn invalidate_mappings(attachment: *mut bindings::dma_buf_attachment) {
        // SAFETY: The caller passes a valid attachment.
        let private = unsafe { (*attachment).importer_priv };
        // SAFETY: By the invariants of `Import` this is the importer, which outlives the
        // attachment, and to which there are no mutable references.
        let importer = unsafe { &*private.cast::<Importer>() };
        // Before it is pinned the buffer may move, also by pinning it. Nothing is mapped then.
        if importer.reached(Stage::Pinned) {
            importer.lease.revoke();
        }
    }
}

/// A dma-buf that is attached, and after [`open`] also pinned, mapped and accessible.
///
/// # Invariants
///
/// * `attachment` attaches `device` to `buffer`, with the address of `importer` as private pointer.
/// * The operations up to `importer.stage` have been done. Only `open` and `release` change it.
/// * From [`Stage::Mapped`] on, dma_buf_vmap() has filled in `map`.
struct Import {
    attachment: NonNull<bindings::dma_buf_attachment>,
    map: bindings::iosys_map,
    importer: KBox<Importer>,
    _device: FauxDevice,
    buffer: DmaBuf,
}

// SAFETY: An attachment may be used and detached by any thread.
unsafe impl Send for Import {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for Import {}

// SAFETY: Only `release` and the drop unmap the buffer.
unsafe impl Owner for Import {
    fn release(&mut self) {
        let stage = &self.importer.stage;
        let reached = stage.swap(Stage::Attached as u8, Ordering::AcqRel);
        let buffer = self.buffer.0.as_ptr();
        if reached >= Stage::Accessible as u8 {
            // An error does not matter to a reader.
            // SAFETY: By the type invariant CPU access has begun. After the swap nothing else ends
            // it.
            unsafe { bindings::dma_buf_end_cpu_access(buffer, DIRECTION) };
        }
        if reached == Stage::Attached as u8 {
            return;
        }
        let _reserved = self.buffer.reserve();
        if reached >= Stage::Mapped as u8 {
            let mut map = self.map;
            // SAFETY: By the type invariant this is the mapping. After the swap nothing else unmaps
            // it. The reservation lock is held.
            unsafe { bindings::dma_buf_vunmap(buffer, &mut map) };
        }
        // SAFETY: By the type invariant the buffer is pinned. After the swap nothing else unpins
        // it. The reservation lock is held.
        unsafe { bindings::dma_buf_unpin(self.attachment.as_ptr()) };
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.release();
        // SAFETY: By the type invariant the device is attached. The reservation lock is not held.
        unsafe { bindings::dma_buf_detach(self.buffer.0.as_ptr(), self.attachment.as_ptr()) };
    }
}

impl Import {
    /// Attach a new device to `buffer`.
    fn attach(buffer: DmaBuf, lease: Arc<Lease>) -> Result<Self, Refusal> {
        let device = FauxDevice::new()?;
        let importer = Importer {
            lease,
            stage: AtomicU8::new(Stage::Attached as u8),
        };
        let importer = KBox::new(importer, GFP_KERNEL)?;
        let private: *const Importer = &*importer;
        // SAFETY: The buffer, the device and the importer live until `drop` detaches the device.
        // The table is static. The reservation lock is not held.
        let attached = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(
                buffer.0.as_ptr(),
                device.as_raw(),
                &Importer::OPERATIONS,
                private.cast_mut().cast(),
            )
        })
        .map_err(failed(ATTACH))?;
        // INVARIANT: The device was attached above, and nothing else has been done.
        Ok(Import {
            attachment: NonNull::new(attached).ok_or(EINVAL)?,
            map: bindings::iosys_map::default(),
            importer,
            _device: device,
            buffer,
        })
    }

    /// Pin the buffer, and wait until it is in its final place.
    fn pin(&mut self) -> Result<(), Refusal> {
        let reserved = self.buffer.reserve_interruptible().map_err(failed(PIN))?;
        // SAFETY: By the type invariant the device is attached, dynamically. The reservation lock
        // is held.
        to_result(unsafe { bindings::dma_buf_pin(self.attachment.as_ptr()) })
            .map_err(failed(PIN))?;
        // INVARIANT: The buffer was pinned above.
        self.importer.advance(Stage::Pinned);
        drop(reserved);
        self.buffer.wait().map_err(failed(WAIT))
    }

    /// Pin and map the buffer. Return the mapping, and how files are mapped.
    fn prepare(&mut self) -> Result<(Window, MapMethod), Refusal> {
        self.pin()?;
        let window = self.map()?;
        // SAFETY: By the type invariant the buffer is mapped until it is released.
        let cache = unsafe { cache::mode(&window) }.map_err(|_| {
            Refusal::new(
                Errno::NotSupported,
                fmt!("the exporter caches its pages in different ways"),
            )
            .remedy("use one buffer for each")
        })?;
        Ok((window, MapMethod::Frames(cache)))
    }

    /// Map the pinned buffer into the kernel, and begin CPU access.
    fn map(&mut self) -> Result<Window, Refusal> {
        let buffer = self.buffer.0.as_ptr();
        let reserved = self.buffer.reserve_interruptible().map_err(failed(MAP))?;
        // SAFETY: The dma-buf is valid and its reservation lock is held.
        to_result(unsafe { bindings::dma_buf_vmap(buffer, &mut self.map) }).map_err(failed(MAP))?;
        drop(reserved);
        // INVARIANT: The buffer was mapped above.
        self.importer.advance(Stage::Mapped);

        // SAFETY: The dma-buf is valid and its reservation lock is not held.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(buffer, DIRECTION) })
            .map_err(failed(ACCESS))?;
        // INVARIANT: CPU access was begun above.
        self.importer.advance(Stage::Accessible);

        // SAFETY: Both members of the union are pointers to the first byte.
        let base = unsafe { self.map.__bindgen_anon_1.vaddr };
        Ok(Window {
            base: NonNull::new(base.cast()).ok_or(ENXIO)?,
            size: self.buffer.size(),
            io: self.map.is_iomem,
        })
    }
}

/// Open the region of dma-buf `buffer`. The exporter may revoke the lease from now on.
///
/// # Errors
///
/// Any reason to refuse the mount. Many exporters cannot map into the kernel's address space (`EINVAL`,
/// `EOPNOTSUPP`).
pub(crate) fn open(buffer: &DmaBuf, tenure: &Tenure) -> Result<Region, Refusal> {
    let lease = tenure.lease();
    let import = Import::attach(buffer.clone(), lease.clone())?;
    let mut import = KBox::new(import, GFP_KERNEL)?;
    let made = import.prepare();
    // The lease also drops the import after a failure, because that may wait for the reservation
    // lock.
    lease.open(import)?;
    let (window, method) = made?;
    // SAFETY: The owner in the lease is the import, which keeps the buffer mapped.
    Ok(unsafe { Region::new(window, method, Shown::Option("dmabuf"), tenure) })
}
