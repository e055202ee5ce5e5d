// SPDX-License-Identifier: GPL-2.0-only

//! A reserved range of physical addresses.
//!
//! The range gets struct pages and its own DAX device. If the kernel cannot make them (on x86-64 it
//! must be aligned to 2 MiB), or if they would take more than half of the available memory, the
//! range is mapped without them. So is memory of a PCI device, which may be removed.

use super::lease::Lease;
use super::poison::{self, Frame};
pub(crate) use super::range::Range;
use super::range::{not_memory, ClaimedRange, Turn};
use super::{Region, Tenure};
use crate::linux::fs::Refusal;
use crate::linux::ioport::Requested;
use crate::linux::pagemap::{Frames, OwnDax};
use kernel::{page, prelude::*, sync::Arc};

/// Number of bytes whose attributes are looked at before all of a range is mapped.
const HEAD: u64 = 2 << 20;

/// Makes struct pages for the range, or returns it if that is not possible.
fn make_pages(
    ClaimedRange { requested, is_pci }: ClaimedRange,
    lease: &Arc<Lease>,
    _turn: &Turn,
) -> Result<OwnDax, Requested> {
    let (start, size) = (requested.start(), requested.size());
    if is_pci {
        lease.uses.lock().pci = Some((start, size));
        return Err(requested);
    }
    let lease = lease.clone();
    let failed = move |frame: Frame<'_>, flags| {
        poison::record(frame.number());
        let offset = ((frame.number() as u64) << page::PAGE_SHIFT) - start;
        lease.page_failed(offset, frame, flags);
    };
    let Ok(failed) = KBox::new(failed, GFP_KERNEL) else {
        return Err(requested);
    };
    OwnDax::new(requested, failed).inspect(poison::mark_recorded)
}

/// Opens the region of `range`.
pub(crate) fn open(range: Range, tenure: &Tenure) -> Result<Region, Refusal> {
    let lease = tenure.lease();
    let turn = Turn::wait();
    // Look at the attributes of the start before all of it is mapped.
    let head = ClaimedRange::new(range.part(0..range.size.min(HEAD)), &turn)?;
    let is_pci = head.is_pci;
    if !Frames::new(head.requested)?.is_cached() && !is_pci {
        return Err(not_memory());
    }
    match make_pages(ClaimedRange::new(range, &turn)?, lease, &turn) {
        Ok(own) => lease.open(KBox::new(own, GFP_KERNEL)?)?,
        Err(requested) => {
            pr_info!(
                "phys={:#x}: no struct pages for this range: \
                 no direct I/O and no ptrace on mappings\n",
                range.start
            );
            lease.open(KBox::new(Frames::new(requested)?, GFP_KERNEL)?)?;
        }
    }
    // The removal of a PCI device waits for the turn, and then finds the owner.
    drop(turn);
    Ok(Region::of_owner(tenure)?)
}
