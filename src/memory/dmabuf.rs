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
//!   [`Lease`] is revoked, and after the last use the buffer is unmapped and unpinned.
//! * CPU access begins at mount and ends at release, because processes may read the memory through
//!   their mappings at any time.
//!
//! The pages belong to the exporter, or to where it got them: a memfd, a heap, a driver. So
//! mappings of files insert page frames and do not count pages, with the cache attributes of the
//! exporter.
//!
//! The reservation lock of the buffer is taken under locks of the VFS. Under it, this file and
//! [`Lease::revoke`] take no lock of daxfs or of the VFS.

use super::lease::Lease;
use super::{Region, Shown, Tenure};
use crate::linux::dma_buf::{Attachment, DmaBuf, Importer};
use crate::linux::fs::Refusal;
use crate::linux::Errno;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{prelude::*, str::CString, sync::Arc};

/// A step at which an exporter can fail, and a remedy.
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

/// The exporter takes the memory back.
impl Importer for Arc<Lease> {
    fn revoked(&self) {
        self.revoke();
    }
}

/// Pin and map the buffer, and begin CPU access.
fn prepare(import: &mut Attachment<Arc<Lease>>) -> Result<(), Refusal> {
    import.pin().map_err(failed(PIN))?;
    import.wait().map_err(failed(WAIT))?;
    import.map().map_err(failed(MAP))?;
    import.begin_access().map_err(failed(ACCESS))?;
    if !import.is_cached_alike() {
        return Err(Refusal::new(
            Errno::NotSupported,
            fmt!("the exporter caches its pages in different ways"),
        )
        .remedy("use one buffer for each"));
    }
    Ok(())
}

/// Open the region of dma-buf `buffer`. The exporter may revoke the lease from now on.
///
/// # Errors
///
/// Any reason to refuse the mount. Many exporters cannot map into the kernel's address space
/// (`EINVAL`, `EOPNOTSUPP`).
pub(crate) fn open(buffer: &DmaBuf, tenure: &Tenure) -> Result<Region, Refusal> {
    /// Number of the next device. Names on a bus must be unique.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = CString::try_from_fmt(fmt!("daxfs-dmabuf.{}", number))?;
    let lease = tenure.lease();
    let import = Attachment::new(buffer.clone(), &name, lease.clone()).map_err(failed(ATTACH))?;
    let mut import = KBox::new(import, GFP_KERNEL)?;
    let made = prepare(&mut import);
    // The lease also drops the import after a failure, because that may wait for the reservation
    // lock.
    lease.open(import)?;
    made?;
    Ok(Region::of_owner(Shown::Option("dmabuf"), tenure)?)
}
