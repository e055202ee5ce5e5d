// SPDX-License-Identifier: GPL-2.0-only

//! Listing of directories.

use super::directory::Dirent;
use super::error::{Error, Problem, Result};
use super::inode::Directory;
use super::layout::{self, NAME_MAX};
use super::memory::Memory;
use super::Image;
use zerocopy::{FromZeros, IntoBytes};

/// Number of records that are loaded at a time: eight cache lines.
const RECORDS: usize = 32;

/// Number of bytes of names that are loaded at a time, at least [`NAME_MAX`]. Names have the order
/// of their entries, so one load serves many.
const NAMES: usize = 512;

/// An iterator over the entries of a directory.
pub struct Listing<'a, M> {
    image: Image<'a, M>,
    directory: Directory,
    /// Number of the next entry.
    next: u32,
    records: [layout::Dirent; RECORDS],
    /// Number of records that were loaded, and of those that were taken.
    loaded: usize,
    taken: usize,
    names: [u8; NAMES],
    /// Offset in the image of `names[0]`, and number of the loaded bytes.
    names_at: u64,
    names_loaded: usize,
    /// Set if none of the loaded bytes is `/` or NUL. Targets of symlinks, which may have slashes,
    /// are among the names.
    names_clean: bool,
}

impl<'a, M: Memory> Image<'a, M> {
    /// List the entries of `directory`, starting with entry `start`.
    #[inline]
    pub fn list(&self, directory: &Directory, start: u32) -> Listing<'a, M> {
        Listing {
            image: *self,
            directory: *directory,
            next: start,
            records: FromZeros::new_zeroed(),
            loaded: 0,
            taken: 0,
            names: [0; NAMES],
            names_at: 0,
            names_loaded: 0,
            names_clean: false,
        }
    }
}

impl<M: Memory> Listing<'_, M> {
    /// Return the next entry and its name, or `None` after the last one. Each call advances, also
    /// if it fails.
    #[allow(clippy::should_implement_trait)] // The name borrows from the listing.
    #[inline(always)]
    pub fn next(&mut self) -> Option<Result<(Dirent, &[u8])>> {
        let position = self.next;
        if position >= self.directory.entries {
            return None;
        }
        // This does not overflow, because `entries` is greater.
        self.next = position.wrapping_add(1);
        Some(self.entry(position))
    }

    #[inline(always)] // As a function it would cost 50 instructions more for each entry.
    fn entry(&mut self, position: u32) -> Result<(Dirent, &[u8])> {
        if self.taken >= self.loaded {
            self.load_records(position)?;
        }
        let raw = &self.records[self.taken % RECORDS];
        // This is at most `loaded`.
        self.taken = self.taken.wrapping_add(1);
        let entry = self.image.validate_dirent(&self.directory, position, raw)?;

        let (offset, length) = (entry.name_offset(), entry.name_len());
        let mut start = offset.wrapping_sub(self.names_at);
        if start.saturating_add(length as u64) > self.names_loaded as u64 {
            self.load_names(offset)?;
            start = 0;
        }
        let name = &self.names[start as usize..][..length];
        let valid = self.names_clean || !has_slash_or_nul(name);
        if !valid || (length <= 2 && matches!(name, b"." | b"..")) {
            return Err(Error::new(Problem::Name, offset, length as u64));
        }
        Ok((entry, name))
    }

    /// Load records, starting with entry `position`, which is before the last one.
    #[inline(never)]
    fn load_records(&mut self, position: u32) -> Result<()> {
        let count = (self.directory.entries - position).min(RECORDS as u32);
        (self.loaded, self.taken) = (0, 0);
        let offset = self.image.dirent_offset(&self.directory, position);
        let records = &mut self.records[..count as usize];
        self.image.memory.read(offset, records.as_mut_bytes())?;
        self.loaded = count as usize;
        Ok(())
    }

    /// Load names, starting at `offset`, which must be the name of a validated entry.
    #[inline(never)]
    fn load_names(&mut self, offset: u64) -> Result<()> {
        const { assert!(NAMES >= NAME_MAX) };
        let left = self.image.superblock.names.end() - offset;
        let count = left.min(NAMES as u64) as usize;
        self.names_loaded = 0;
        self.names_at = offset;
        self.image.memory.read(offset, &mut self.names[..count])?;
        self.names_loaded = count;
        self.names_clean = !has_slash_or_nul(&self.names[..count]);
        Ok(())
    }
}

/// Return true if a byte of `names` is `/` or NUL. This checks eight bytes at a time.
#[inline]
fn has_slash_or_nul(names: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    // The top bit of a byte of the result is set if that byte is 0 or `/`, both of which have none.
    // Bytes after the first such byte may be marked, too.
    let marks =
        |word: u64| (word.wrapping_sub(ONES) | (word ^ SLASHES).wrapping_sub(ONES)) & !word & TOPS;

    let mut words = names.chunks_exact(8);
    let mut found = 0;
    for bytes in &mut words {
        let word = bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| (word << 8) | u64::from(byte));
        found |= marks(word);
    }
    found != 0
        || words
            .remainder()
            .iter()
            .any(|&byte| byte == b'/' || byte == 0)
}
