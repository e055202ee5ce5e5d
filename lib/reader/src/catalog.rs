// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The table of a store on a device or in a file, which the kernel does not read.
//!
//! The table has two copies. An update writes the inactive copy, with a larger generation, so one
//! copy is complete at any moment: power loss leaves the state before the update or after it.

pub use crate::layout::CATALOG_MAGIC;
use crate::layout::HUGE_SIZE;
use crate::memory::load;
use crate::{Error, Memory, Problem, Result};
use std::collections::HashSet;
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// No copy of the table is complete.
pub const CHECKSUM: Problem = Problem::Catalog("no copy of the store's table is whole");
/// Checksum mismatch of one copy of the table.
pub const COPY: Problem = Problem::Catalog("checksum mismatch of the copy");
/// A store that is larger than its memory or has an invalid size.
pub const SIZE: Problem = Problem::Catalog("store of another size than its memory");
/// An entry out of place: outside the memory, unaligned, or overlapping another.
pub const ENTRY: Problem = Problem::Catalog("image of the store out of place");
/// An entry with an invalid name or the name of another entry.
pub const NAME: Problem = Problem::Catalog("invalid name in the store's table");
/// An entry with unknown or contradictory flags, or a second active one.
pub const FLAGS: Problem = Problem::Catalog("invalid flags in the store's table");

/// Version of the table's format.
pub const CATALOG_VERSION: u32 = 2;

/// Size of the table at the start of the memory, in bytes. The first image may follow directly.
pub const CATALOG_SIZE: u64 = 2 << 20;

/// Offsets of the copies of the table in bytes, far apart so that failing memory does not destroy
/// both.
pub const CATALOG_COPIES: [u64; 2] = [0, 1 << 20];

/// Maximum number of images and packs in a store, so that its copies do not overlap.
pub const CATALOG_MAX: usize =
    ((CATALOG_COPIES[1] as usize) - size_of::<CatalogHead>()) / size_of::<CatalogEntry>();

/// Alignment of a store's images and of their lengths, in bytes.
pub const CATALOG_ALIGN: u64 = 4096;

/// Flag of a [`CatalogEntry`]: the image to mount if no name is given. At most one entry has it.
pub const CATALOG_ACTIVE: u32 = 1 << 0;

/// Flag of a [`CatalogEntry`]: the image can no longer be mounted. Existing mounts may use it.
pub const CATALOG_REMOVED: u32 = 1 << 1;

/// Head of a copy of the table. Its [`CatalogEntry`]s follow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct CatalogHead {
    /// [`CATALOG_MAGIC`].
    pub magic: [u8; 8],
    /// [`CATALOG_VERSION`].
    pub version: U32,
    /// Number of entries, at most [`CATALOG_MAX`].
    pub entries: U32,
    /// Number of the update that wrote this copy. Of two valid copies, the one with the larger
    /// number is active.
    pub generation: U64,
    /// Bytes of the store, including the table: a multiple of [`HUGE_SIZE`].
    pub size: U64,
    /// Zero.
    pub reserved: [u8; 92],
    /// CRC-32C of the bytes of the record before this field, and of the entries.
    pub crc: U32,
}

/// An entry of the table. The entries are in the order of their offsets.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct CatalogEntry {
    /// Name, padded with NUL: 1 to 63 bytes, letters, digits and `.`, `_`, `-`, `+`, `:`, `@`.
    pub name: [u8; 64],
    /// UUID in the image's superblock.
    pub uuid: [u8; 16],
    /// First byte of the image in the memory, a multiple of [`CATALOG_ALIGN`].
    pub offset: U64,
    /// Bytes for the image with its sums and signature, a multiple of [`CATALOG_ALIGN`], not 0.
    pub length: U64,
    /// [`CATALOG_ACTIVE`], [`CATALOG_REMOVED`] or 0.
    pub flags: U32,
    /// Zero.
    pub reserved: [u8; 28],
}

const _: () = {
    assert!(size_of::<CatalogHead>() == 128);
    assert!(offset_of!(CatalogHead, crc) == 124);
    assert!(size_of::<CatalogEntry>() == 128);
    assert!(offset_of!(CatalogEntry, offset) == 80);
};

/// Returns the alignment and length, in bytes, of an image of `size` bytes with blocks of `block`
/// bytes. A small image shares 2 MiB with others, because no PMD entry maps its files. A larger one
/// is aligned so that a `phys=` range has struct pages.
pub fn room(size: u64, block: u64) -> (u64, u64) {
    let align = if size < HUGE_SIZE {
        block.max(CATALOG_ALIGN)
    } else {
        HUGE_SIZE
    };
    (align, size.next_multiple_of(align))
}

/// Digits of a pack's SHA-256 in its name, which has at most 63 characters.
const PACK_DIGITS: usize = 32;

/// Returns the name in the table of the pack `sha256`, 64 digits.
pub fn pack_name(sha256: &str) -> String {
    format!("pack-{sha256:.PACK_DIGITS$}")
}

/// Returns true if this is the name of a pack, see [`pack_name`].
pub fn is_pack(name: &str) -> bool {
    name.strip_prefix("pack-").is_some_and(|digits| {
        digits.len() == PACK_DIGITS
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Returns `text` if it can be the name of an image. None of its bytes ends a mount option.
pub fn valid_name(text: &[u8]) -> Option<&str> {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+:@".contains(byte);
    let fits = (1..size_of::<[u8; 64]>()).contains(&text.len());
    std::str::from_utf8(text)
        .ok()
        .filter(|_| fits && text.iter().all(valid))
}

/// An image or pack of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name.
    pub name: String,
    /// UUID of the image.
    pub uuid: [u8; 16],
    /// The image's bytes in the memory.
    pub range: Range<u64>,
    /// Whether it is mounted if no name is given.
    pub active: bool,
    /// Whether mounting it is forbidden.
    pub removed: bool,
}

impl Listed {
    /// Returns the number of bytes of the image.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Returns the name of an entry, if it is valid.
fn name_of(entry: &CatalogEntry) -> Option<&str> {
    let mut parts = entry.name.splitn(2, |&byte| byte == 0);
    let name = valid_name(parts.next()?)?;
    // The last byte is always NUL.
    let rest = parts.next()?;
    rest.iter().all(|&byte| byte == 0).then_some(name)
}

/// A copy of the table with a valid checksum.
type Copy = (CatalogHead, Vec<CatalogEntry>);

/// Loads copy `index` from `memory`, or `None` if something else is there.
fn load_copy<M: Memory>(memory: &M, index: usize) -> Result<Option<Copy>> {
    let start = CATALOG_COPIES[index];
    let head: CatalogHead = load(memory, start)?;
    if head.magic != CATALOG_MAGIC {
        return Ok(None);
    }
    let crc_at = offset_of!(CatalogHead, crc);
    let damaged = || Error::new(COPY, start + crc_at as u64, head.crc.get().into());
    let count = head.entries.get() as usize;
    if count > CATALOG_MAX {
        return Err(damaged());
    }
    let mut entries = vec![CatalogEntry::new_zeroed(); count];
    memory.read(
        start + size_of::<CatalogHead>() as u64,
        entries.as_mut_bytes(),
    )?;
    let crc = crc32c(0, &head.as_bytes()[..crc_at]);
    if crc32c(crc, entries.as_bytes()) != head.crc.get() {
        return Err(damaged());
    }
    // After the checksum, because damage to this field is not another version. All versions have
    // the magic number, the version, the number of entries and the checksum at these places.
    let version = head.version.get();
    if version != CATALOG_VERSION {
        let offset = start + offset_of!(CatalogHead, version) as u64;
        return Err(Error::new(Problem::Version, offset, version.into()));
    }
    Ok(Some((head, entries)))
}

/// The table of a store.
#[derive(Clone, Debug)]
pub struct Table {
    /// Number of the last update.
    pub generation: u64,
    /// Bytes of the store, including the table.
    pub size: u64,
    /// Its images, sorted by offset.
    pub images: Vec<Listed>,
    /// The problem of the inactive copy.
    pub damaged: Option<Error>,
    /// Index of the active copy.
    pub copy: usize,
}

impl Table {
    /// Returns the empty table of a device of `size` bytes.
    pub fn new(size: u64) -> Self {
        Table {
            generation: 0,
            size: size - size % HUGE_SIZE,
            images: Vec::new(),
            damaged: None,
            copy: 0,
        }
    }

    /// Loads the table at the start of `memory` and validates it. Returns `None` if its first bytes
    /// are readable and do not begin a first copy.
    ///
    /// Returns [`CHECKSUM`] if no copy is complete, [`Problem::Version`] if a complete copy is of
    /// another version, the problems of its size and entries, and read errors if the first copy is
    /// unreadable and the second incomplete.
    pub fn load(memory: &impl Memory) -> Result<Option<Self>> {
        if memory.size() < CATALOG_SIZE {
            return Ok(None);
        }
        let first = load_copy(memory, 0);
        // Other content at 0 is not a store's, even if the rest of a store follows it.
        if let Ok(None) = first {
            return Ok(None);
        }
        let (found, copy, damaged) = match (first, load_copy(memory, 1)) {
            // Another version may give all fields a different meaning.
            (Err(error), _) | (_, Err(error)) if error.problem == Problem::Version => {
                return Err(error)
            }
            (Ok(Some(a)), Ok(Some(b))) => {
                if b.0.generation.get() > a.0.generation.get() {
                    (b, 1, None)
                } else {
                    (a, 0, None)
                }
            }
            (Ok(Some(found)), other) => {
                let nothing = Error::new(COPY, CATALOG_COPIES[1], 0);
                (found, 0, Some(other.err().unwrap_or(nothing)))
            }
            // The first copy is damaged, or its memory is.
            (Err(error), Ok(Some(found))) => (found, 1, Some(error)),
            (Err(error), _) if error.problem == COPY => {
                let problem = CHECKSUM;
                return Err(Error { problem, ..error });
            }
            (Err(error), _) => return Err(error),
            (Ok(None), _) => return Ok(None),
        };
        let (head, entries) = found;
        let size = head.size.get();
        if size > memory.size() || size < CATALOG_SIZE || size % HUGE_SIZE != 0 {
            let offset = CATALOG_COPIES[copy] + offset_of!(CatalogHead, size) as u64;
            return Err(Error::new(SIZE, offset, size));
        }
        let mut table = Table {
            generation: head.generation.get(),
            size,
            images: Vec::new(),
            damaged,
            copy,
        };
        let mut names = HashSet::new();
        for (index, entry) in entries.iter().enumerate() {
            table.take(index, entry, &mut names)?;
        }
        Ok(Some(table))
    }

    /// Adds the image of entry `index`. The earlier ones are added, with their names in `names`.
    fn take<'a>(
        &mut self,
        index: usize,
        entry: &'a CatalogEntry,
        names: &mut HashSet<&'a str>,
    ) -> Result<()> {
        let refuse = |field: usize, problem, value| {
            let record = size_of::<CatalogHead>() + index * size_of::<CatalogEntry>();
            let offset = CATALOG_COPIES[self.copy] + (record + field) as u64;
            Err(Error::new(problem, offset, value))
        };
        let Some(name) = name_of(entry) else {
            return refuse(offset_of!(CatalogEntry, name), NAME, 0);
        };
        let flags = entry.flags.get();
        let (active, removed) = (flags & CATALOG_ACTIVE != 0, flags & CATALOG_REMOVED != 0);
        let known = CATALOG_ACTIVE | CATALOG_REMOVED;
        let both = active && (removed || self.active().is_some());
        if flags & !known != 0 || both || entry.reserved != [0; 28] {
            return refuse(offset_of!(CatalogEntry, flags), FLAGS, flags.into());
        }
        let (start, length) = (entry.offset.get(), entry.length.get());
        let end = start.checked_add(length);
        let before = self
            .images
            .last()
            .map_or(CATALOG_SIZE, |image| image.range.end);
        let aligned = (start | length) % CATALOG_ALIGN == 0 && start >= before && length > 0;
        let Some(end) = end.filter(|&end| aligned && end <= self.size) else {
            return refuse(offset_of!(CatalogEntry, offset), ENTRY, start);
        };
        if !removed && !names.insert(name) {
            return refuse(offset_of!(CatalogEntry, name), NAME, 0);
        }
        self.images.push(Listed {
            name: name.to_owned(),
            uuid: entry.uuid,
            range: start..end,
            active,
            removed,
        });
        Ok(())
    }

    /// Encodes a copy of the table.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = CatalogHead {
            magic: CATALOG_MAGIC,
            version: CATALOG_VERSION.into(),
            entries: (self.images.len() as u32).into(),
            generation: self.generation.into(),
            size: self.size.into(),
            reserved: [0; 92],
            crc: 0.into(),
        };
        let mut entries = vec![CatalogEntry::new_zeroed(); self.images.len()];
        for (entry, image) in entries.iter_mut().zip(&self.images) {
            entry.name[..image.name.len()].copy_from_slice(image.name.as_bytes());
            entry.uuid = image.uuid;
            entry.offset = image.range.start.into();
            entry.length = (image.range.end - image.range.start).into();
            let flag = |set, flag| if set { flag } else { 0 };
            let active = flag(image.active, CATALOG_ACTIVE);
            entry.flags = (active | flag(image.removed, CATALOG_REMOVED)).into();
        }
        let crc = crc32c(0, &head.as_bytes()[..offset_of!(CatalogHead, crc)]);
        head.crc = crc32c(crc, entries.as_bytes()).into();
        [head.as_bytes(), entries.as_bytes()].concat()
    }

    /// Adds `image` at a free place.
    pub fn insert(&mut self, image: Listed) {
        let before = |other: &Listed| other.range.start < image.range.start;
        self.images
            .insert(self.images.partition_point(before), image);
    }

    /// Returns the image to mount if no name is given.
    pub fn active(&self) -> Option<&Listed> {
        self.images.iter().find(|image| image.active)
    }

    /// Returns the image called `name` that is not removed.
    pub fn find(&self, name: &str) -> Option<&Listed> {
        self.images
            .iter()
            .find(|image| image.name == name && !image.removed)
    }

    /// Makes `name` the image to mount if no name is given. Returns false if it does not exist.
    pub fn activate(&mut self, name: &str) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        for image in &mut self.images {
            image.active = image.name == name && !image.removed;
        }
        true
    }

    /// Marks the image called `name` as removed. Returns it, or `None` if it does not exist.
    pub fn remove(&mut self, name: &str) -> Option<&Listed> {
        let mut images = self.images.iter_mut();
        let image = images.find(|image| image.name == name && !image.removed)?;
        (image.active, image.removed) = (false, true);
        Some(image)
    }

    /// Returns the ranges, in order, that are in no image and not in `used`.
    pub fn free(&self, used: &[Range<u64>]) -> Vec<Range<u64>> {
        let images = self.images.iter().map(|image| image.range.clone());
        let mut used: Vec<_> = images.chain(used.iter().cloned()).collect();
        used.sort_by_key(|range| range.start);
        used.push(self.size..self.size);
        let mut free = Vec::new();
        let mut start = CATALOG_SIZE;
        for range in used {
            let end = range.start.min(self.size);
            if start < end {
                free.push(start..end);
            }
            start = start.max(range.end);
        }
        free
    }
}

fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    <&[u8]>::crc32c(crc, bytes)
}
