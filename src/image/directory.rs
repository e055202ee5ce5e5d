// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Look-up and listing of directories.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::inode::{
    Directory,
    FileType, //
};
use super::layout;
use super::memory::Memory;
use super::Image;
use core::cmp::Ordering;
use core::mem::offset_of;
use zerocopy::{
    FromZeros,
    IntoBytes, //
};

/// Number of entries in a cache line. A look-up loads them together.
const GROUP: u64 = 4;

/// Number of interpolation steps before a search falls back to bisection, so that no image can make
/// it slow. A directory of a million names takes four.
const INTERPOLATIONS: u32 = 12;

/// Number of bytes of a name that are compared at a time.
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

            // Most lines are on one side of the name.
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
