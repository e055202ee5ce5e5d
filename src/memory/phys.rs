// SPDX-License-Identifier: GPL-2.0-only

//! Reserved ranges of physical addresses.
//!
//! We make struct pages and a DAX device for the range. If the kernel cannot make them (on x86-64
//! the range must be aligned to 2 MiB), or if they would fill more than half of the available
//! memory, we map the range without them, and so memory of a PCI device, which may be removed.

use super::lease::Lease;
use crate::prelude::*;

pub(crate) use super::range::check;
use super::range::{
    not_memory,
    removing,
    RequestLock,
    RequestedRange, //
};
use super::{
    LeaseRef,
    Region, //
};
use crate::linux::ioport::Requested;
use crate::linux::mm::poison::Frame;
use crate::linux::pagemap::{
    Frames,
    OwnDax, //
};
use crate::linux::{
    bus::Notifier,
    pci,
    security, //
};
use kernel::page;

/// How many bytes to map at first, to look at their attributes.
const HEAD: u64 = 2 << 20;

global_mutex! {
    // The frames of ranges that have failed, until the module is unloaded: a range has struct pages
    // only while it is mounted, and the next mount must refuse these frames too.
    static FRAMES: KVec<usize> = KVec::new();
}

/// Records page frame `frame` as failed, because its struct page is temporary.
fn record(frame: usize) {
    let mut frames = FRAMES.lock();
    if !frames.contains(&frame) && frames.push(frame, GFP_KERNEL).is_err() {
        pr_warn!(
            "no memory to record that page frame {:#x} has failed\n",
            frame
        );
    }
}

/// Keep this as long as ranges are mounted.
pub(super) struct Watch(#[allow(dead_code)] Option<Notifier>);

impl Watch {
    /// Releases the memory of PCI devices before they are removed.
    pub(super) fn new() -> Result<Self> {
        Ok(Watch(pci::watch_removals(removing)?))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *FRAMES.lock() = KVec::new();
    }
}

/// Shows a range as mount options, with its addresses to a process with `CAP_SYS_RAWIO` only.
/// Returns false for others.
pub(crate) fn show(seq: &SeqFile, start: u64, size: u64) -> bool {
    let may_see = security::opener_has_raw_io(seq);
    if may_see {
        kernel::seq_print!(seq, ",phys={:#x},size={:#x}", start, size);
    } else {
        kernel::seq_print!(seq, ",phys");
    }
    may_see
}

/// Creates struct pages for the range, or returns the range if that is impossible.
fn make_pages(
    RequestedRange { requested, is_pci }: RequestedRange,
    lease: &Arc<Lease>,
    _turn: &RequestLock,
) -> Result<OwnDax, Requested> {
    let (start, size) = (requested.start(), requested.size());
    if is_pci {
        lease.uses.lock().pci = Some((start, size));
        return Err(requested);
    }
    let lease = lease.clone();
    let failed = move |frame: Frame<'_>, flags| {
        record(frame.number());
        let offset = ((frame.number() as u64) << page::PAGE_SHIFT) - start;
        lease.page_failed(offset, frame, flags);
    };
    let Ok(failed) = KBox::new(failed, GFP_KERNEL) else {
        return Err(requested);
    };
    // It has new struct pages.
    OwnDax::new(requested, failed).inspect(|own| {
        let frames = FRAMES.lock();
        let recorded = frames.iter().filter_map(|&frame| own.frame(frame));
        recorded.for_each(Frame::mark);
    })
}

/// Opens the region of `size` bytes at physical address `start`.
pub(crate) fn open(start: u64, size: u64, lease_ref: &LeaseRef) -> Result<Region, Refusal> {
    let lease = lease_ref.lease();
    let turn = RequestLock::wait();
    // Check the attributes of the start before mapping the whole range.
    let head = RequestedRange::new(start, size.min(HEAD), &turn)?;
    let is_pci = head.is_pci;
    if !Frames::new(head.requested)?.is_cached() && !is_pci {
        return Err(not_memory());
    }
    match make_pages(RequestedRange::new(start, size, &turn)?, lease, &turn) {
        Ok(own) => lease.open(KBox::new(own, GFP_KERNEL)?)?,
        Err(requested) => {
            pr_info!(
                "phys={start:#x}: no struct pages for this range: \
                 no direct I/O and no ptrace on mappings\n"
            );
            lease.open(KBox::new(Frames::new(requested)?, GFP_KERNEL)?)?;
        }
    }
    // The removal of a PCI device waits for the turn, and then finds the owner.
    drop(turn);
    Ok(Region::of_owner(lease_ref)?)
}
