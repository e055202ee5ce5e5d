// SPDX-License-Identifier: GPL-2.0-only

//! Shows figures and counters of each mounted image in sysfs, in the files that
//! `Documentation/ABI/testing/sysfs-fs-daxfs` describes.

use crate::backing::{
    name_of,
    Backing, //
};
use crate::linux::counters::Counters;
use crate::linux::numbers;
pub(crate) use crate::linux::sysfs::Directory;
use crate::linux::sysfs::{
    Content,
    File,
    Show, //
};
use crate::memory::MapMethod;
use crate::packs::Packs;
use crate::prelude::*;

/// A counted event.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A read.
    Read,
    /// A byte read.
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
    /// Creates the figures of the image in `backing`, mounted from `source`: from byte `offset` of
    /// `device`, if it is on a device. If it `is_fixed`, its content and `packs` match the SHA-256
    /// in its superblock, and cannot change.
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
        Ok(Usage(Show::new(figures, FILES)?))
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

/// A value that everyone can read.
const fn file(name: &'static CStr, value: fn(&Figures) -> Result<CString>) -> File<Figures> {
    File(name, 0o444, Content::Value(value))
}

/// A value that only root can read.
const fn of_root(name: &'static CStr, content: Content<Figures>) -> File<Figures> {
    File(name, 0o400, content)
}

/// Formats a value.
fn text(value: impl fmt::Display) -> Result<CString> {
    CString::try_from_fmt(fmt!("{value}"))
}

/// A counter that everyone can read.
macro_rules! counter {
    ($name:literal, $event:ident) => {
        file($name, |figures| {
            text(figures.counters.sum(Event::$event as usize))
        })
    };
}

const FILES: &[File<Figures>] = &[
    // The path may belong to another mount namespace.
    of_root(c"source", Content::Value(|figures| text(&*figures.source))),
    // Anyone who can supply an image can obtain content by its SHA-256.
    of_root(c"digest", Content::Value(|figures| text(&*figures.digest))),
    of_root(
        c"packs",
        Content::Lines(|figures, index| figures.packs.line(index)),
    ),
    file(c"device", |figures| text(&*figures.device)),
    file(c"offset", |figures| text(figures.offset)),
    file(c"mapping", |figures| text(figures.mapping)),
    file(c"size", |figures| text(figures.size)),
    file(c"inodes", |figures| text(figures.inodes)),
    counter!(c"reads", Read),
    counter!(c"read_bytes", ReadByte),
    counter!(c"faults_pte", PteFault),
    counter!(c"faults_around", AroundFault),
    counter!(c"faults_pmd", PmdFault),
    counter!(c"faults_failed", FailedFault),
    counter!(c"faults_poisoned", PoisonedFault),
    counter!(c"errors_io", IoError),
    counter!(c"errors_corrupted", InvalidRecord),
    counter!(c"pieces_verified", VerifiedPiece),
    counter!(c"pieces_bad", BadPiece),
];
