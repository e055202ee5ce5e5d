// SPDX-License-Identifier: GPL-2.0-only

//! A dma-buf: memory of a device, or of a heap that devices share.
//!
//! daxfs is a dynamic importer with the processor as its device; see "dma-bufs" in
//! Documentation/design.rst. The reservation lock of the buffer is taken under locks of the VFS, so
//! under it the revocation of a lease takes no lock of daxfs or of the VFS.

use super::{
    Descriptor,
    LeaseRef,
    Region, //
};
use crate::linux::dma_buf::{
    Attachment,
    DmaBuf, //
};
use crate::prelude::*;

/// Looks up the dma-buf of a file descriptor of the calling process.
pub(crate) fn get(fd: i32, _file: &File) -> Result<KBox<dyn Descriptor>> {
    Ok(KBox::new(DmaBuf::get(fd)?, GFP_KERNEL)?)
}

impl Descriptor for DmaBuf {
    /// Opens the region of the buffer. The exporter may revoke the lease from now on.
    ///
    /// Errors: Any error of the exporter, see [`Attachment`].
    fn open(&self, lease_ref: &LeaseRef) -> Result<Region, Refusal> {
        /// Number of the next device. Names on a bus must be unique.
        static NEXT: Atomic<u64> = Atomic::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("daxfs-dmabuf.{}", number))?;
        let lease = lease_ref.lease().clone();
        let attached = Attachment::new(self.clone(), &name, move || lease.revoke());
        let mut import = KBox::new(attached?, GFP_KERNEL)?;
        import.prepare()?;
        lease_ref.lease().open(import)?;
        Ok(Region::of_owner(lease_ref)?)
    }
}
