// SPDX-License-Identifier: GPL-2.0-only

//! The table of a catalogue, and how it is changed.

use super::format::{
    valid_name, CatalogEntry, CatalogHead, CATALOG_ACTIVE, CATALOG_ALIGN, CATALOG_COPIES,
    CATALOG_MAGIC, CATALOG_MAX, CATALOG_REMOVED, CATALOG_SIZE, CATALOG_VERSION, CHECKSUM, COPY,
    ENTRY, FLAGS, NAME, SIZE,
};
use super::medium::{Medium, Part};
use daxfs_reader::layout::HUGE_SIZE;
use daxfs_reader::memory::load;
use daxfs_reader::{self as image, Error, Memory, Problem};
use std::collections::HashSet;
use std::io;
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::{FromZeros, IntoBytes};

/// An image of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name.
    pub name: String,
    /// UUID of the image.
    pub uuid: [u8; 16],
    /// Bytes that the image has.
    pub range: Range<u64>,
    /// It is mounted if no name is given.
    pub active: bool,
    /// It must not be mounted.
    pub removed: bool,
}

impl Listed {
    /// Mark the image as removed.
    pub fn remove(&mut self) {
        (self.active, self.removed) = (false, true);
    }
}

/// Return the name of an entry, if it is valid.
fn name_of(entry: &CatalogEntry) -> Option<&str> {
    let mut parts = entry.name.splitn(2, |&byte| byte == 0);
    let name = valid_name(parts.next()?)?;
    // The last byte is always NUL.
    let rest = parts.next()?;
    rest.iter().all(|&byte| byte == 0).then_some(name)
}

/// A copy of the catalogue with the right checksum.
type Copy = (CatalogHead, Vec<CatalogEntry>);

/// Load copy `index` from `memory`, unless something else is there.
fn load_copy<M: Memory>(memory: &M, index: usize) -> image::Result<Option<Copy>> {
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
    // After the checksum: damage to this field is not another version. All versions have the
    // magic number, the version, the number of entries and the checksum at these places.
    let version = head.version.get();
    if version != CATALOG_VERSION {
        let offset = start + offset_of!(CatalogHead, version) as u64;
        return Err(Error::new(Problem::Version, offset, version.into()));
    }
    Ok(Some((head, entries)))
}

/// A catalogue in memory.
#[derive(Clone, Debug)]
pub struct Table {
    /// Number of the last update.
    pub generation: u64,
    /// Bytes that it divides, itself included.
    pub size: u64,
    /// Its images, in the order of their places.
    pub images: Vec<Listed>,
    /// The problem of the copy that does not count.
    pub damaged: Option<image::Error>,
    /// Index of the copy that counts.
    copy: usize,
}

impl Table {
    /// Return the empty catalogue of a device of `size` bytes.
    pub fn new(size: u64) -> Self {
        Table {
            generation: 0,
            size: size - size % HUGE_SIZE,
            images: Vec::new(),
            damaged: None,
            copy: 0,
        }
    }

    /// Load the catalogue at the start of `memory` and validate it. Return `None` if its first
    /// bytes can be read and do not begin a first copy.
    ///
    /// Return [`CHECKSUM`] if no copy is whole, [`Problem::Version`] if a whole copy is of another
    /// version, the problems of its size and entries, and of reading if the first copy cannot be
    /// read and the second one is not whole.
    pub fn load(memory: &impl Memory) -> image::Result<Option<Self>> {
        if memory.size() < CATALOG_SIZE {
            return Ok(None);
        }
        let first = load_copy(memory, 0);
        // Other contents at 0 are not a catalogue's, whatever is left of one after them.
        if let Ok(None) = first {
            return Ok(None);
        }
        let (found, copy, damaged) = match (first, load_copy(memory, 1)) {
            // Another version may give a different meaning to all of it.
            (Err(error), _) | (_, Err(error)) if error.problem == Problem::Version => {
                return Err(error)
            }
            (Ok(Some(a)), Ok(Some(b))) => match b.0.generation.get() > a.0.generation.get() {
                true => (b, 1, None),
                false => (a, 0, None),
            },
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

    /// Add the image of entry `index`. The earlier ones were added before, and `names` has theirs.
    fn take<'a>(
        &mut self,
        index: usize,
        entry: &'a CatalogEntry,
        names: &mut HashSet<&'a str>,
    ) -> image::Result<()> {
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
            name: name.into(),
            uuid: entry.uuid,
            range: start..end,
            active,
            removed,
        });
        Ok(())
    }

    /// Return the bytes of a copy.
    fn encode(&self) -> Vec<u8> {
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

    /// Write the catalogue over the copy that does not count, so that it counts from then on. Power
    /// loss leaves it as it was before, or as it is now.
    ///
    /// Return the device's errors, and if another process has changed the catalogue since it was
    /// loaded.
    pub fn commit(&mut self, medium: &mut dyn Medium) -> io::Result<()> {
        // Write everything that the new state refers to before the state itself.
        medium.sync()?;
        medium.forget()?;
        let memory = Part { medium, start: 0 };
        let now = Table::load(&memory).map_err(io::Error::other)?;
        let generation = now.map(|now| now.generation);
        if generation != Some(self.generation) {
            let why = "somebody else changes the catalogue; try again when that is done";
            return Err(io::Error::other(why));
        }
        self.store(medium)
    }

    /// Write the copy that does not count, and check that it is there.
    fn store(&mut self, medium: &mut dyn Medium) -> io::Result<()> {
        let copy = 1 - self.copy;
        self.generation = self.generation.checked_add(1).ok_or_else(|| {
            io::Error::other("the catalogue has the last generation; make a new one")
        })?;
        let bytes = self.encode();
        medium.write(CATALOG_COPIES[copy], &bytes)?;
        medium.sync()?;
        medium.forget()?;
        let mut found = vec![0; bytes.len()];
        medium.read(CATALOG_COPIES[copy], &mut found)?;
        if found != bytes {
            let why = "the catalogue reads back differently; \
                       the device is faulty, or somebody else writes to it";
            return Err(io::Error::other(why));
        }
        (self.copy, self.damaged) = (copy, None);
        Ok(())
    }

    /// Write the catalogue to a device that has none. Until this is done, the device has nothing
    /// that can be mounted, and no catalogue before the first copy, which is written last.
    pub fn create(&mut self, medium: &mut dyn Medium) -> io::Result<()> {
        for start in CATALOG_COPIES {
            medium.write(start, &[0; 4096])?;
        }
        medium.sync()?;
        for copy in [1, 0] {
            self.copy = 1 - copy;
            self.store(medium)?;
        }
        Ok(())
    }

    /// Add `image`, whose place is free.
    pub fn insert(&mut self, image: Listed) {
        let before = |other: &Listed| other.range.start < image.range.start;
        self.images
            .insert(self.images.partition_point(before), image);
    }

    /// Return the image that is mounted without a name.
    pub fn active(&self) -> Option<&Listed> {
        self.images.iter().find(|image| image.active)
    }

    /// Return the image called `name` that is not removed.
    pub fn find(&self, name: &str) -> Option<&Listed> {
        self.images
            .iter()
            .find(|image| image.name == name && !image.removed)
    }

    /// Make `name` the image that is mounted without a name. Return false if it does not exist.
    pub fn activate(&mut self, name: &str) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        for image in &mut self.images {
            image.active = image.name == name && !image.removed;
        }
        true
    }

    /// Return the ranges that no image has and that are not in `used`, in order.
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
