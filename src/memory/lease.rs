// SPDX-License-Identifier: GPL-2.0-only

//! Leases: how long the memory of a region may be used.
//!
//! We make a lease before we open its memory. The region that reads the memory, the owner of the
//! memory, and the callbacks that announce its removal share it.
//!
//! * Whoever takes the memory away *revokes* the lease first. From then on reads fail with `EIO`
//!   and faults with SIGBUS. A work item waits for reads and faults in progress, unmaps everything,
//!   and waits until nobody uses a page (direct I/O, a pipe). Then it drops the [`Owner`].
//! * Unmount *ends* the lease ([`LeaseRef`](super::LeaseRef)). If pages are still in use, the same
//!   work item keeps the owner, and with it the module, until they are not. Unmount does not wait
//!   for that.

#[cfg(CONFIG_DAXFS_FS_MEMFD)]
use super::charge::Charge;
use super::extents::Extents;
use crate::linux::bus::DeviceId;
use crate::linux::dax::HolderId;
use crate::linux::mm::{
    poison::Frame,
    Memory,
    Owner, //
};
use crate::linux::srcu::{
    self,
    Revocable, //
};
use crate::linux::workqueue::Job;
use crate::prelude::*;
use kernel::{
    new_spinlock,
    sync::{
        MutexGuard,
        SpinLock, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Jiffies,
        Monotonic, //
    },
};

/// How long to wait before checking pages in use again, in milliseconds. The delay doubles up to
/// [`MOST`], because an ordinary user can keep a page indefinitely.
const INTERVAL: u32 = 20;

/// Maximum delay, unless a check takes a long time.
const MOST: u32 = 1000;

/// A check looks at each file that was mapped. Rest this many times as long as it takes, but at
/// most [`LONGEST`], because a removal of the memory waits for the next one.
const RESTS: i64 = 20;

/// The longest time between two checks, in milliseconds.
const LONGEST: i64 = 5000;

/// Decides how long a region may be used. The work item releases its memory.
pub(crate) type Lease = Job<LeaseData>;

/// Memory that its owner uses, or will use, and that may go away.
#[derive(Default)]
pub(super) struct Uses {
    /// The hold on a DAX device, until the DAX core removes the holder.
    pub(super) hold: Option<HolderId>,
    /// The part of that device, in bytes.
    pub(super) part: Range<u64>,
    /// The number of a block device.
    pub(super) block: Option<u32>,
    /// A device of the fsdev driver.
    pub(super) fsdev: Option<DeviceId>,
    /// Start and size of physical memory of a PCI device.
    #[cfg(CONFIG_DAXFS_FS_PHYS)]
    pub(super) pci: Option<(u64, u64)>,
    /// The user's charge for it.
    #[cfg(CONFIG_DAXFS_FS_MEMFD)]
    pub(super) charge: Option<Charge>,
}

/// Content of a lease.
#[pin_data]
pub(crate) struct LeaseData {
    #[pin]
    pub(super) uses: SpinLock<Uses>,
    /// The memory. Reads, look-ups and page faults are readers of this.
    pub(super) memory: Revocable<Memory>,
    #[pin]
    pub(super) extents: Extents,
    /// True after the region and all claims are gone. The memory is freed when no page has users.
    /// Under this mutex, the drop of an [`Owner`] may wait for any locks that it takes.
    #[pin]
    ended: Mutex<bool>,
    /// Milliseconds after which the work item runs next, if pages are in use.
    interval: Atomic<u32>,
    /// The ordinary user charged for the memory, if any.
    user: Option<User>,
    /// How many references keep the lease from ending.
    pub(super) users: Atomic<usize>,
}

/// State of a lease's end.
pub(super) enum Progress {
    /// Pages are in use. Call [`Lease::proceed`] later.
    Busy,
    /// Nothing to do now.
    Idle,
    /// The lease has ended, and its memory is released.
    Ended,
}

impl Lease {
    /// Creates a lease on memory that is charged to `user`.
    pub(super) fn new(user: Option<User>) -> Result<Arc<Self>> {
        Job::of(try_pin_init!(LeaseData {
            uses <- new_spinlock!(Uses::default()),
            memory: Revocable::new(),
            extents <- Extents::new(),
            ended <- new_mutex!(false),
            interval: Atomic::new(INTERVAL),
            user,
            users: Atomic::new(1),
        }? Error))
    }

    /// Charges its user for `bytes` of memory, until the result is dropped.
    ///
    /// Errors: As [`Charge::new`].
    #[cfg(CONFIG_DAXFS_FS_MEMFD)]
    pub(super) fn charge(&self, bytes: u64) -> Result<Option<Charge>, Refusal> {
        self.user.map(|user| Charge::new(user, bytes)).transpose()
    }

    /// Revokes the lease. This does not wait.
    pub(crate) fn revoke(self: &Arc<Self>) {
        self.memory.revoke();
        self.interval.store(INTERVAL, Relaxed);
        self.queue(0);
    }

    /// Waits for the revoked lease's readers, unmaps everything, and waits until no page is in use.
    pub(super) fn drain(&self) {
        self.memory.drain();
        let mut interval = INTERVAL;
        while !self.extents.sweep(true) {
            fsleep(Delta::from_millis(interval.into()));
            interval = MOST.min(2 * interval);
        }
    }

    /// Publishes the memory that `owner` has mapped to readers. On failure, drops the owner, which
    /// may wait for any locks.
    ///
    /// Errors: `EBUSY` if there is an owner, `EIO` if it has mapped none or the lease is revoked,
    /// `ENOMEM`.
    pub(super) fn open(&self, owner: KBox<dyn Owner>) -> Result {
        let memory = Arc::new(Memory::new(owner).ok_or(EIO)?, GFP_KERNEL_ACCOUNT)?;
        self.memory.set(memory)?;
        // From now on, the failure handlers find the memory.
        self.memory.read()?.look_for_failures();
        Ok(())
    }

    /// Ends the lease, when no region and no claim on an extent has it. Releases the memory now, or
    /// when no page has users. Returns true if it is released.
    pub(super) fn end(self: &Arc<Self>) -> bool {
        if !self.extents.sweep(false) {
            *self.ended.lock() = true;
            if self.user.is_none() {
                pr_info!(
                    "pages of an unmounted image are still in use; \
                     its memory stays until they are released\n"
                );
            }
            self.queue(self.pause());
            return false;
        }
        self.release(&self.ended.lock());
        true
    }

    /// Releases the memory. This is under the mutex, so that a removal of the memory waits for it.
    fn release(&self, _under: &MutexGuard<'_, bool>) {
        drop(self.memory.take());
        // The next holder of the device may have the same address.
        let uses = mem::take(&mut *self.uses.lock());
        drop(uses);
    }

    /// If no page has users, release the memory of a lease that is revoked, or has ended. Called by
    /// the work item.
    pub(super) fn proceed(&self) -> Progress {
        let (revoked, ended) = (self.memory.is_revoked(), *self.ended.lock());
        if revoked {
            self.memory.drain();
        }
        let start = Instant::<Monotonic>::now();
        if !self.extents.sweep(revoked) {
            let next = MOST.min(2 * self.interval.load(Relaxed));
            let rest = RESTS * start.elapsed().as_millis().clamp(0, LONGEST);
            self.interval
                .store(next.max(rest.min(LONGEST) as u32), Relaxed);
            return Progress::Busy;
        }
        self.interval.store(INTERVAL, Relaxed);
        // The sweep does not look at pages of files that are in use. If those pages became unused
        // and the lease ended meanwhile, the work item runs again.
        if revoked || ended {
            self.release(&self.ended.lock());
        }
        if ended {
            Progress::Ended
        } else {
            Progress::Idle
        }
    }

    /// Returns how long to wait before checking pages in use again.
    pub(super) fn pause(&self) -> Jiffies {
        msecs_to_jiffies(self.interval.load(Relaxed))
    }

    /// Handles the failure of the page at `offset` (on the DAX device if there is one), page frame
    /// `frame`. The caller must not be a reader.
    pub(super) fn page_failed(&self, offset: u64, frame: Frame<'_>, flags: ffi::c_int) {
        frame.mark();
        if let Ok(memory) = self.memory.read() {
            memory.check_pages();
        }
        // A page fault that checked before the page was marked may still map it as part of a folio.
        // This is also the wait before `Frame::spare`.
        srcu::wait();
        // For a PMD entry the kernel marks the first page of the folio, which may be intact.
        let first = frame.first_of_folio();
        let handle = || self.extents.page_failed(offset, flags);
        if first.number() == frame.number() || first.has_failed() {
            return handle();
        }
        first.spare(handle);
        // A reader may have found it in the driver's list, and marked it before.
        if let Ok(memory) = self.memory.read() {
            memory.mark_failed();
        }
    }

    /// Handles the failure of page frame `frame`, which may be ordinary memory of this lease:
    /// unmaps it, so that the next access to it faults. The caller must not be a reader.
    pub(super) fn frame_failed(&self, frame: usize) {
        let memory = self.memory.read();
        let has = memory.as_ref().is_ok_and(|memory| memory.must_watch(frame));
        if let (true, Ok(memory)) = (has, &memory) {
            memory.check_pages();
        }
        drop(memory);
        if self.extents.unmap_failed(frame, has) {
            // A page fault that checked before the failure may have mapped the page again.
            srcu::wait();
            self.extents.unmap_failed(frame, has);
        }
    }
}
