// SPDX-License-Identifier: GPL-2.0-only

//! The table of a catalogue, and how it is changed.

use super::medium::{Medium, Part};
use daxfs_reader::catalog::{Catalog, Entry, RECORDS};
use daxfs_reader::layout::{
    CatalogEntry, CatalogHead, CATALOG_ACTIVE, CATALOG_ALIGN, CATALOG_COPIES, CATALOG_ENTRIES,
    CATALOG_MAGIC, CATALOG_REMOVED, CATALOG_SIZE, CATALOG_VERSION,
};
use daxfs_reader::{self as image, Memory};
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
    /// It is not mounted any more.
    pub removed: bool,
}

impl Listed {
    /// Mark the image as removed.
    pub fn remove(&mut self) {
        (self.active, self.removed) = (false, true);
    }
}

impl From<Entry<'_>> for Listed {
    fn from(entry: Entry<'_>) -> Self {
        Listed {
            name: entry.name.into(),
            uuid: entry.uuid,
            range: entry.offset..entry.offset + entry.length,
            active: entry.active,
            removed: entry.removed,
        }
    }
}

/// A catalogue in memory.
#[derive(Clone, Debug)]
pub struct Table {
    /// Number of the last update.
    pub generation: u64,
    /// Bytes that it divides, itself included.
    pub size: u64,
    /// Its images.
    pub images: Vec<Listed>,
    /// What is wrong with the copy that does not count.
    pub damaged: Option<image::Error>,
    /// Index of the copy that counts.
    copy: usize,
}

impl Table {
    /// Return the empty catalogue of a device of `size` bytes.
    pub fn new(size: u64) -> Self {
        Table {
            generation: 0,
            size: size - size % CATALOG_ALIGN,
            images: Vec::new(),
            damaged: None,
            copy: 0,
        }
    }

    /// Load the catalogue of `memory`, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`Catalog::load`].
    pub fn load(memory: &impl Memory) -> image::Result<Option<Self>> {
        let mut records = vec![CatalogEntry::new_zeroed(); RECORDS];
        Ok(Catalog::load(memory, &mut records)?.map(|catalog| Table {
            generation: catalog.generation,
            size: catalog.size,
            images: catalog.images().map(Listed::from).collect(),
            damaged: catalog.other,
            copy: catalog.copy,
        }))
    }

    /// Return the bytes of a copy.
    fn encode(&self) -> Vec<u8> {
        let mut head = CatalogHead {
            magic: CATALOG_MAGIC,
            version: CATALOG_VERSION.into(),
            entries: (CATALOG_ENTRIES as u32).into(),
            generation: self.generation.into(),
            size: self.size.into(),
            reserved: [0; 92],
            crc: 0.into(),
        };
        let mut entries = vec![CatalogEntry::new_zeroed(); CATALOG_ENTRIES];
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
    /// # Errors
    ///
    /// Those of the device, and if somebody else has changed the catalogue since it was loaded.
    pub fn commit(&mut self, medium: &mut dyn Medium) -> io::Result<()> {
        // What the new state refers to is there before it.
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
            io::Error::other("no generation follows that of the catalogue; make a new catalogue")
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
    ///
    /// # Errors
    ///
    /// Those of the device.
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

    /// Return the image called `name` that is not removed.
    pub fn find(&self, name: &str) -> Option<&Listed> {
        self.images
            .iter()
            .find(|image| image.name == name && !image.removed)
    }

    /// Make `name` the image that is mounted without a name. Return false if there is none.
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
