// SPDX-License-Identifier: GPL-2.0-only

//! `map`: show how the bytes of an image are used.

mod draw;

pub use draw::draw;

use daxfs_check::memory::Storage;
use daxfs_image::error::Result;
use daxfs_image::reader::Reader;
use daxfs_reader::layout::{HUGE_SIZE, SUPERBLOCK_SIZE};
use daxfs_reader::{Content, Inode};
use serde::Serialize;
use std::collections::HashSet;

/// Smallest page of any kernel.
const PAGE: u64 = 4096;

/// Use of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Superblock.
    Superblock,
    /// Inode table.
    Inodes,
    /// Directory entries.
    Dirents,
    /// Names and symlink targets.
    Names,
    /// Extended attributes.
    Xattrs,
    /// Data of one file that 2 MiB mappings cover.
    Huge,
    /// Data of one file that is mapped page by page.
    Pages,
    /// Data of a packed file.
    Packed,
    /// Data of several files.
    Shared,
    /// Unused bytes.
    Padding,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 10] = [
        Kind::Superblock,
        Kind::Inodes,
        Kind::Dirents,
        Kind::Names,
        Kind::Xattrs,
        Kind::Huge,
        Kind::Pages,
        Kind::Packed,
        Kind::Shared,
        Kind::Padding,
    ];

    /// Return the letter in the drawing, and the name for people.
    pub fn shown(self) -> (char, &'static str) {
        match self {
            Kind::Superblock => ('S', "superblock"),
            Kind::Inodes => ('i', "inodes"),
            Kind::Dirents => ('d', "directory entries"),
            Kind::Names => ('n', "names"),
            Kind::Xattrs => ('x', "extended attributes"),
            Kind::Huge => ('#', "data in 2 MiB mappings"),
            Kind::Pages => ('=', "data in page mappings"),
            Kind::Packed => ('p', "data of packed files"),
            Kind::Shared => ('2', "data of several files"),
            Kind::Padding => ('.', "padding"),
        }
    }
}

/// Consecutive bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Their use.
    pub kind: Kind,
    /// Offset in the image.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Files of a range of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Largest size in the range; `None` for no limit.
    pub up_to: Option<u64>,
    /// Number of files.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
}

/// Upper ends of the ranges of sizes.
const CLASSES: [Option<u64>; 7] = [
    Some(0),
    Some(4 << 10),
    Some(64 << 10),
    Some((2 << 20) - 1),
    Some(64 << 20),
    Some(1 << 30),
    None,
];

/// Number of files, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Number of files.
    pub files: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Total {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        // Files of a damaged image may overlap.
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// How the bytes of an image are used.
#[derive(Debug, Serialize)]
pub struct Map {
    /// Identifies the schema of the JSON form.
    schema: &'static str,
    /// Bytes of the image.
    pub total_size: u64,
    /// Alignment of file data.
    pub block_size: u32,
    /// Number of inodes.
    pub inodes: u64,
    /// All bytes of the image, in order.
    pub runs: Vec<Run>,
    /// Regular files by size.
    pub classes: Vec<Class>,
    /// Files that use the data of another file, and the bytes that this saves.
    pub shared: Total,
    /// Files that are packed.
    pub packed: Total,
    /// Files that 2 MiB mappings cover at least in part, and the bytes that these cover.
    pub huge: Total,
    /// Files that do not share their data.
    pub data: Total,
}

/// Return the number of bytes of the file `inode`, whose data is at `offset`, that 2 MiB mappings cover, on memory that is
/// aligned to 2 MiB.
fn huge(inode: &Inode, offset: u64) -> u64 {
    if offset % HUGE_SIZE != 0 {
        return 0;
    }
    // The last page of a packed file is mapped as a copy.
    let whole = match inode.packed {
        true => inode.size / PAGE * PAGE,
        false => inode.size.next_multiple_of(PAGE),
    };
    (whole / HUGE_SIZE * HUGE_SIZE).min(inode.size)
}

impl Map {
    /// Make the map of the image that `reader` reads.
    pub fn new<S: Storage>(reader: &Reader<'_, S>) -> Result<Self> {
        let superblock = reader.image.superblock();
        let class = |up_to| Class {
            up_to,
            ..Class::default()
        };
        let mut map = Map {
            schema: "daxfs-map-1",
            total_size: superblock.total_size,
            block_size: superblock.block_size,
            inodes: superblock.inode_count(),
            runs: Vec::new(),
            classes: CLASSES.map(class).into(),
            shared: Total::default(),
            packed: Total::default(),
            huge: Total::default(),
            data: Total::default(),
        };
        let mut extents = Vec::new();
        let mut shared = HashSet::new();
        for ino in 1..=u32::try_from(map.inodes).unwrap_or(u32::MAX) {
            let inode = reader.image.inode(ino);
            let inode = inode.map_err(|error| reader.fail(b"", error))?;
            let Content::Regular { data } = inode.content else {
                continue;
            };
            let fits = |class: &&mut Class| class.up_to.is_none_or(|most| inode.size <= most);
            if let Some(class) = map.classes.iter_mut().find(fits) {
                class.files += 1;
                class.bytes = class.bytes.saturating_add(inode.size);
            }
            if inode.size == 0 {
                continue;
            }
            if inode.original != 0 {
                shared.insert(inode.original);
                map.shared.add(inode.size);
                continue;
            }
            map.data.add(inode.size);
            if inode.packed {
                map.packed.add(inode.size);
            }
            let huge = huge(&inode, data);
            if huge > 0 {
                map.huge.add(huge);
            }
            extents.push((data, huge, inode));
        }
        extents.sort_unstable_by_key(|&(data, ..)| data);
        map.push(Kind::Superblock, 0, SUPERBLOCK_SIZE);
        for (kind, table) in [
            (Kind::Inodes, superblock.inodes),
            (Kind::Dirents, superblock.dirents),
            (Kind::Names, superblock.names),
            (Kind::Xattrs, superblock.xattrs),
        ] {
            map.push(kind, table.offset, table.length);
        }
        for (data, huge, inode) in extents {
            if shared.contains(&inode.ino) {
                map.push(Kind::Shared, data, inode.size);
                continue;
            }
            map.push(Kind::Huge, data, huge);
            let rest = match inode.packed {
                true => Kind::Packed,
                false => Kind::Pages,
            };
            map.push(rest, data + huge, inode.size - huge);
        }
        let end = map.end();
        map.add(Kind::Padding, end, map.total_size.saturating_sub(end));
        Ok(map)
    }

    /// Return where the runs so far end.
    fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.offset + run.length)
    }

    /// Add a run, and padding before it. A damaged image may use bytes twice: count them
    /// where they are used first.
    fn push(&mut self, kind: Kind, offset: u64, length: u64) {
        let at = self.end();
        let end = offset.saturating_add(length).min(self.total_size);
        if length == 0 || end <= at {
            return;
        }
        let start = offset.max(at);
        self.add(Kind::Padding, at, start - at);
        self.add(kind, start, end - start);
    }

    fn add(&mut self, kind: Kind, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.kind == kind => last.length += length,
            _ => self.runs.push(Run {
                kind,
                offset,
                length,
            }),
        }
    }

    /// Return the number of bytes of each kind.
    pub fn bytes(&self) -> [u64; Kind::ALL.len()] {
        let mut bytes = [0; Kind::ALL.len()];
        for run in &self.runs {
            bytes[run.kind as usize] += run.length;
        }
        bytes
    }

    /// Divide the image into `count` cells of equal size, and return the kind that has the most
    /// bytes in each. A kind that would be in no cell gets the cell in which it has the most bytes.
    pub fn cells(&self, count: usize) -> Vec<Kind> {
        let cell = self.total_size.div_ceil(count as u64).max(1);
        let mut bytes = vec![[0_u64; Kind::ALL.len()]; count];
        for run in &self.runs {
            let (mut at, end) = (run.offset, run.offset + run.length);
            while at < end {
                let until = (at / cell + 1).saturating_mul(cell).min(end);
                bytes[(at / cell) as usize][run.kind as usize] += until - at;
                at = until;
            }
        }
        let most = |bytes: &[u64; Kind::ALL.len()]| {
            let kinds = Kind::ALL.into_iter();
            let found = kinds.max_by_key(|&kind| bytes[kind as usize]);
            found.unwrap_or(Kind::Padding)
        };
        let mut cells: Vec<Kind> = bytes.iter().map(most).collect();
        for kind in Kind::ALL {
            if cells.contains(&kind) {
                continue;
            }
            let places = bytes.iter().enumerate();
            let best = places.max_by_key(|(_, bytes)| bytes[kind as usize]);
            if let Some((index, bytes)) = best {
                // Do not make another kind vanish for it.
                let others = cells.iter().filter(|&&other| other == cells[index]).count();
                if bytes[kind as usize] > 0 && others > 1 {
                    cells[index] = kind;
                }
            }
        }
        cells
    }
}
