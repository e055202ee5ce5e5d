// SPDX-License-Identifier: GPL-2.0-only

//! Listing of directories.

use super::directory::Dirent;
use super::error::{Error, Problem, Result};
use super::inode::Directory;
use super::layout::{self, NAME_MAX};
use super::memory::Memory;
use super::Image;
use zerocopy::{FromZeros, IntoBytes};

/// Number of records that are loaded at a time: four cache lines.
const RECORDS: usize = 16;

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
    /// Number of the entry in `records[0]`, and of the loaded entries.
    first: u32,
    loaded: u32,
    names: [u8; NAMES],
    /// Offset in the image of `names[0]`, and number of the loaded bytes.
    names_at: u64,
    names_loaded: usize,
}

impl<'a, M: Memory> Image<'a, M> {
    /// List the entries of `directory`, starting with entry `start`.
    pub fn list(&self, directory: &Directory, start: u32) -> Listing<'a, M> {
        Listing {
            image: *self,
            directory: *directory,
            next: start,
            records: [layout::Dirent::new_zeroed(); RECORDS],
            first: start,
            loaded: 0,
            names: [0; NAMES],
            names_at: 0,
            names_loaded: 0,
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
        self.next += 1;
        Some(self.entry(position))
    }

    #[inline(always)] // As a function it would cost 50 instructions more for each entry.
    fn entry(&mut self, position: u32) -> Result<(Dirent, &[u8])> {
        if position - self.first >= self.loaded {
            self.load_records(position)?;
        }
        let raw = &self.records[(position - self.first) as usize];
        let entry = self.image.validate_dirent(&self.directory, position, raw)?;

        let (offset, length) = (entry.name_offset(), entry.name_len());
        let mut start = offset.wrapping_sub(self.names_at);
        if start.saturating_add(length as u64) > self.names_loaded as u64 {
            self.load_names(offset)?;
            start = 0;
        }
        let name = &self.names[start as usize..start as usize + length];
        if has_slash_or_nul(name) || *name == b"."[..] || *name == b".."[..] {
            return Err(Error::new(Problem::Name, offset, length as u64));
        }
        Ok((entry, name))
    }

    fn load_records(&mut self, position: u32) -> Result<()> {
        let count = (self.directory.entries - position).min(RECORDS as u32);
        self.loaded = 0;
        self.first = position;
        let offset = self.image.dirent_offset(&self.directory, position);
        let records = &mut self.records[..count as usize];
        self.image.memory.read(offset, records.as_mut_bytes())?;
        self.loaded = count;
        Ok(())
    }

    /// Load names, starting at `offset`, which must be the name of a validated entry.
    fn load_names(&mut self, offset: u64) -> Result<()> {
        const { assert!(NAMES >= NAME_MAX) };
        let left = self.image.superblock.names.end() - offset;
        let count = left.min(NAMES as u64) as usize;
        self.names_loaded = 0;
        self.names_at = offset;
        self.image.memory.read(offset, &mut self.names[..count])?;
        self.names_loaded = count;
        Ok(())
    }
}

/// Return true if a byte of `name` is `/` or NUL. This checks eight bytes at a time.
#[inline]
fn has_slash_or_nul(name: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    // The result is not 0 if one of the eight bytes is 0.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;

    let mut words = name.chunks_exact(8);
    let mut found = 0;
    for bytes in &mut words {
        let word = bytes
            .iter()
            .fold(0, |word, &byte| (word << 8) | u64::from(byte));
        found |= zeros(word) | zeros(word ^ SLASHES);
    }
    found != 0
        || words
            .remainder()
            .iter()
            .any(|&byte| byte == b'/' || byte == 0)
}
