// SPDX-License-Identifier: GPL-2.0-only

//! Counters of each mounted image, in debugfs.

#![deny(unsafe_code)]

use crate::image::Superblock;
use crate::memory::{MapMethod, Region};
use crate::support::Counters;
use kernel::{
    debugfs::{Dir, Scope},
    fmt,
    prelude::*,
    str::CString,
};

/// An event that is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A read.
    Read,
    /// A byte that was read.
    ReadByte,
    /// A page fault that mapped one or more pages.
    Fault,
    /// A page fault that mapped a huge page.
    HugeFault,
    /// A page fault that failed.
    FailedFault,
    /// A record that is invalid, or memory that cannot be read.
    Error,
    /// A piece that was verified before its first use.
    VerifiedPiece,
    /// A piece that does not match its SHA-256.
    BadPiece,
}

impl Event {
    /// All events in the order of their numbers, with the names of their counters.
    const ALL: [(Event, &'static str); 8] = [
        (Event::Read, "reads"),
        (Event::ReadByte, "read_bytes"),
        (Event::Fault, "faults"),
        (Event::HugeFault, "huge_faults"),
        (Event::FailedFault, "failed_faults"),
        (Event::Error, "errors"),
        (Event::VerifiedPiece, "verified_pieces"),
        (Event::BadPiece, "bad_pieces"),
    ];
}

/// The figures of a mounted image.
pub(crate) struct Usage {
    source: CString,
    mapping: &'static str,
    size: u64,
    inodes: u64,
    counters: Counters<{ Event::ALL.len() }>,
}

impl Usage {
    /// Make the figures of the image in `region`, which was mounted from `source`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(source: &CStr, region: &Region, superblock: &Superblock) -> Result<Self> {
        Ok(Usage {
            source: CString::try_from_fmt(fmt!("{}", source))?,
            mapping: match region.method() {
                MapMethod::Dax(_) => "dax",
                MapMethod::Pages => "pages",
                MapMethod::Frames(_) if region.is_io() => "io",
                MapMethod::Frames(_) => "frames",
            },
            size: superblock.total_size,
            inodes: superblock.inode_count(),
            counters: Counters::new()?,
        })
    }

    /// Count an event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.counters.add(event as usize, 1);
    }

    /// Count a read of `bytes` bytes.
    #[inline]
    pub(crate) fn count_read(&self, bytes: u64) {
        self.counters.add(Event::Read as usize, 1);
        self.counters.add(Event::ReadByte as usize, bytes);
    }

    fn write_image(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("source {}\n", &*self.source))?;
        writeln!(f, "mapping {}", self.mapping)?;
        writeln!(f, "size {}", self.size)?;
        writeln!(f, "inodes {}", self.inodes)
    }

    fn write_counters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (event, name) in Event::ALL {
            writeln!(f, "{} {}", name, self.counters.sum(event as usize))?;
        }
        Ok(())
    }

    /// Show the figures in the directory `name` of `parent` until the result is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn show(self, parent: &Dir, name: &CStr) -> Result<Pin<KBox<Scope<Self>>>> {
        let scope = parent.scope(self, name, |usage, dir| {
            dir.read_callback_file(c"image", usage, &Self::write_image);
            dir.read_callback_file(c"counters", usage, &Self::write_counters);
        });
        KBox::pin_init(scope, GFP_KERNEL)
    }
}
