// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What programs need to know about an image and the kernel does not.

use crate::image::layout::{self, HUGE_SIZE};
use crate::image::signature::{crc, Line, Section};
use crate::image::{Content, Directory, Error, Image, Inode, Memory, Problem, Result, Superblock};
use core::mem::offset_of;
use std::collections::HashSet;

const S_IFMT: u16 = 0o170_000;

impl Inode {
    /// Returns the permission bits of `mode`, including the set-id and sticky bits.
    pub const fn permissions(&self) -> u16 {
        self.mode & !S_IFMT
    }

    /// Returns true if the file is aligned and long enough for PMD entries.
    pub const fn is_huge(&self) -> bool {
        match self.content {
            Content::Regular { data } => self.size >= HUGE_SIZE && data % HUGE_SIZE == 0,
            _ => false,
        }
    }

    /// Returns the directory, `None` for other files.
    pub const fn directory(&self) -> Option<Directory> {
        match self.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Returns the offset in the image of a regular file's data, `None` for other files.
    ///
    /// # Errors
    ///
    /// [`Problem::NoPack`] if the data is in a pack: [`Image::source`](crate::Image::source)
    /// returns the inode there.
    pub fn data(&self, superblock: &Superblock) -> Result<Option<u64>> {
        match self.content {
            Content::Regular { data } => Ok(Some(data)),
            Content::InPack { pack, .. } => Err(self.no_pack(superblock, pack)),
            _ => Ok(None),
        }
    }

    /// Returns the error for reading this file without `pack`, counted from 0.
    pub(crate) fn no_pack(&self, superblock: &Superblock, pack: u32) -> Error {
        let record = superblock.inodes.offset + u64::from(self.ino - 1) * layout::INODE_SIZE;
        let offset = record + offset_of!(layout::Inode, pack) as u64;
        Error::new(Problem::NoPack, offset, u64::from(pack) + 1)
    }
}

impl<M: Memory> Image<'_, M> {
    /// Loads the table of packs, as the kernel does before it mounts an image.
    ///
    /// # Errors
    ///
    /// [`Problem::Packs`] if a record is invalid or a pack is listed twice,
    /// [`Problem::Unreadable`].
    pub fn packs(&self) -> Result<Vec<layout::Pack>> {
        let mut seen = HashSet::new();
        let load = |index| {
            let pack = self.pack(index)?;
            if !seen.insert(pack.sha256) {
                let offset = self.superblock().packs.offset;
                return Err(Error::new(Problem::Packs, offset, index.into()));
            }
            Ok(pack)
        };
        (0..self.superblock().pack_count()).map(load).collect()
    }
}

impl Superblock {
    /// Returns the number of bytes of the image including the table of sums, a multiple of the
    /// block size.
    pub fn stored_size(&self) -> u64 {
        let block = u64::from(self.block_size);
        match self.sums() {
            Some(table) => {
                let end = table.offset.saturating_add(table.length);
                end.saturating_add(block - 1) & !(block - 1)
            }
            None => self.total_size,
        }
    }
}

impl<M: Memory> Image<'_, M> {
    /// Returns true if its memory holds another image now, or none. What was read may then be a
    /// mixture of both, because writers of images first write or erase the superblock.
    pub fn is_replaced(&self) -> bool {
        let mut now = [0; 32];
        let at = offset_of!(layout::Superblock, sha256) as u64;
        self.memory().read(at, &mut now).is_err() || now != self.superblock().sha256
    }
}

impl Section {
    /// Returns the header for the CMS message `cms`, which signs `line`.
    pub fn header<M: Memory>(line: &Line, cms: &[u8]) -> layout::Signature {
        let mut header = layout::Signature {
            magic: layout::SIGNATURE_MAGIC,
            sha256: line.digest,
            expires: line.expires.into(),
            length: (cms.len() as u32).into(),
            crc: 0.into(),
        };
        header.crc = crc::<M>(&header, cms).into();
        header
    }
}
