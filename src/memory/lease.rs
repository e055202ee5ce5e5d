// SPDX-License-Identifier: GPL-2.0

//! The right to use the memory of a region, and its end.
//!
//! A lease is made before its source is opened, and shared by all who have to do with the memory: the region that
//! reads it, the source that owns it, and the subsystem that announces that it goes.
//!
//! * The source *revokes* the lease when the memory is about to go. From then on reads fail with `EIO` and faults
//!   with SIGBUS. A work item waits for those in progress, unmaps everything, and then looks now and then whether the
//!   last user of a page has let it go (direct I/O, a pipe). Then [`Source::release`] tells the owner.
//! * Unmount *ends* the lease ([`Tenure`]). If pages are still in use, the same work item keeps the source until they
//!   are not, and the module with it. Nobody waits for that.
//!
//! Locks, outermost first: `mmap_lock` or an inode's lock of the VFS, `readers`, the state's mutex, the extents'
//! mutex, locks of the MM. Page faults and reads run under `readers` alone.

use super::extents::{Claim, Extents};
use super::{poison, registry, Source};
use crate::bindings;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use kernel::{
    impl_has_delayed_work, new_delayed_work, new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    time::{msecs_to_jiffies, Jiffies},
    types::Opaque,
    workqueue::{DelayedWork, WorkItem},
};

/// Milliseconds after which pages that are in use are looked at again.
const AGAIN: u32 = 20;

/// The right to use the memory of a region.
///
/// # Invariants
///
/// `readers` is initialised.
#[pin_data(PinnedDrop)]
pub(crate) struct Lease {
    revoked: AtomicBool,
    /// The DAX device of the source, if it has one, to be compared only.
    dax: AtomicPtr<bindings::dax_device>,
    /// The device that the fsdev driver drives, if that is the source, likewise.
    fsdev: AtomicPtr<bindings::device>,
    /// Users of the memory, and page faults that are about to map it, are readers of this.
    #[pin]
    readers: Opaque<bindings::srcu_struct>,
    #[pin]
    extents: Extents,
    /// Protects the source. What its [`Source::release`] may wait for may be waited for under it.
    #[pin]
    state: Mutex<State>,
    #[pin]
    work: DelayedWork<Lease>,
}

struct State {
    /// The owner of the memory, from when it has been opened to the end.
    source: Option<KBox<dyn Source>>,
    /// Whether [`Source::release`] has been called.
    released: bool,
    /// Whether the region is gone, so that the source goes with the last user of a page.
    ended: bool,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Lease> for Lease { self.work }
}

// SAFETY: All fields can be sent and shared; `readers` is made for that.
unsafe impl Send for Lease {}
// SAFETY: As for `Send`.
unsafe impl Sync for Lease {}

/// A reader of the lease, which delays the end of the memory; do not keep it while you wait for anything else.
///
/// # Invariants
///
/// Is a read-side critical section of `lease.readers`.
pub(super) struct Reader<'a> {
    lease: &'a Lease,
    counter: *mut bindings::srcu_ctr,
}

impl Drop for Reader<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::daxfs_helper_readers_leave(self.lease.readers.get(), self.counter) };
    }
}

/// Ends a lease when it is dropped, which may not happen under `s_umount`.
pub(crate) struct Tenure(Arc<Lease>);

impl Tenure {
    /// Start a lease, and enter it in the registry.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn start() -> Result<Self> {
        let lease = Lease::new()?;
        registry::enter(&lease)?;
        Ok(Tenure(lease))
    }

    /// The lease.
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.0
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Lease {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                revoked: AtomicBool::new(false),
                dax: AtomicPtr::new(ptr::null_mut()),
                fsdev: AtomicPtr::new(ptr::null_mut()),
                readers <- Opaque::try_ffi_init(|place| {
                    // SAFETY: The place is valid for writing, pinned, and cleaned up in `drop`.
                    kernel::error::to_result(unsafe { bindings::daxfs_helper_readers_init(place) })
                }),
                extents <- Extents::new(),
                state <- new_mutex!(State {
                    source: None,
                    released: false,
                    ended: false,
                }),
                work <- new_delayed_work!("daxfs_lease"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Become a reader.
    ///
    /// # Errors
    ///
    /// `EIO` if the lease is revoked.
    #[inline]
    pub(super) fn read(&self) -> Result<Reader<'_>> {
        // SAFETY: By the invariant.
        let counter = unsafe { bindings::daxfs_helper_readers_enter(self.readers.get()) };
        // INVARIANT: Entered just now.
        let reader = Reader {
            lease: self,
            counter,
        };
        if self.revoked() {
            return Err(EIO);
        }
        Ok(reader)
    }

    /// Return whether the memory is about to go, or gone.
    #[inline]
    pub(crate) fn revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Revoke the lease. Does not wait for anything.
    pub(crate) fn revoke(self: &Arc<Self>) {
        self.revoked.store(true, Ordering::Release);
        registry::queue(self.clone(), 0);
    }

    /// Unmap everything, and wait for the last user of a page. The lease must be revoked and have no readers.
    pub(super) fn drain(&self) {
        while !self.extents.sweep(true) {
            // SAFETY: The caller may sleep.
            unsafe { bindings::msleep(AGAIN) };
        }
    }

    /// Wait for those who saw the lease before it was revoked: for a page fault, or a copy.
    pub(super) fn wait_for_readers(&self) {
        // SAFETY: By the invariant.
        unsafe { bindings::synchronize_srcu(self.readers.get()) };
    }

    /// Note the DAX device that the source is about to hold.
    pub(super) fn set_dax(&self, dax: *mut bindings::dax_device) {
        self.dax.store(dax, Ordering::Release);
    }

    /// Return whether the source holds, or is about to hold, `dax`.
    pub(super) fn holds(&self, dax: *mut bindings::dax_device) -> bool {
        self.dax.load(Ordering::Acquire) == dax
    }

    /// Note the fsdev device that the source is about to hold.
    pub(super) fn set_fsdev(&self, device: *mut bindings::device) {
        self.fsdev.store(device, Ordering::Release);
    }

    /// Return whether the source holds, or is about to hold, the fsdev device `device`.
    pub(super) fn is_on_fsdev(&self, device: *mut bindings::device) -> bool {
        self.fsdev.load(Ordering::Acquire) == device
    }

    /// Give the lease the source that it is for.
    pub(super) fn open(&self, source: KBox<dyn Source>) {
        self.state.lock().source = Some(source);
    }

    /// End the lease: the source goes, now or with the last user of a page.
    fn end(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.ended = true;
        if !self.extents.sweep(false) {
            drop(state);
            pr_info!("pages of an unmounted image are still in use; its memory stays until they are released\n");
            registry::queue(self.clone(), again());
            return;
        }
        let source = state.source.take();
        drop(state);
        drop(source);
        registry::remove(self);
    }

    /// Take the next step after the last user of a page is gone.
    fn idle(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if self.revoked() && !state.released {
            if let Some(source) = &mut state.source {
                source.release();
                state.released = true;
            }
        }
        if !state.ended {
            return;
        }
        // The one who takes the source cleans up after it.
        if let Some(source) = state.source.take() {
            drop(state);
            drop(source);
            registry::remove(self);
        }
    }

    /// Claim an extent; see [`Extents::claim`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn claim(&self, claim: &Claim) -> Result<Option<NonNull<bindings::address_space>>> {
        self.extents.claim(claim)
    }

    /// Drop a claim; see [`Extents::release`].
    pub(super) fn release(self: &Arc<Self>, start: u64) {
        if !self.extents.release(start) {
            registry::queue(self.clone(), again());
        }
    }

    /// The memory of the page at `offset` (counted as in [`Claim`]), page frame `frame`, has failed. The caller may not
    /// be a reader.
    pub(super) fn page_failed(&self, offset: u64, frame: usize, flags: kernel::ffi::c_int) {
        // The kernel takes the first page of a huge entry for all of it, and would mark that.
        // SAFETY: Looks at the struct page.
        let head = unsafe { bindings::daxfs_helper_folio_frame(frame) };
        let others = head != frame && !poison::frame_has_failed(head);
        poison::mark(frame);
        // A page fault in progress may have looked before the mark, and map the page yet.
        self.wait_for_readers();
        self.extents.page_failed(offset, flags);
        if others {
            poison::unmark(head);
        }
    }

    /// Unmap all pages whose memory has failed, so that the next access to them faults.
    pub(super) fn unmap_failed(&self) {
        self.wait_for_readers();
        if let Ok(_reader) = self.read() {
            self.extents.unmap_failed();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Lease {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant; a reader has a reference to the lease, so there is none.
        unsafe { bindings::cleanup_srcu_struct(self.readers.get()) };
    }
}

impl WorkItem for Lease {
    type Pointer = Arc<Lease>;

    fn run(this: Arc<Lease>) {
        let revoked = this.revoked();
        if revoked {
            this.wait_for_readers();
        }
        if this.extents.sweep(revoked) {
            this.idle();
        } else {
            registry::queue(this, again());
        }
        registry::done();
    }
}

fn again() -> Jiffies {
    msecs_to_jiffies(AGAIN)
}
