// SPDX-License-Identifier: GPL-2.0-only

//! Leases: how long the memory of a region may be used.
//!
//! A lease exists before its memory is opened. The region that reads the memory, the owner of the
//! memory, and the callbacks that announce its removal share it.
//!
//! * A lease is *revoked* before the memory goes away. From then on reads fail with `EIO` and
//!   faults with SIGBUS. A work item waits for reads and faults in progress, unmaps everything, and
//!   waits until pages have no users (direct I/O, a pipe). Then it calls [`Owner::release`].
//! * Unmount *ends* the lease ([`Tenure`](super::Tenure)). If pages are still in use, the same work
//!   item keeps the owner, and with it the module, until they are not. Unmount does not wait for
//!   that.
//!
//! Locks, from the outermost to the innermost: `mmap_lock` or an inode's lock, `readers`, the mutex
//! of the state, the mutex of the extents, locks of the MM. Page faults and reads take `readers`
//! only.

use super::tree::Extents;
use super::{direct, poison, DaxRange, Mappable, Owner};
use crate::bindings;
use crate::linux::workqueue::Job;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    time::{delay::fsleep, msecs_to_jiffies, Delta, Jiffies},
    types::Opaque,
};

/// Time after which pages in use are checked again, in milliseconds. It doubles each time, up to
/// [`MOST`]: an ordinary user can keep a page for as long as they like.
const INTERVAL: u32 = 20;

/// The longest of these times.
const MOST: u32 = 1000;

/// What identifies a claim on a DAX device: its address, which is the holder data of the device. It
/// has a size, so that no two have the same address.
pub(super) struct Token(#[allow(dead_code)] u8);

impl Token {
    /// Make a token.
    pub(super) fn new() -> Self {
        Token(0)
    }
}

/// The number of a list of bad blocks that does not exist.
static NO_LIST: AtomicU32 = AtomicU32::new(0);

/// Says how long the memory of a region may be used. The work item releases it.
pub(crate) type Lease = Job<Terms>;

/// What a lease has.
///
/// # Invariants
///
/// `readers` is initialized. `list` is valid while there are readers.
#[pin_data(PinnedDrop)]
pub(crate) struct Terms {
    revoked: AtomicBool,
    /// The DAX device of the owner, or null. Readers may use it; others only compare it.
    dax: AtomicPtr<bindings::dax_device>,
    /// The claim on that device. It is only compared.
    claim: AtomicPtr<Token>,
    /// Start and end of the part of the device that the owner uses, in bytes.
    part: [AtomicU64; 2],
    /// Number of the block device that the owner has opened, or 0.
    block: AtomicU32,
    /// A number that changes when the driver of the device lists bad blocks.
    list: AtomicPtr<u32>,
    /// That number when the device was last asked for them.
    list_seen: AtomicU32,
    /// The device of the fsdev driver, or null. It is only compared.
    fsdev: AtomicPtr<bindings::device>,
    /// Start and size of physical memory that goes away with a PCI device, in bytes.
    range: [AtomicU64; 2],
    /// Reads, look-ups and page faults are readers of this.
    #[pin]
    readers: Opaque<bindings::srcu_struct>,
    #[pin]
    extents: Extents,
    /// Under this mutex, [`Owner::release`] may wait for what it needs.
    #[pin]
    state: Mutex<State>,
    /// Milliseconds after which the work item runs next, if pages are in use.
    interval: AtomicU32,
}

struct State {
    /// Owner of the memory: `None` before it is opened and after the end.
    owner: Option<KBox<dyn Owner>>,
    /// Set after [`Owner::release`] has been called.
    released: bool,
    /// Set after the region and all claims are gone. The owner is dropped when no page has users.
    ended: bool,
}

impl State {
    /// Release the memory, unless that was done before.
    fn release(&mut self) {
        if let (false, Some(owner)) = (self.released, &mut self.owner) {
            owner.release();
            self.released = true;
        }
    }
}

// SAFETY: All other fields are `Send`, and an SRCU domain may be cleaned up by any thread.
unsafe impl Send for Terms {}
// SAFETY: All other fields are `Sync`, and an SRCU domain may be used by several threads at the
// same time.
unsafe impl Sync for Terms {}

/// A reader of a lease. It delays the release of the memory, so do not wait while you have one.
///
/// # Invariants
///
/// `counter` is that of an SRCU read-side critical section of `lease.readers`.
pub(super) struct Reader<'a> {
    lease: &'a Lease,
    counter: *mut bindings::srcu_ctr,
}

impl Drop for Reader<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant this ends the critical section.
        unsafe { bindings::srcu_read_unlock_fast(self.lease.readers.get(), self.counter) };
    }
}

impl Reader<'_> {
    /// Return true if some memory may have failed, so that pages must be checked.
    ///
    /// A driver that lists another bad block tells nobody, so look whether its list has changed.
    #[inline(always)]
    pub(super) fn may_have_failed(&self) -> bool {
        let lease = self.lease;
        // SAFETY: By the invariant of the lease the number is valid for this reader.
        let number = unsafe { AtomicU32::from_ptr(lease.list.load(Ordering::Acquire)) };
        let now = number.load(Ordering::Acquire);
        if now != lease.list_seen.load(Ordering::Acquire) {
            // SAFETY: This is a reader.
            unsafe { lease.look_at_list(now) };
        }
        poison::any()
    }
}

/// What has become of a lease.
pub(super) enum Progress {
    /// Pages are in use. [`Lease::proceed`] must be called later.
    Busy,
    /// There is nothing to do now.
    Idle,
    /// The lease has ended and the owner of the memory is gone.
    Ended,
}

impl Lease {
    /// Make a lease.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Job::of(try_pin_init!(Terms {
            revoked: AtomicBool::new(false),
            dax: AtomicPtr::new(ptr::null_mut()),
            claim: AtomicPtr::new(ptr::null_mut()),
            part: [const { AtomicU64::new(0) }; 2],
            block: AtomicU32::new(0),
            list: AtomicPtr::new(NO_LIST.as_ptr()),
            list_seen: AtomicU32::new(0),
            fsdev: AtomicPtr::new(ptr::null_mut()),
            range: [const { AtomicU64::new(0) }; 2],
            readers <- Opaque::try_ffi_init(|place| {
                // SAFETY: The place is valid for writing and pinned. `drop` cleans it up.
                kernel::error::to_result(unsafe { bindings::init_srcu_struct_fast(place) })
            }),
            extents <- Extents::new(),
            state <- new_mutex!(State {
                owner: None,
                released: false,
                ended: false,
            }),
            interval: AtomicU32::new(INTERVAL),
        }? Error))
    }

    /// Become a reader.
    ///
    /// # Errors
    ///
    /// `EIO` if the lease is revoked.
    #[inline]
    pub(super) fn read(&self) -> Result<Reader<'_>> {
        // SAFETY: By the type invariant `readers` is initialized.
        let counter = unsafe { bindings::srcu_read_lock_fast(self.readers.get()) };
        // INVARIANT: The critical section was entered above.
        let reader = Reader {
            lease: self,
            counter,
        };
        if self.revoked() {
            return Err(EIO);
        }
        Ok(reader)
    }

    /// Return true if the memory is about to go away, or gone.
    #[inline]
    pub(crate) fn revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Revoke the lease. This does not wait.
    pub(crate) fn revoke(self: &Arc<Self>) {
        self.revoked.store(true, Ordering::Release);
        self.interval.store(INTERVAL, Ordering::Relaxed);
        self.queue(0);
    }

    /// Wait for readers of the revoked lease, unmap everything, and wait until no page has users.
    pub(super) fn drain(&self) {
        self.wait_for_readers();
        let mut interval = INTERVAL;
        while !self.extents.sweep(true) {
            fsleep(Delta::from_millis(interval.into()));
            interval = MOST.min(2 * interval);
        }
    }

    /// Wait for reads and page faults in progress.
    pub(super) fn wait_for_readers(&self) {
        // SAFETY: By the type invariant `readers` is initialized.
        unsafe { bindings::synchronize_srcu(self.readers.get()) };
    }

    /// Store the DAX device that the owner will use, the claim on it, and the part of it in bytes.
    pub(super) fn set_dax(
        &self,
        dax: *mut bindings::dax_device,
        claim: *const Token,
        part: &Range<u64>,
    ) {
        self.part[0].store(part.start, Ordering::Relaxed);
        self.part[1].store(part.end, Ordering::Relaxed);
        self.claim.store(claim.cast_mut(), Ordering::Relaxed);
        self.dax.store(dax, Ordering::Release);
    }

    /// Forget the DAX device, because the DAX core removes its holder.
    pub(super) fn forget_dax(&self) {
        self.dax.store(ptr::null_mut(), Ordering::Release);
    }

    /// Return true if the owner uses DAX device `dax` by this claim, or will use it.
    pub(super) fn holds(&self, dax: *mut bindings::dax_device, claim: *const Token) -> bool {
        self.dax.load(Ordering::Acquire) == dax
            && ptr::eq(self.claim.load(Ordering::Relaxed), claim)
    }

    /// Return the part of the DAX device that the owner uses, in bytes.
    pub(super) fn part(&self) -> Range<u64> {
        let [start, end] = &self.part;
        start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)
    }

    /// Store where the driver of the DAX device, which [`Self::set_dax`] has stored, counts changes
    /// of its list of bad blocks. Call this before the device is asked for its memory.
    ///
    /// # Safety
    ///
    /// The number must be valid while the lease has readers, until it is revoked.
    pub(super) unsafe fn set_list(&self, number: NonNull<u32>) {
        // SAFETY: The caller guarantees that it is valid.
        let now = unsafe { AtomicU32::from_ptr(number.as_ptr()) }.load(Ordering::Acquire);
        self.list_seen.store(now, Ordering::Relaxed);
        // INVARIANT: The caller guarantees it.
        self.list.store(number.as_ptr(), Ordering::Release);
    }

    /// Mark the pages that the driver lists as bad. `number` is the number of the list.
    ///
    /// # Safety
    ///
    /// The caller must be a reader.
    #[cold]
    #[inline(never)]
    unsafe fn look_at_list(&self, number: u32) {
        if let Some(device) = NonNull::new(self.dax.load(Ordering::Acquire)) {
            let part = self.part();
            let offset = part.start;
            // SAFETY: The caller is a reader, which keeps the device.
            unsafe { direct::mark_failed(&DaxRange { device, offset }, part.end - part.start) };
        }
        self.list_seen.store(number, Ordering::Release);
    }

    /// Store the number of the block device that the owner will open.
    pub(super) fn set_block(&self, number: bindings::dev_t) {
        self.block.store(number, Ordering::Release);
    }

    /// Return true if the owner has opened block device `number`, or will open it.
    pub(super) fn is_on_block(&self, number: bindings::dev_t) -> bool {
        self.block.load(Ordering::Acquire) == number
    }

    /// Store the fsdev device that the owner will hold.
    pub(super) fn set_fsdev(&self, device: *mut bindings::device) {
        self.fsdev.store(device, Ordering::Release);
    }

    /// Return true if the owner holds fsdev device `device`, or will hold it.
    pub(super) fn is_on_fsdev(&self, device: *mut bindings::device) -> bool {
        self.fsdev.load(Ordering::Acquire) == device
    }

    /// Store the physical memory that the owner uses and that goes away with a PCI device.
    pub(super) fn set_range(&self, start: u64, size: u64) {
        self.range[0].store(start, Ordering::Relaxed);
        self.range[1].store(size, Ordering::Release);
    }

    /// Return true if there is such memory, and `is_there` returns true for it.
    #[cfg(CONFIG_PCI)]
    pub(super) fn is_in_range(&self, is_there: impl Fn(u64, u64) -> bool) -> bool {
        let size = self.range[1].load(Ordering::Acquire);
        size > 0 && is_there(self.range[0].load(Ordering::Relaxed), size)
    }

    /// Set the owner of the memory.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is an owner.
    pub(super) fn open(&self, owner: KBox<dyn Owner>) -> Result {
        let mut state = self.state.lock();
        if state.owner.is_none() {
            state.owner = Some(owner);
            return Ok(());
        }
        // Dropping an owner may wait.
        drop(state);
        Err(EBUSY)
    }

    /// Return the memory of the owner, if it is mapped.
    pub(super) fn mappable(&self) -> Option<Mappable> {
        self.state.lock().owner.as_ref()?.mappable()
    }

    /// End the lease. Drop the owner now, or when no page has users.
    ///
    /// # Safety
    ///
    /// There must be no region of the lease, and no claim on an extent of it.
    pub(super) unsafe fn end(self: &Arc<Self>) -> Progress {
        let mut state = self.state.lock();
        state.ended = true;
        if !self.extents.sweep(false) {
            drop(state);
            pr_info!(
                "pages of an unmounted image are still in use; \
                 its memory stays until they are released\n"
            );
            self.queue(self.pause());
            return Progress::Busy;
        }
        // Under the mutex, so that a removal of the memory waits for it.
        state.release();
        let owner = state.owner.take();
        drop(state);
        drop(owner);
        Progress::Ended
    }

    /// If no page has users, release the memory of a lease that is revoked, and drop the owner of
    /// one that has ended. Called by the work item.
    pub(super) fn proceed(&self) -> Progress {
        let revoked = self.revoked();
        if revoked {
            self.wait_for_readers();
        }
        if !self.extents.sweep(revoked) {
            let next = MOST.min(2 * self.interval.load(Ordering::Relaxed));
            self.interval.store(next, Ordering::Relaxed);
            return Progress::Busy;
        }
        self.interval.store(INTERVAL, Ordering::Relaxed);
        let mut state = self.state.lock();
        if revoked {
            state.release();
        }
        if !state.ended {
            return Progress::Idle;
        }
        // The work item may run more than once. Only one run takes the owner.
        match state.owner.take() {
            Some(owner) => {
                drop(state);
                drop(owner);
                Progress::Ended
            }
            None => Progress::Idle,
        }
    }

    /// Return the delay after which pages in use are checked again.
    pub(super) fn pause(&self) -> Jiffies {
        msecs_to_jiffies(self.interval.load(Ordering::Relaxed))
    }

    /// Return the mapped extents.
    pub(super) fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Have the work item look at the extents, because pages of an unused one are still in use.
    pub(super) fn look_again(self: &Arc<Self>) {
        self.queue(self.pause());
    }

    /// Handle the failure of the page at `offset` (on the DAX device if there is one), page frame
    /// `frame`. The caller must not be a reader.
    pub(super) fn page_failed(&self, offset: u64, frame: usize, flags: kernel::ffi::c_int) {
        // For a PMD entry the kernel marks the first page of the folio, which may be intact.
        let first = poison::first_of_folio(frame);
        let intact = first != frame && !poison::frame_has_failed(first);
        poison::mark(frame);
        // A page fault that looked before the mark may still map the page.
        self.wait_for_readers();
        self.extents.page_failed(offset, flags);
        if intact {
            poison::unmark(first);
        }
    }

    /// Unmap the pages of `frames`, which have failed, so that the next access to them faults.
    #[cfg(CONFIG_TRACEPOINTS)]
    pub(super) fn unmap_frames(&self, frames: &Range<usize>) {
        let unmap = || match self.read() {
            Ok(reader) => self.extents.unmap_frames(&reader, frames),
            Err(_) => false,
        };
        if unmap() {
            // A page fault that looked before the failure may have mapped them again.
            self.wait_for_readers();
            unmap();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Terms {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant `readers` is initialized. A reader borrows the lease, so
        // there are no readers.
        unsafe { bindings::cleanup_srcu_struct(self.readers.get()) };
    }
}
