// SPDX-License-Identifier: GPL-2.0-only

//! Figures and counters of each mounted image, in sysfs. `Documentation/ABI/testing/sysfs-fs-daxfs`
//! describes the files.

use crate::image::Superblock;
use crate::linux::fs::{numbers, SourceKind};
use crate::linux::{
    sysfs::{File, Shown, Value},
    Counters,
};
use crate::memory::{MapMethod, Region};
use kernel::{prelude::*, str::CString};

/// An event that is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A read.
    Read,
    /// A byte that was read.
    ReadByte,
    /// A page fault that mapped one page.
    PteFault,
    /// A page fault that mapped a page and pages around it.
    AroundFault,
    /// A page fault that set a PMD entry.
    PmdFault,
    /// A page fault that failed, but not because of failed memory.
    FailedFault,
    /// A page fault on memory that has failed.
    PoisonedFault,
    /// A record or data that cannot be read.
    IoError,
    /// A record that is invalid.
    InvalidRecord,
    /// A piece that was verified before its first use.
    VerifiedPiece,
    /// A piece that does not match its SHA-256.
    BadPiece,
}

/// Number of events.
const EVENTS: usize = Event::BadPiece as usize + 1;

/// Returns the name of `device` below /sys/dev, or `none`.
fn name_of(device: Option<SourceKind>) -> Result<CString> {
    let (kind, number) = match device {
        Some(SourceKind::BlockDevice(number)) => ("block", number),
        Some(SourceKind::CharDevice(number)) => ("char", number),
        _ => return CString::try_from_fmt(fmt!("none")),
    };
    let (major, minor) = numbers(number);
    CString::try_from_fmt(fmt!("{}/{}:{}", kind, major, minor))
}

/// The figures of a mounted image.
pub(crate) struct Usage {
    source: CString,
    device: CString,
    offset: u64,
    mapping: &'static CStr,
    size: u64,
    inodes: u64,
    counters: Counters<EVENTS>,
}

impl Usage {
    /// Makes the figures of the image in `region`, which was mounted from `source`: from the byte
    /// `offset` of `device`, if it is on one.
    pub(crate) fn new(
        source: &CStr,
        device: Option<SourceKind>,
        offset: u64,
        region: &Region,
        superblock: &Superblock,
    ) -> Result<Self> {
        Ok(Usage {
            source: CString::try_from_fmt(fmt!("{}", source))?,
            device: name_of(device)?,
            offset,
            mapping: match region.memory.method() {
                MapMethod::Dax(_) => c"dax",
                MapMethod::Pages => c"pages",
                MapMethod::Frames(_) if region.memory.is_io() => c"io",
                MapMethod::Frames(_) => c"frames",
            },
            size: superblock.total_size,
            inodes: superblock.inode_count(),
            counters: Counters::new()?,
        })
    }

    /// Returns the source of the mount.
    pub(crate) fn source(&self) -> &CStr {
        &self.source
    }

    /// Counts an event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.counters.add(event as usize, 1);
    }

    /// Counts a read of `bytes` bytes.
    #[inline]
    pub(crate) fn count_read(&self, bytes: u64) {
        self.counters.add(Event::Read as usize, 1);
        self.counters.add(Event::ReadByte as usize, bytes);
    }

    /// Returns the value of a counter.
    fn counter(&self, event: Event) -> Value<'_> {
        Value::Number(self.counters.sum(event as usize))
    }
}

/// Returns a file that everybody can read.
const fn file(name: &'static CStr, value: fn(&Usage) -> Value<'_>) -> File<Usage> {
    File {
        name,
        mode: 0o444,
        value,
    }
}

impl Shown for Usage {
    const FILES: &'static [File<Self>] = &[
        File {
            name: c"source",
            // The path may be one of another mount namespace.
            mode: 0o400,
            value: |usage| Value::Text(&usage.source),
        },
        file(c"device", |usage| Value::Text(&usage.device)),
        file(c"offset", |usage| Value::Number(usage.offset)),
        file(c"mapping", |usage| Value::Text(usage.mapping)),
        file(c"size", |usage| Value::Number(usage.size)),
        file(c"inodes", |usage| Value::Number(usage.inodes)),
        file(c"reads", |usage| usage.counter(Event::Read)),
        file(c"read_bytes", |usage| usage.counter(Event::ReadByte)),
        file(c"faults_pte", |usage| usage.counter(Event::PteFault)),
        file(c"faults_around", |usage| usage.counter(Event::AroundFault)),
        file(c"faults_pmd", |usage| usage.counter(Event::PmdFault)),
        file(c"faults_failed", |usage| usage.counter(Event::FailedFault)),
        file(c"faults_poisoned", |usage| {
            usage.counter(Event::PoisonedFault)
        }),
        file(c"errors_io", |usage| usage.counter(Event::IoError)),
        file(c"errors_corrupted", |usage| {
            usage.counter(Event::InvalidRecord)
        }),
        file(c"pieces_verified", |usage| {
            usage.counter(Event::VerifiedPiece)
        }),
        file(c"pieces_bad", |usage| usage.counter(Event::BadPiece)),
    ];
}
