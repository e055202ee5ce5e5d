// SPDX-License-Identifier: GPL-2.0

//! A dma-buf: memory of a device, or of a heap that devices share.
//!
//! Follows `include/linux/dma-buf.h`. daxfs is a dynamic importer whose device is the processor:
//!
//! * It attaches a faux device, so that the exporter knows of a user and can tell it things. Each mount has its
//!   own: it needs no state of the module, it shows in debugfs which mounts use a buffer, and it leaves with them.
//! * It pins the buffer from mount until the memory is released, so that the content does not move. Mounting takes
//!   `CAP_SYS_ADMIN`, so ordinary users cannot pin memory by it.
//! * If the exporter invalidates the mappings of the pinned buffer, it takes the memory back for good: the
//!   [`Lease`] is revoked, and after the last use [`Source::release`] gives everything back that the exporter waits for.
//! * CPU access begins at mount and ends at release, because processes may look at the memory through their mappings
//!   at any time in between.
//!
//! The pages belong to the exporter, or to whom it got them from: a memfd, a heap, a driver. Mappings of files
//! therefore refer to page frames and never count pages, and they are cached as the exporter's own mapping is.
//!
//! The reservation lock of the buffer is taken inside the locks of the VFS. No lock of daxfs or of the VFS is taken
//! under it, by this file or by [`Lease::revoke`].

use super::cache::{CacheMode, Mixed};
use super::lease::Lease;
use super::{Files, Mapping, Region, Shown, Source};
use crate::bindings;
use core::mem::MaybeUninit;
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

/// What the exporter was asked for when it failed.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// To attach our device.
    Attach,
    /// To keep the buffer where it is.
    Pin,
    /// To finish moving or clearing the buffer.
    Wait,
    /// To map the buffer into the kernel.
    Map,
    /// To make the buffer's content visible to the processor.
    Access,
}

/// Why a dma-buf's memory cannot be used.
pub(crate) enum OpenError {
    /// The exporter failed.
    Exporter(Step, Error),
    /// The pages of the buffer are not cached alike.
    MixedCaching,
    /// Something else.
    Other(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Other(error)
    }
}

impl From<Mixed> for OpenError {
    fn from(_: Mixed) -> Self {
        OpenError::MixedCaching
    }
}

/// Makes an error at `step` of what the exporter returned.
fn failed(step: Step) -> impl FnOnce(Error) -> OpenError {
    move |error| {
        // The mount context is used up, so the system call must not be started again.
        let error = if error == ERESTARTSYS { EINTR } else { error };
        OpenError::Exporter(step, error)
    }
}

/// A reference to a dma-buf.
///
/// # Invariants
///
/// Holds one reference.
pub(crate) struct DmaBuf(NonNull<bindings::dma_buf>);

// SAFETY: A dma-buf is counted by reference and may be used by any thread.
unsafe impl Send for DmaBuf {}
// SAFETY: As above.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// Looks up the dma-buf behind file descriptor `fd` of the calling process.
    ///
    /// # Errors
    ///
    /// `EBADF` when there is none, `EINVAL` when it is something else.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: May be called with any number; it checks what the descriptor is.
        let found = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: The reference was got just now.
        NonNull::new(found).map(DmaBuf).ok_or(EINVAL)
    }

    /// Takes the reservation lock.
    fn reserve(&self) -> Reserved<'_> {
        // SAFETY: By the invariant the dma-buf is valid.
        unsafe { bindings::daxfs_helper_dma_buf_lock(self.0.as_ptr()) };
        // INVARIANT: Taken just now.
        Reserved(self)
    }

    /// Takes the reservation lock, unless a signal comes first.
    fn reserve_interruptible(&self) -> Result<Reserved<'_>> {
        // SAFETY: By the invariant the dma-buf is valid.
        to_result(unsafe { bindings::daxfs_helper_dma_buf_lock_interruptible(self.0.as_ptr()) })?;
        // INVARIANT: Taken just now.
        Ok(Reserved(self))
    }

    /// Waits until the kernel has finished moving or clearing the buffer.
    fn wait(&self) -> Result {
        // SAFETY: By the invariant the dma-buf is valid; its reservation object never changes.
        let reservation = unsafe { (*self.0.as_ptr()).resv };
        // SAFETY: The reservation object lives as long as the dma-buf. We do not hold its lock.
        let left = unsafe {
            bindings::dma_resv_wait_timeout(
                reservation,
                bindings::dma_resv_usage_DMA_RESV_USAGE_KERNEL,
                true,
                MAX_SCHEDULE_TIMEOUT as usize,
            )
        };
        match left {
            // All errors fit.
            error if error < 0 => Err(Error::from_errno(error as kernel::ffi::c_int)),
            _ => Ok(()),
        }
    }

    /// Returns the size in bytes.
    fn size(&self) -> u64 {
        // SAFETY: By the invariant the dma-buf is valid; its size never changes.
        let size = unsafe { (*self.0.as_ptr()).size };
        size as u64
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours to put.
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
        // SAFETY: By the invariant.
        unsafe { bindings::daxfs_helper_dma_buf_unlock(self.0 .0.as_ptr()) };
    }
}

/// A device that stands for the processor.
///
/// The bindings of the kernel crate differ between 7.2 and 7.3, so this uses the C functions.
///
/// # Invariants
///
/// The device is registered, and only this object can unregister it.
struct FauxDevice(NonNull<bindings::faux_device>);

// SAFETY: A device is bound to no thread.
unsafe impl Send for FauxDevice {}
// SAFETY: A shared reference gives access to the pointer only.
unsafe impl Sync for FauxDevice {}

impl FauxDevice {
    /// Makes a device that reaches all memory.
    fn new() -> Result<Self> {
        /// Number of the next device: names are unique on a bus.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = CString::try_from_fmt(fmt!("daxfs-dmabuf.{}", number))?;
        // SAFETY: The name is copied. The device needs no parent and no operations.
        let made = unsafe {
            bindings::faux_device_create(name.as_char_ptr().cast(), ptr::null_mut(), ptr::null())
        };
        // INVARIANT: Registered just now.
        let device = FauxDevice(NonNull::new(made).ok_or(ENODEV)?);
        // Exporters may look at the mask to find memory that the device reaches.
        // SAFETY: By the invariant the device is valid, and nobody else uses it yet.
        to_result(unsafe { bindings::daxfs_helper_dma_all_memory(device.as_raw()) })?;
        Ok(device)
    }

    /// Returns the generic part of the C object.
    fn as_raw(&self) -> *mut bindings::device {
        // SAFETY: By the invariant the device is valid.
        unsafe { &raw mut (*self.0.as_ptr()).dev }
    }
}

impl Drop for FauxDevice {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::faux_device_destroy(self.0.as_ptr()) };
    }
}

/// How far an import has come. Each stage includes the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    Attached,
    Pinned,
    Mapped,
    Accessible,
}

/// What the exporter hands back to us when it invalidates mappings.
struct Importer {
    lease: Arc<Lease>,
    /// A [`Stage`]. It grows under the reservation lock up to `Pinned`.
    stage: AtomicU8,
}

impl Importer {
    const OPERATIONS: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
        // The processor needs no struct pages, so device memory may stay where it is.
        allow_peer2peer: true,
        invalidate_mappings: Some(Self::invalidate_mappings),
    };

    fn reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    fn advance(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Called by the exporter, under the reservation lock, when the memory is about to be somewhere else.
    ///
    /// # Safety
    ///
    /// `attachment` must be one of ours.
    unsafe extern "C" fn invalidate_mappings(attachment: *mut bindings::dma_buf_attachment) {
        // SAFETY: By the contract the attachment is valid.
        let private = unsafe { (*attachment).importer_priv };
        // SAFETY: By the invariants of `Import`, whose attachment this is, the object outlives the attachment, and
        // nobody has a mutable reference to it.
        let importer = unsafe { &*private.cast::<Importer>() };
        // A buffer that is not pinned may move: pinning itself may do that, and nothing has been mapped yet.
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
/// * What `importer.stage` says has been done and not been undone. Only `open` and `release` change it.
/// * From [`Stage::Mapped`] on `map` is what dma_buf_vmap() filled in.
struct Import {
    attachment: NonNull<bindings::dma_buf_attachment>,
    map: bindings::iosys_map,
    importer: KBox<Importer>,
    _device: FauxDevice,
    buffer: DmaBuf,
}

// SAFETY: Attachments and mappings are bound to no thread.
unsafe impl Send for Import {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Import {}

// SAFETY: The mapping lives until `release`, which is called once the memory is in use no more.
unsafe impl Source for Import {
    fn release(&mut self) {
        let stage = &self.importer.stage;
        let reached = stage.swap(Stage::Attached as u8, Ordering::AcqRel);
        let buffer = self.buffer.0.as_ptr();
        if reached >= Stage::Accessible as u8 {
            // An error has no consequence for a reader.
            // SAFETY: By the invariants CPU access has begun, and by the swap nobody else ends it.
            unsafe { bindings::dma_buf_end_cpu_access(buffer, DIRECTION) };
        }
        if reached == Stage::Attached as u8 {
            return;
        }
        let _reserved = self.buffer.reserve();
        if reached >= Stage::Mapped as u8 {
            let mut map = self.map;
            // SAFETY: By the invariants this is the mapping, and by the swap nobody else unmaps it. The reservation
            // lock is held.
            unsafe { bindings::dma_buf_vunmap(buffer, &mut map) };
        }
        // SAFETY: By the invariants the buffer is pinned, and by the swap nobody else unpins it. The reservation
        // lock is held.
        unsafe { bindings::dma_buf_unpin(self.attachment.as_ptr()) };
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.release();
        // SAFETY: By the invariants; the reservation lock is not held. The fields are dropped after this.
        unsafe { bindings::dma_buf_detach(self.buffer.0.as_ptr(), self.attachment.as_ptr()) };
    }
}

impl Import {
    /// Attaches a new device to `buffer`.
    fn attach(buffer: DmaBuf, lease: Arc<Lease>) -> Result<Self, OpenError> {
        let device = FauxDevice::new()?;
        let importer = Importer {
            lease,
            stage: AtomicU8::new(Stage::Attached as u8),
        };
        let importer = KBox::new(importer, GFP_KERNEL).map_err(Error::from)?;
        let private: *const Importer = &*importer;
        // SAFETY: Buffer, device and private object are valid and stay until the attachment ends: see `drop`. The
        // table is static. The reservation lock is not held.
        let attached = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(
                buffer.0.as_ptr(),
                device.as_raw(),
                &Importer::OPERATIONS,
                private.cast_mut().cast(),
            )
        })
        .map_err(failed(Step::Attach))?;
        // INVARIANT: Attached just now, and nothing else has been done.
        Ok(Import {
            attachment: NonNull::new(attached).ok_or(EINVAL)?,
            map: bindings::iosys_map::default(),
            importer,
            _device: device,
            buffer,
        })
    }

    /// Pins the buffer, and waits until it is in its final place.
    fn pin(&mut self) -> Result<(), OpenError> {
        let reserved = self
            .buffer
            .reserve_interruptible()
            .map_err(failed(Step::Pin))?;
        // SAFETY: By the invariants the attachment is valid and a dynamic one. The reservation lock is held.
        to_result(unsafe { bindings::dma_buf_pin(self.attachment.as_ptr()) })
            .map_err(failed(Step::Pin))?;
        // INVARIANT: Pinned just now.
        self.importer.advance(Stage::Pinned);
        drop(reserved);
        self.buffer.wait().map_err(failed(Step::Wait))
    }

    /// Pin and map the buffer. Return where it is, and how its files are mapped.
    fn prepare(&mut self) -> Result<(Mapping, Files), OpenError> {
        self.pin()?;
        let mapping = self.map()?;
        let files = Files::Frames {
            io: mapping.io,
            cache: CacheMode::of(&mapping)?,
        };
        Ok((mapping, files))
    }

    /// Maps the pinned buffer into the kernel, and begins CPU access.
    fn map(&mut self) -> Result<Mapping, OpenError> {
        let buffer = self.buffer.0.as_ptr();
        let mut map = MaybeUninit::<bindings::iosys_map>::zeroed();
        let reserved = self
            .buffer
            .reserve_interruptible()
            .map_err(failed(Step::Map))?;
        // SAFETY: The dma-buf is valid and its reservation lock is held.
        to_result(unsafe { bindings::dma_buf_vmap(buffer, map.as_mut_ptr()) })
            .map_err(failed(Step::Map))?;
        drop(reserved);
        // SAFETY: Filled in just now.
        self.map = unsafe { map.assume_init() };
        // INVARIANT: Mapped just now.
        self.importer.advance(Stage::Mapped);

        // SAFETY: The dma-buf is valid and its reservation lock is not held.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(buffer, DIRECTION) })
            .map_err(failed(Step::Access))?;
        // INVARIANT: Begun just now.
        self.importer.advance(Stage::Accessible);

        // SAFETY: Both members of the union are a pointer to the first byte.
        let base = unsafe { self.map.__bindgen_anon_1.vaddr };
        Ok(Mapping {
            base: NonNull::new(base.cast()).ok_or(ENXIO)?,
            size: self.buffer.size(),
            io: self.map.is_iomem,
        })
    }
}

/// Imports the whole of `buffer`. The exporter may revoke `lease` from then on.
///
/// # Errors
///
/// See [`OpenError`]; many exporters cannot map into the kernel's address space (`EINVAL`, `EOPNOTSUPP`).
pub(crate) fn open(buffer: DmaBuf, lease: &Arc<Lease>) -> Result<Region, OpenError> {
    let import = Import::attach(buffer, lease.clone())?;
    let mut import = KBox::new(import, GFP_KERNEL).map_err(Error::from)?;
    let made = import.prepare();
    // Also after a failure it is for the lease to undo what was done: this may wait for the reservation lock.
    lease.open(import);
    let (mapping, files) = made?;
    Ok(Region::new(
        mapping,
        files,
        Shown::Option("dmabuf"),
        lease.clone(),
    ))
}
