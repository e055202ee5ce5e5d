// SPDX-License-Identifier: GPL-2.0-only

//! Figures and counters of each mounted image, in sysfs. `Documentation/ABI/testing/sysfs-fs-daxfs`
//! describes the files.

use crate::backing::{
    name_of,
    Backing, //
};
use crate::event::Event;
use crate::linux::counters::Counters;
use crate::linux::fs::SourceKind;
pub(crate) use crate::linux::sysfs::Directory;
use crate::linux::sysfs::{
    File,
    Show,
    Shown,
    Value, //
};
use crate::linux::{
    numbers,
    Hex, //
};
use crate::memory::MapMethod;
use crate::packs::Packs;
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// Number of events.
const EVENTS: usize = Event::BadPiece as usize + 1;

/// The figures of a mounted image, and their files.
pub(crate) struct Usage(Show<Figures>);

struct Figures {
    source: CString,
    device: CString,
    offset: u64,
    mapping: &'static CStr,
    size: u64,
    inodes: u64,
    digest: CString,
    packs: Arc<Packs>,
    counters: Counters<EVENTS>,
}

impl Usage {
    /// Makes the figures of the image in `backing`, which was mounted from `source`: from the byte
    /// `offset` of `device`, if it is on one. `is_fixed` says that its content, and that of its
    /// `packs`, has the SHA-256 that its superblock says, and cannot change.
    pub(crate) fn new(
        source: &CStr,
        device: Option<SourceKind>,
        offset: u64,
        Backing {
            region, superblock, ..
        }: &Backing,
        packs: &Arc<Packs>,
        is_fixed: bool,
    ) -> Result<Self> {
        let figures = Figures {
            source: CString::try_from_fmt(fmt!("{}", source))?,
            device: name_of(device)?,
            offset,
            mapping: match region.memory.method() {
                MapMethod::Dax(_) => c"dax",
                MapMethod::Pages => c"pages",
                MapMethod::Frames(_) if region.memory.io => c"io",
                MapMethod::Frames(_) => c"frames",
            },
            size: superblock.total_size,
            inodes: superblock.inode_count(),
            digest: if is_fixed {
                CString::try_from_fmt(fmt!("{}", Hex(&superblock.sha256)))?
            } else {
                CString::try_from_fmt(fmt!("none"))?
            },
            packs: packs.clone(),
            counters: Counters::new()?,
        };
        Ok(Usage(Show::new(figures)?))
    }

    /// Shows the figures in the directory `major:minor` of `parent`: the numbers of `device`.
    pub(crate) fn publish(&mut self, parent: &Directory, device: u32) -> Result {
        let (major, minor) = numbers(device);
        let name = CString::try_from_fmt(fmt!("{major}:{minor}"))?;
        self.0.publish(parent, &name)
    }

    /// Removes the directory: another superblock may get the number.
    pub(crate) fn remove(&self) {
        self.0.remove();
    }

    /// Counts an event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.0.counters.add(event as usize, 1);
    }

    /// Counts a read of `bytes` bytes.
    #[inline]
    pub(crate) fn count_read(&self, bytes: u64) {
        self.0.counters.add(Event::Read as usize, 1);
        self.0.counters.add(Event::ReadByte as usize, bytes);
    }
}

impl Figures {
    /// Returns the value of a counter.
    fn counter(&self, event: Event) -> Value<'_> {
        Value::Number(self.counters.sum(event as usize))
    }
}

/// Returns a file that everybody can read.
const fn file(name: &'static CStr, value: fn(&Figures) -> Value<'_>) -> File<Figures> {
    File {
        name,
        mode: 0o444,
        value,
    }
}

impl Shown for Figures {
    const LINES: &'static CStr = c"packs";

    fn line(&self, index: usize) -> Option<Result<CString>> {
        self.packs.line(index)
    }

    fn has_lines(&self) -> bool {
        !self.packs.table.is_empty()
    }

    const FILES: &'static [File<Self>] = &[
        File {
            name: c"source",
            // The path may be one of another mount namespace.
            mode: 0o400,
            value: |figures| Value::Text(&figures.source),
        },
        file(c"device", |figures| Value::Text(&figures.device)),
        file(c"offset", |figures| Value::Number(figures.offset)),
        file(c"mapping", |figures| Value::Text(figures.mapping)),
        file(c"size", |figures| Value::Number(figures.size)),
        File {
            name: c"digest",
            // Who can supply an image gets content by its SHA-256.
            mode: 0o400,
            value: |figures| Value::Text(&figures.digest),
        },
        file(c"inodes", |figures| Value::Number(figures.inodes)),
        file(c"reads", |figures| figures.counter(Event::Read)),
        file(c"read_bytes", |figures| figures.counter(Event::ReadByte)),
        file(c"faults_pte", |figures| figures.counter(Event::PteFault)),
        file(c"faults_around", |figures| {
            figures.counter(Event::AroundFault)
        }),
        file(c"faults_pmd", |figures| figures.counter(Event::PmdFault)),
        file(c"faults_failed", |figures| {
            figures.counter(Event::FailedFault)
        }),
        file(c"faults_poisoned", |figures| {
            figures.counter(Event::PoisonedFault)
        }),
        file(c"errors_io", |figures| figures.counter(Event::IoError)),
        file(c"errors_corrupted", |figures| {
            figures.counter(Event::InvalidRecord)
        }),
        file(c"pieces_verified", |figures| {
            figures.counter(Event::VerifiedPiece)
        }),
        file(c"pieces_bad", |figures| figures.counter(Event::BadPiece)),
    ];
}
