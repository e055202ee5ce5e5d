// SPDX-License-Identifier: GPL-2.0-only

//! Regions: memory that holds an image.

use super::Tenure;
use crate::linux::mm::Mappable;
use crate::linux::security;
use core::ops::Range;
use kernel::{prelude::*, seq_file::SeqFile};

/// How the mount options show a region.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Not at all: the mount's source shows it.
    Nothing,
    /// As `phys=` and `size=`. Only processes with `CAP_SYS_RAWIO` see the numbers.
    Phys {
        /// Address of the first byte.
        start: u64,
        /// Length in bytes.
        size: u64,
    },
    /// By the name of an option that takes a file descriptor.
    Option(&'static str),
}

/// One contiguous region of memory, which others may write at any time.
pub(crate) struct Region {
    /// Facts about the memory.
    pub(crate) memory: Mappable,
    shown: Shown,
    pub(super) tenure: Tenure,
}

impl Region {
    /// Make the region of the memory that the owner in the lease has mapped.
    ///
    /// # Errors
    ///
    /// `EIO` if it has mapped none, or the lease is revoked.
    pub(super) fn of_owner(shown: Shown, tenure: &Tenure) -> Result<Self> {
        Ok(Region {
            memory: *tenure.lease().read()?.mappable(),
            shown,
            tenure: tenure.clone(),
        })
    }

    /// Return true if the memory is about to go away, or gone.
    pub(crate) fn revoked(&self) -> bool {
        self.tenure.lease().revoked()
    }

    /// Revoke the lease, because the memory goes away.
    pub(crate) fn revoke(&self) {
        self.tenure.lease().revoke();
    }

    /// Show the region as mount options, and the `part` of the source that it is.
    pub(crate) fn show(&self, seq: &SeqFile, part: Option<&Range<u64>>) {
        match self.shown {
            Shown::Nothing => {}
            Shown::Phys { start, size } if security::opener_has_raw_io(seq) => {
                kernel::seq_print!(seq, ",phys={:#x},size={:#x}", start, size);
            }
            Shown::Phys { .. } => return kernel::seq_print!(seq, ",phys"),
            Shown::Option(name) => kernel::seq_print!(seq, ",{}", name),
        }
        if let Some(Range { start, end }) = part {
            kernel::seq_print!(seq, ",fsoffset={:#x},fslength={:#x}", start, end - start);
        }
    }
}
