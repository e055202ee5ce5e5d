// SPDX-License-Identifier: GPL-2.0-only

//! The catalogue of memory that holds several images.
//!
//! It has two copies. An update writes the one that does not count, with a larger generation. So
//! there is a whole copy at any moment, and power loss leaves the state before the update or the
//! one after it.

use super::error::{Error, Problem, Result};
use super::layout::{self, CatalogEntry, CatalogHead};
use super::memory::{load, Memory};
use core::mem::{offset_of, size_of};
use zerocopy::IntoBytes;

/// Number of records that [`Catalog::load`] needs: the entries of both copies.
pub const RECORDS: usize = layout::CATALOG_COPIES.len() * layout::CATALOG_ENTRIES;

/// A validated catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Catalog<'a> {
    /// Number of the last update.
    pub generation: u64,
    /// Bytes of the memory that it divides, itself included.
    pub size: u64,
    /// Index of the copy that it was loaded from, in [`layout::CATALOG_COPIES`].
    pub copy: usize,
    /// What is wrong with the other copy, if anything.
    pub other: Option<Error>,
    entries: &'a [CatalogEntry],
}

/// An image of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Name: letters, digits, and [`is_name_byte`].
    pub name: &'a str,
    /// UUID of the image.
    pub uuid: [u8; 16],
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// It is mounted if no name is given.
    pub active: bool,
    /// It must not be mounted any more.
    pub removed: bool,
}

/// Return true if names of images may contain `byte`. No mount option ends at such a byte.
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b':' | b'@')
}

/// Return `text` if it may be the name of an image.
pub fn valid_name(text: &[u8]) -> Option<&str> {
    let most = size_of::<[u8; 64]>() - 1;
    if text.is_empty() || text.len() > most || !text.iter().all(|&byte| is_name_byte(byte)) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

/// Return the image that `entry` describes, or `None` if its name is invalid.
fn decode(entry: &CatalogEntry) -> Option<Entry<'_>> {
    let mut parts = entry.name.splitn(2, |&byte| byte == 0);
    let name = valid_name(parts.next()?)?;
    // The last byte is always NUL.
    if !parts.next()?.iter().all(|&byte| byte == 0) {
        return None;
    }
    let flags = entry.flags.get();
    Some(Entry {
        name,
        uuid: entry.uuid,
        offset: entry.offset.get(),
        length: entry.length.get(),
        active: flags & layout::CATALOG_ACTIVE != 0,
        removed: flags & layout::CATALOG_REMOVED != 0,
    })
}

impl<'a> Catalog<'a> {
    /// Load the catalogue at the start of `memory` and validate it, each record once. Return
    /// `None` if the memory has none: if its first bytes can be read and are not those of the
    /// first copy. `records` are overwritten; see [`RECORDS`].
    ///
    /// # Errors
    ///
    /// [`Problem::CatalogChecksum`] if there is no whole copy, [`Problem::Version`] if a whole copy
    /// is of another version, the problems of its size and entries, and those of reading if the
    /// first copy cannot be read and the second one is not whole.
    pub fn load<M: Memory>(memory: &M, records: &'a mut [CatalogEntry]) -> Result<Option<Self>> {
        if memory.size() < layout::CATALOG_SIZE || records.len() < RECORDS {
            return Ok(None);
        }
        let (first, second) = records.split_at_mut(layout::CATALOG_ENTRIES);
        let first = Copy::load(memory, 0, first);
        if let Ok(Copy::Image) = first {
            return Ok(None);
        }
        let second = Copy::load(memory, 1, &mut second[..layout::CATALOG_ENTRIES]);
        let (head, entries, copy, other) = match (first, second) {
            // Other contents at 0 are not a catalogue's, whatever is left of one after them.
            (Ok(Copy::Nothing | Copy::Image), _) => return Ok(None),
            // Another version may give a different meaning to all of it.
            (Err(error), _) | (_, Err(error)) if error.problem == Problem::Version => {
                return Err(error)
            }
            (Ok(Copy::Whole(a, one)), Ok(Copy::Whole(b, two))) => {
                match b.generation.get() > a.generation.get() {
                    true => (b, two, 1, None),
                    false => (a, one, 0, None),
                }
            }
            (Ok(Copy::Whole(head, entries)), other) => (head, entries, 0, Some(other.damage(1))),
            // The first copy is damaged, or its memory is.
            (Err(error), Ok(Copy::Whole(head, entries))) => (head, entries, 1, Some(error)),
            (Err(error), _) if error.problem == Problem::CatalogCopy => {
                return Err(Error {
                    problem: Problem::CatalogChecksum,
                    ..error
                })
            }
            (Err(error), _) => return Err(error),
        };
        let catalog = Catalog {
            generation: head.generation.get(),
            size: head.size.get(),
            copy,
            other,
            entries,
        };
        catalog.validate(memory.size())?;
        Ok(Some(catalog))
    }

    /// Check the size and all entries.
    fn validate(&self, memory: u64) -> Result<()> {
        let start = layout::CATALOG_COPIES[self.copy];
        if self.size > memory
            || self.size < layout::CATALOG_SIZE
            || self.size % layout::CATALOG_ALIGN != 0
        {
            let offset = start + offset_of!(CatalogHead, size) as u64;
            return Err(Error::new(Problem::CatalogSize, offset, self.size));
        }
        let mut active = false;
        for (index, raw) in self.entries.iter().enumerate() {
            if is_unused(raw) {
                continue;
            }
            let at = |field: usize, problem, value| {
                let record = size_of::<CatalogHead>() + index * size_of::<CatalogEntry>();
                Error::new(problem, start + (record + field) as u64, value)
            };
            let Some(entry) = decode(raw) else {
                let field = offset_of!(CatalogEntry, name);
                return Err(at(field, Problem::CatalogName, 0));
            };
            let known = layout::CATALOG_ACTIVE | layout::CATALOG_REMOVED;
            let both = entry.active && (entry.removed || active);
            if raw.flags.get() & !known != 0 || both || raw.reserved != [0; 28] {
                let field = offset_of!(CatalogEntry, flags);
                return Err(at(field, Problem::CatalogFlags, raw.flags.get().into()));
            }
            active |= entry.active;
            let end = entry.offset.checked_add(entry.length);
            let aligned = (entry.offset | entry.length) % layout::CATALOG_ALIGN == 0;
            let inside = entry.offset >= layout::CATALOG_SIZE && entry.length > 0;
            let Some(end) = end.filter(|&end| aligned && inside && end <= self.size) else {
                let field = offset_of!(CatalogEntry, offset);
                return Err(at(field, Problem::CatalogEntry, entry.offset));
            };
            for earlier in self.entries.iter().take(index).filter_map(used) {
                // The earlier ones were validated before.
                if entry.offset < earlier.offset + earlier.length && earlier.offset < end {
                    let field = offset_of!(CatalogEntry, offset);
                    return Err(at(field, Problem::CatalogEntry, entry.offset));
                }
                if !entry.removed && !earlier.removed && entry.name == earlier.name {
                    let field = offset_of!(CatalogEntry, name);
                    return Err(at(field, Problem::CatalogName, 0));
                }
            }
        }
        Ok(())
    }

    /// Return all images, in the order of the entries.
    pub fn images(&self) -> impl Iterator<Item = Entry<'a>> {
        self.entries.iter().filter_map(used)
    }

    /// Return the image to mount: the one called `name`, or the active one.
    pub fn find(&self, name: Option<&[u8]>) -> Option<Entry<'a>> {
        self.images().find(|image| match name {
            Some(name) => !image.removed && image.name.as_bytes() == name,
            None => image.active,
        })
    }
}

/// Return true if the entry is not used.
fn is_unused(entry: &CatalogEntry) -> bool {
    entry.as_bytes().iter().all(|&byte| byte == 0)
}

/// Return the image that a validated entry describes.
fn used(entry: &CatalogEntry) -> Option<Entry<'_>> {
    match is_unused(entry) {
        true => None,
        false => decode(entry),
    }
}

/// What is at the place of a copy.
enum Copy<'a> {
    /// A copy with the right checksum.
    Whole(CatalogHead, &'a [CatalogEntry]),
    /// The superblock of an image.
    Image,
    /// Something else.
    Nothing,
}

impl<'a> Copy<'a> {
    /// Load copy `index`, its entries into `entries`.
    fn load<M: Memory>(memory: &M, index: usize, entries: &'a mut [CatalogEntry]) -> Result<Self> {
        let start = layout::CATALOG_COPIES[index];
        let head: CatalogHead = load(memory, start)?;
        if head.magic == layout::MAGIC {
            return Ok(Copy::Image);
        }
        if head.magic != layout::CATALOG_MAGIC {
            return Ok(Copy::Nothing);
        }
        let crc_at = offset_of!(CatalogHead, crc);
        let mut crc = M::crc32c(0, &head.as_bytes()[..crc_at]);
        let mut at = start + size_of::<CatalogHead>() as u64;
        for entry in entries.iter_mut() {
            *entry = load(memory, at)?;
            crc = M::crc32c(crc, entry.as_bytes());
            at += size_of::<CatalogEntry>() as u64;
        }
        if crc != head.crc.get() {
            let stored = head.crc.get().into();
            let offset = start + crc_at as u64;
            return Err(Error::new(Problem::CatalogCopy, offset, stored));
        }
        // After the checksum: damage to this field is not another version. All versions have the
        // magic number, the version and the checksum at these places.
        let version = head.version.get();
        if version != layout::CATALOG_VERSION || head.entries.get() as usize != entries.len() {
            let offset = start + offset_of!(CatalogHead, version) as u64;
            return Err(Error::new(Problem::Version, offset, version.into()));
        }
        Ok(Copy::Whole(head, entries))
    }
}

/// What makes a copy useless.
trait Damage {
    /// Return the error of copy `index`.
    fn damage(&self, index: usize) -> Error;
}

impl Damage for Result<Copy<'_>> {
    fn damage(&self, index: usize) -> Error {
        match self {
            Err(error) => *error,
            Ok(_) => Error::new(Problem::CatalogCopy, layout::CATALOG_COPIES[index], 0),
        }
    }
}
