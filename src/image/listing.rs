// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Listing of directories.

use super::directory::Dirent;
use super::error::{
    Error,
    Problem,
    Result, //
};
use super::inode::Directory;
use super::layout::{
    self,
    NAME_MAX, //
};
use super::memory::Memory;
use super::Image;
use zerocopy::{
    FromZeros,
    IntoBytes, //
};

/// Number of records that are loaded at a time: eight cache lines.
const RECORDS: usize = 32;

/// Number of bytes of names that are loaded at a time, at least [`NAME_MAX`]. Names have the order
/// of their entries, so one load serves many.
const NAMES: usize = 512;

/// Number of bytes of the buffer for names. It is padded, so that the compiler needs no check that
/// a name which starts at one of the first [`NAMES`] bytes is in the buffer.
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

    // Most names are ASCII. The first search is faster, and takes other bytes for `/`.
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
