// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Looks up names, and lists directories.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::inode::{
    Directory,
    FileType, //
};
use super::layout::{
    self,
    NAME_MAX, //
};
use super::memory::Memory;
use super::Image;
use core::cmp::Ordering;
use core::mem::offset_of;
use zerocopy::{
    FromZeros,
    IntoBytes, //
};

/// How many entries share a cache line. A lookup loads them together.
const GROUP: u64 = 4;

/// How many steps to interpolate before bisecting, so that no image can slow a search down. Four
/// suffice for a directory with a million names.
const INTERPOLATIONS: u32 = 12;

/// How many bytes of a name to compare at a time.
const CHUNK: usize = 32;

/// A validated directory entry. Its name is checked when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// Inode number, within the inode table.
    pub ino: u32,
    /// File type in the entry.
    pub file_type: FileType,
    /// Number of the entry in its directory, counted from 0.
    pub position: u32,
    /// Hash of the name in the entry.
    pub hash: u32,
    /// Offset of the name in the names.
    pub(super) name: u64,
    name_len: u8,
}

impl Dirent {
    /// Returns the length of the name in bytes, at least 1.
    pub const fn name_len(&self) -> usize {
        self.name_len as usize
    }
}

impl<M: Memory> Image<'_, M> {
    /// Finds `name`, which must not be empty, in `directory`.
    ///
    /// This loads about three cache lines in a directory of 10,000 names, and O(log n) in any.
    ///
    /// # Errors
    ///
    /// The problem of an entry that was loaded.
    pub fn lookup(&self, directory: &Directory, name: &[u8]) -> Result<Option<Dirent>> {
        let hash = M::name_hash(name);
        // Entries before `low` are smaller than the name, and have hashes up to `low_hash`. Entries
        // from `high` on are greater, and have hashes from `high_hash` on.
        let (mut low, mut high) = (0, directory.entries);
        let (mut low_hash, mut high_hash) = (0, u32::MAX);
        let mut interpolations = INTERPOLATIONS;
        let mut group = [layout::Dirent::new_zeroed(); GROUP as usize];

        while low < high {
            let span = u64::from(high_hash.wrapping_sub(low_hash));
            let above = u64::from(hash.wrapping_sub(low_hash));
            let guess = if interpolations > 0 && span > 0 && above <= span {
                interpolations -= 1;
                // Both factors have 32 bits, and the quotient is less than `high - low`.
                low + (above * u64::from(high - low) / (span + 1)) as u32
            } else {
                low + (high - low) / 2
            };

            // The entries of the cache line around the guess that are in the range.
            let line = (directory.first + u64::from(guess)) & !(GROUP - 1);
            let start = u64::from(low).max(line.saturating_sub(directory.first)) as u32;
            let end = u64::from(high).min(line + GROUP - directory.first) as u32;
            let entries = &mut group[..(end - start) as usize];
            let offset = self.dirent_offset(directory, start);
            self.memory.read(offset, entries.as_mut_bytes())?;

            // Most lines lie entirely before or after the name.
            if let Some(last) = entries.last().map(|raw| raw.hash.get()) {
                if last < hash {
                    (low, low_hash) = (end, last);
                    continue;
                }
            }
            for (position, raw) in (start..end).zip(&*entries) {
                let found = raw.hash.get();
                let order = if found == hash {
                    let entry = self.validate_dirent(directory, position, raw)?;
                    match self.compare_name(&entry, name)? {
                        Ordering::Equal => return Ok(Some(entry)),
                        order => order,
                    }
                } else {
                    found.cmp(&hash)
                };
                if order == Ordering::Greater {
                    (high, high_hash) = (position, found);
                    break;
                }
                (low, low_hash) = (position + 1, found);
            }
        }
        Ok(None)
    }

    /// Checks that `entry` of `directory` agrees with its inode: it has the same `file_type`, and
    /// if the inode is a directory, `child`, that has the number of this entry.
    ///
    /// # Errors
    ///
    /// [`Problem::FileType`] or [`Problem::Parent`].
    pub fn check_entry(
        &self,
        directory: &Directory,
        entry: &Dirent,
        file_type: FileType,
        child: Option<&Directory>,
    ) -> Result<()> {
        let offset = self.dirent_offset(directory, entry.position);
        if file_type != entry.file_type {
            let field = offset_of!(layout::Dirent, file_type) as u64;
            let value = entry.file_type as u64;
            return Err(Error::new(Problem::FileType, offset + field, value));
        }
        if let Some(child) = child {
            if (child.parent, child.position) != (directory.ino, entry.position) {
                let field = offset_of!(layout::Dirent, ino) as u64;
                let ino = entry.ino.into();
                return Err(Error::new(Problem::Parent, offset + field, ino));
            }
        }
        Ok(())
    }

    /// Returns the offset in the image of entry `position` of `directory`, or of its end.
    #[inline]
    pub(super) fn dirent_offset(&self, directory: &Directory, position: u32) -> u64 {
        self.superblock.dirents.offset
            + (directory.first + u64::from(position)) * layout::DIRENT_SIZE
    }

    /// Returns the offset in the image of the name of `entry`.
    #[inline]
    pub(super) fn name_offset(&self, entry: &Dirent) -> u64 {
        self.superblock.names.offset + entry.name
    }

    /// Validates the record of entry `position` of `directory`.
    ///
    /// # Errors
    ///
    /// [`Problem::InodeNumber`], [`Problem::FileType`] or [`Problem::Name`].
    #[inline]
    pub(super) fn validate_dirent(
        &self,
        directory: &Directory,
        position: u32,
        raw: &layout::Dirent,
    ) -> Result<Dirent> {
        // The error of a field.
        macro_rules! refuse {
            ($field:ident, $problem:ident, $value:expr) => {{
                let field = offset_of!(layout::Dirent, $field) as u64;
                let offset = self.dirent_offset(directory, position) + field;
                return Err(Error::new(Problem::$problem, offset, $value));
            }};
        }
        let (ino, name) = (raw.ino.get(), raw.name_offset());
        if !self.superblock.has_inode(ino) {
            refuse!(ino, InodeNumber, ino.into());
        }
        let Some(file_type) = FileType::from_u8(raw.file_type) else {
            refuse!(file_type, FileType, raw.file_type.into());
        };
        if raw.name_len == 0 || !self.superblock.names.holds(name, raw.name_len.into()) {
            refuse!(name_low, Name, name);
        }
        Ok(Dirent {
            ino,
            file_type,
            position,
            hash: raw.hash.get(),
            name,
            name_len: raw.name_len,
        })
    }

    /// Compares the name of `entry` with `name`, byte by byte.
    fn compare_name(&self, entry: &Dirent, name: &[u8]) -> Result<Ordering> {
        let mut chunk = [0; CHUNK];
        let offset = self.name_offset(entry);
        let common = entry.name_len().min(name.len());
        let mut done = 0;
        while done < common {
            let part = &name[done..common.min(done + CHUNK)];
            let loaded = &mut chunk[..part.len()];
            self.memory.read(offset + done as u64, loaded)?;
            match (*loaded).cmp(part) {
                Ordering::Equal => done += part.len(),
                unequal => return Ok(unequal),
            }
        }
        Ok(entry.name_len().cmp(&name.len()))
    }
}

/// How many records to load at a time: eight cache lines.
const RECORDS: usize = 32;

/// How many bytes of names to load at a time, at least [`NAME_MAX`]. Names follow the order of
/// their entries, so one load serves many.
const NAMES: usize = 512;

/// Size of the buffer for names. It is padded, so that the compiler need not check that a name
/// which starts at one of the first [`NAMES`] bytes is in the buffer.
const BUFFER: usize = NAMES + NAME_MAX;

/// The entries of a directory, in order.
pub struct Listing<'a, M> {
    image: Image<'a, M>,
    directory: Directory,
    /// Number of the next entry.
    next: u32,
    records: [layout::Dirent; RECORDS],
    /// Number of records that were loaded.
    loaded: u32,
    names: Names,
}

/// A part of the names of an image.
struct Names {
    bytes: [u8; BUFFER],
    /// Offset of `bytes[0]` in the names, and number of the loaded bytes.
    start: u64,
    loaded: u64,
    /// Set if no name in the loaded bytes has a `/` or NUL. Targets of symlinks, which may have
    /// slashes, are among the names.
    clean: bool,
}

impl<'a, M: Memory> Image<'a, M> {
    /// Lists the entries of `directory`, starting with entry `start`.
    #[inline]
    pub fn list(&self, directory: &Directory, start: u32) -> Listing<'a, M> {
        Listing {
            image: Image::new(self.memory, self.superblock),
            directory: *directory,
            next: start,
            records: FromZeros::new_zeroed(),
            loaded: 0,
            names: Names {
                bytes: [0; BUFFER],
                start: 0,
                loaded: 0,
                clean: false,
            },
        }
    }
}

impl<M: Memory> Listing<'_, M> {
    /// Passes all entries and their names to `take`, until it returns false or an error. `refuse`
    /// turns the problem of an entry into such an error. Calls `check` before each load of records.
    ///
    /// # Errors
    ///
    /// The errors of `refuse`, `check` and `take`.
    #[inline]
    pub fn each<E>(
        mut self,
        refuse: impl Fn(Error) -> E,
        check: impl Fn() -> core::result::Result<(), E>,
        mut take: impl FnMut(Dirent, &[u8]) -> core::result::Result<bool, E>,
    ) -> core::result::Result<(), E> {
        loop {
            check()?;
            self.load_records().map_err(&refuse)?;
            if self.loaded == 0 {
                return Ok(());
            }
            for raw in &self.records[..self.loaded as usize] {
                let position = self.next;
                // The number of entries is greater.
                self.next = position.wrapping_add(1);
                let (entry, name) = self
                    .names
                    .entry(&self.image, &self.directory, position, raw)
                    .map_err(&refuse)?;
                if !take(entry, name)? {
                    return Ok(());
                }
            }
        }
    }

    /// Loads the records of the next entries, none after the last one.
    #[inline(never)]
    fn load_records(&mut self) -> Result<()> {
        self.loaded = 0;
        let left = self.directory.entries.saturating_sub(self.next);
        if left == 0 {
            return Ok(());
        }
        let count = left.min(RECORDS as u32);
        let offset = self.image.dirent_offset(&self.directory, self.next);
        let records = &mut self.records[..count as usize];
        self.image.memory.read(offset, records.as_mut_bytes())?;
        self.loaded = count;
        Ok(())
    }
}

impl Names {
    /// Validates entry `position` of `directory`, which has the record `raw`. Returns it and its
    /// name.
    #[inline(always)] // As a function it would cost 50 instructions more for each entry.
    fn entry<M: Memory>(
        &mut self,
        image: &Image<'_, M>,
        directory: &Directory,
        position: u32,
        raw: &layout::Dirent,
    ) -> Result<(Dirent, &[u8])> {
        let entry = image.validate_dirent(directory, position, raw)?;
        let length = entry.name_len();
        let mut start = entry.name.wrapping_sub(self.start);
        let end = start.wrapping_add(length as u64);
        if start > self.loaded || end > self.loaded {
            self.load(image, entry.name)?;
            start = 0;
        }
        let name = &self.bytes[start as usize % NAMES..][..length];
        let valid = self.clean || !name.iter().any(|&byte| byte == b'/' || byte == 0);
        if !valid || (length <= 2 && matches!(name, b"." | b"..")) {
            let offset = image.name_offset(&entry);
            return Err(Error::new(Problem::Name, offset, length as u64));
        }
        Ok((entry, name))
    }

    /// Loads bytes, starting at `start`, which must be the name of a validated entry.
    #[inline(never)]
    fn load<M: Memory>(&mut self, image: &Image<'_, M>, start: u64) -> Result<()> {
        const { assert!(NAMES >= NAME_MAX) };
        let table = image.superblock.names;
        let count = (table.length - start).min(NAMES as u64);
        (self.start, self.loaded) = (start, 0);
        let bytes = &mut self.bytes[..count as usize];
        image.memory.read(table.offset + start, bytes)?;
        self.clean = is_clean(bytes);
        self.loaded = count;
        Ok(())
    }
}

/// Returns true if no byte of `names` is `/` or NUL.
#[inline(never)]
fn is_clean(names: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    // The top bit of a byte is set if the byte of `word` is `/` or NUL. It may also be set if that
    // is not ASCII, or is next to such a byte.
    let marks = |word: u64| word.wrapping_sub(ONES) | (word ^ SLASHES).wrapping_sub(ONES);

    // Most names are ASCII. The first search is faster, but mistakes other bytes for `/`.
    is_unmarked(names, |word| marks(word) | word) || is_unmarked(names, |word| marks(word) & !word)
}

/// Returns true if `marks` sets the top bit of no byte, given eight bytes of `names` at a time, and
/// none of the rest is `/` or NUL.
#[inline(always)]
fn is_unmarked(names: &[u8], marks: impl Fn(u64) -> u64) -> bool {
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut parts = names.chunks_exact(32);
    let mut found = 0;
    for part in &mut parts {
        for bytes in part.chunks_exact(8) {
            found |= marks(<[u8; 8]>::try_from(bytes).map_or(0, u64::from_ne_bytes));
        }
    }
    found & TOPS == 0
        && !parts
            .remainder()
            .iter()
            .any(|&byte| byte == b'/' || byte == 0)
}
