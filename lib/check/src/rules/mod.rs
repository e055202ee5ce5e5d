// SPDX-License-Identifier: GPL-2.0-only

//! Checks an image against every rule of the format.
//!
//! The rules of `Documentation/format.rst` apply, including those that the reader enforces. Time
//! and memory are proportional to the image's size, whatever its fields contain.

mod data;
mod directories;
mod inodes;
mod packs;
mod paths;
mod xattrs;

use crate::cached::Cached;
use daxfs_files::memory::{Storage, ZEROS};
use daxfs_reader::layout::{self, SUPERBLOCK_SIZE};
use daxfs_reader::{self as image, Directory, Image, Inode, Superblock};
use std::mem::size_of;
use std::ops::ControlFlow;

pub use paths::Paths;

const BUFFER: usize = 64 << 10;

/// A rule that an image violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A rule that the reader checks.
    #[error("{0}")]
    Reader(#[from] image::Error),
    /// A rule that the reader does not check.
    #[error("{what} (offset {offset:#x}, value {value:#x})")]
    Rule {
        /// The problem.
        what: &'static str,
        /// Where, in bytes from the start of the image.
        offset: u64,
        /// The offending value, if it is a number.
        value: u64,
    },
}

impl Finding {
    /// Returns where the violation is, in bytes from the start of the image.
    pub fn offset(&self) -> u64 {
        match self {
            Finding::Reader(error) => error.offset,
            Finding::Rule { offset, .. } => *offset,
        }
    }
}

/// Checks the image in `memory` and calls `report` for each violation until `report` breaks. Does
/// not compare the content with the image's SHA-256; [`digest`](mod@daxfs_files::digest) does.
pub fn check<S: Storage>(memory: &S, report: &mut dyn FnMut(Finding) -> ControlFlow<()>) {
    check_with_packs(memory, &[], report);
}

/// Like [`check`], but also compares files with their originals in the image's `packs`, which are
/// in the order of its table, except in missing packs. Does not check the packs themselves.
pub fn check_with_packs<S: Storage>(
    memory: &S,
    packs: &[Option<Image<'_, S>>],
    report: &mut dyn FnMut(Finding) -> ControlFlow<()>,
) {
    let superblock = match Superblock::load(memory) {
        Ok(superblock) => superblock,
        Err(error) => {
            let _ = report(error.into());
            return;
        }
    };
    let cached = Cached::new(memory, superblock.data.offset);
    let packs = packs.iter().map(|pack| {
        let pack = pack.as_ref()?;
        let cached = Cached::new(pack.memory(), pack.superblock().data.offset);
        Some((cached, pack.superblock()))
    });
    let packs: Vec<_> = packs.collect();
    let packs = packs.iter().map(|pack| {
        let (memory, superblock) = pack.as_ref()?;
        Some(Image::new(memory, superblock))
    });
    let mut checker = Checker {
        image: Image::new(&cached, &superblock),
        packs: packs.collect(),
        used_packs: vec![false; superblock.pack_count() as usize],
        report,
        inodes: Vec::new(),
        directories: Vec::new(),
        extents: Vec::new(),
        xattrs: Vec::new(),
    };
    // Ends early only if `report` breaks.
    let _ = checker.run();
}

/// Returns the first violation that [`check`] finds in `memory`, if any.
pub fn first<S: Storage>(memory: &S) -> Option<Finding> {
    let mut finding = None;
    check(memory, &mut |found| {
        finding = Some(found);
        ControlFlow::Break(())
    });
    finding
}

/// Facts about an inode.
#[derive(Clone, Copy, Default)]
struct Seen {
    valid: bool,
    directory: bool,
    nlink: u32,
    /// Links found: names, and for directories also `.` and the subdirectories' `..`.
    links: u32,
    /// Whether a directory may be walked: it is valid and shares its records with no other.
    walk: bool,
}

struct DataRange {
    offset: u64,
    size: u64,
    ino: u32,
    packed: bool,
}

struct Checker<'a, 'b, S> {
    image: Image<'a, S>,
    /// The known packs of the image, in the order of its table.
    packs: Vec<Option<Image<'a, S>>>,
    /// For each pack in the table, whether a file has its data there.
    used_packs: Vec<bool>,
    report: &'b mut dyn FnMut(Finding) -> ControlFlow<()>,
    /// Inode number 1 comes first.
    inodes: Vec<Seen>,
    directories: Vec<Directory>,
    extents: Vec<DataRange>,
    /// Offsets of the xattr sets, each with an inode that uses it.
    xattrs: Vec<(u64, u32)>,
}

impl<S: Storage> Checker<'_, '_, S> {
    fn run(&mut self) -> ControlFlow<()> {
        self.tables()?;
        let verified = self.image.verify_metadata(&mut vec![0; BUFFER], || Ok(()));
        self.ok(verified)?;
        self.check_inodes()?;
        self.check_packs()?;
        self.check_directories()?;
        self.check_links()?;
        self.check_xattrs()?;
        self.check_data()
    }

    fn report(&mut self, finding: impl Into<Finding>) -> ControlFlow<()> {
        (self.report)(finding.into())
    }

    /// Returns the value in `result`, or reports its error.
    fn ok<T>(&mut self, result: image::Result<T>) -> ControlFlow<(), Option<T>> {
        match result {
            Ok(value) => ControlFlow::Continue(Some(value)),
            Err(error) => {
                self.report(error)?;
                ControlFlow::Continue(None)
            }
        }
    }

    fn rule(&mut self, what: &'static str, offset: u64, value: u64) -> ControlFlow<()> {
        self.report(Finding::Rule {
            what,
            offset,
            value,
        })
    }

    /// Checks the label, and the space between the tables.
    fn tables(&mut self) -> ControlFlow<()> {
        let superblock = *self.image.superblock();
        let text = superblock
            .label
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let padded = superblock.label[text.len()..].iter().all(|&byte| byte == 0);
        if !padded || std::str::from_utf8(text).is_err() {
            let field = std::mem::offset_of!(layout::Superblock, label) as u64;
            self.rule(
                "label is not UTF-8 padded with NUL",
                field,
                text.len() as u64,
            )?;
        }
        let is_composed = superblock.pack_count() > 0;
        let mut end = layout::PACKS_OFFSET;
        if is_composed {
            end += size_of::<layout::Extent>() as u64;
        }
        self.zeros(end, SUPERBLOCK_SIZE)?;
        end = SUPERBLOCK_SIZE;
        let mut tables = vec![
            superblock.inodes,
            superblock.dirents,
            superblock.names,
            superblock.xattrs,
        ];
        // Images without packs have no such table.
        tables.extend(is_composed.then_some(superblock.packs));
        tables.push(superblock.data);
        for table in tables {
            self.zeros(end, table.offset)?;
            end = table.end();
        }
        self.zeros(end, superblock.total_size)
    }

    /// Checks that the unused bytes from `start` to `end` are zero.
    fn zeros(&mut self, start: u64, end: u64) -> ControlFlow<()> {
        let length = |at: u64| end.saturating_sub(at).min(BUFFER as u64) as usize;
        let mut buffer = vec![0; length(start)];
        let mut at = start;
        while at < end {
            let piece = &mut buffer[..length(at)];
            if let Err(error) = self.image.memory().read(at, piece) {
                return self.report(error);
            }
            // Compare whole pieces first: most are zero.
            if *piece != ZEROS[..piece.len()] {
                let bytes = (at..).zip(piece.iter());
                let found = bytes.clone().find(|(_, &byte)| byte != 0);
                let (offset, &byte) = found.unwrap_or((at, &0));
                return self.rule("unused byte is not zero", offset, byte.into());
            }
            at += piece.len() as u64;
            // Skip holes. Most ranges are short, so do not look for holes beyond their end.
            if at < end {
                match self.image.memory().data(at) {
                    Ok(data) => at = data,
                    Err(error) => return self.report(error),
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns the offset of inode `ino`'s record.
    fn inode_offset(&self, ino: u32) -> u64 {
        self.image.superblock().inodes.offset + u64::from(ino - 1) * layout::INODE_SIZE
    }

    /// Loads an inode, or reports why it is not valid.
    fn load_inode(&mut self, ino: u32) -> ControlFlow<(), Option<Inode>> {
        let inode = self.image.inode(ino);
        self.ok(inode)
    }
}
