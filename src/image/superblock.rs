// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Loads and validates the superblock.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::layout::{
    self,
    SUPERBLOCK_SIZE,
    TABLE_ALIGN, //
};
use super::memory::{
    load,
    Memory, //
};
use core::mem::offset_of;
use zerocopy::IntoBytes;

/// A range of bytes in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Offset of the first byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl Table {
    /// Returns the offset of the first byte after the table.
    pub const fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Returns true if `length` bytes at `offset`, relative to the table, are in it.
    pub fn holds(&self, offset: u64, length: u64) -> bool {
        offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length)
    }
}

impl From<Table> for layout::Extent {
    fn from(Table { offset, length }: Table) -> Self {
        layout::Extent {
            offset: offset.into(),
            length: length.into(),
        }
    }
}

/// A validated superblock, in native integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Alignment of file data in bytes.
    pub block_size: u32,
    /// Bytes of the image.
    pub total_size: u64,
    /// Features that a reader may ignore.
    pub compat: u64,
    /// Features that a reader must know. All of them are known.
    pub incompat: u64,
    /// Build time: seconds since 1970 and nanoseconds.
    pub build_time: (i64, u32),
    /// Inode number of the root directory.
    pub root: u32,
    /// UUID.
    pub uuid: [u8; 16],
    /// Label, padded with NUL.
    pub label: [u8; 64],
    /// Inode table.
    pub inodes: Table,
    /// Dirent table.
    pub dirents: Table,
    /// Names and symlink targets.
    pub names: Table,
    /// Xattr sets.
    pub xattrs: Table,
    /// Table of packs; empty if there are none.
    pub packs: Table,
    /// File data.
    pub data: Table,
    /// CRC-32C of the metadata.
    pub metadata_crc: u32,
    /// SHA-256 of the image, see [`Image::piece`](super::Image::piece).
    pub sha256: [u8; 32],
}

impl Superblock {
    /// Loads the superblock at the start of `memory` and validates it.
    ///
    /// # Errors
    ///
    /// A [`Problem`] of the superblock.
    pub fn load<M: Memory>(memory: &M) -> Result<Self> {
        if memory.size() < SUPERBLOCK_SIZE {
            return Err(Error::new(Problem::TooSmall, 0, memory.size()));
        }
        let raw: layout::Superblock = load(memory, 0)?;
        if raw.magic == layout::CATALOG_MAGIC {
            return Err(Error::new(Problem::IS_CATALOG, 0, 0));
        }
        if raw.magic != layout::MAGIC {
            return Err(Error::new(Problem::Magic, 0, u64::from_le_bytes(raw.magic)));
        }
        // The error of a field.
        macro_rules! refuse {
            ($field:ident, $problem:ident, $value:expr) => {{
                let offset = offset_of!(layout::Superblock, $field) as u64;
                return Err(Error::new(Problem::$problem, offset, $value));
            }};
        }
        // Check the version first. Other versions may give a different meaning to all other fields.
        if raw.version.get() != layout::VERSION {
            refuse!(version, Version, raw.version.get().into());
        }
        let crc_at = offset_of!(layout::Superblock, crc);
        if M::crc32c(0, &raw.as_bytes()[..crc_at]) != raw.crc.get() {
            refuse!(crc, SuperblockChecksum, raw.crc.get().into());
        }
        let unknown = raw.incompat.get() & !layout::INCOMPAT_KNOWN;
        if unknown != 0 {
            refuse!(incompat, Feature, unknown);
        }

        let block_size = raw.block_size.get();
        let limits = layout::MIN_BLOCK_SIZE..=layout::MAX_BLOCK_SIZE;
        if !block_size.is_power_of_two() || !limits.contains(&block_size) {
            refuse!(block_size, BlockSize, block_size.into());
        }
        let total_size = raw.total_size.get();
        if total_size > memory.size() {
            refuse!(total_size, Truncated, total_size);
        }
        if total_size & u64::from(block_size - 1) != 0 || total_size < SUPERBLOCK_SIZE {
            refuse!(total_size, Size, total_size);
        }
        if raw.build_nsec.get() >= 1_000_000_000 {
            refuse!(build_nsec, Time, raw.build_nsec.get().into());
        }

        // The tables have this order, so they overlap neither each other nor the superblock. All
        // alignments and record sizes are powers of two: a division by a value that the compiler
        // does not know could panic.
        macro_rules! table {
            ($field:ident, $free:expr, $align:expr, $record:expr) => {{
                let (start, length) = (raw.$field.offset.get(), raw.$field.length.get());
                let inside = start
                    .checked_add(length)
                    .is_some_and(|end| end <= total_size);
                let aligned = start & ($align - 1) == 0 && length & $record.wrapping_sub(1) == 0;
                if start < $free || !inside || !aligned {
                    refuse!($field, Table, start);
                }
                Table {
                    offset: start,
                    length,
                }
            }};
        }
        let inodes = table!(inodes, SUPERBLOCK_SIZE, TABLE_ALIGN, layout::INODE_SIZE);
        let dirents = table!(dirents, inodes.end(), TABLE_ALIGN, layout::DIRENT_SIZE);
        let names = table!(names, dirents.end(), TABLE_ALIGN, 1_u64);
        let xattrs = table!(xattrs, names.end(), TABLE_ALIGN, 1_u64);
        let packs = match raw.incompat.get() & layout::INCOMPAT_PACKS {
            0 => Table::default(),
            _ => Self::load_packs(memory, xattrs.end(), total_size)?,
        };
        let block = u64::from(block_size);
        let data = table!(data, xattrs.end().max(packs.end()), block, block);
        let superblock = Superblock {
            block_size,
            total_size,
            compat: raw.compat.get(),
            incompat: raw.incompat.get(),
            build_time: (raw.build_sec.get(), raw.build_nsec.get()),
            root: raw.root.get(),
            uuid: raw.uuid,
            label: raw.label,
            inodes,
            dirents,
            names,
            xattrs,
            packs,
            data,
            metadata_crc: raw.metadata_crc.get(),
            sha256: raw.sha256,
        };
        // Inode numbers have 32 bits, and 0 is invalid.
        if superblock.inode_count() > u64::from(u32::MAX) {
            refuse!(inodes, Table, superblock.inodes.length);
        }
        Ok(superblock)
    }

    /// Returns the record as it counts in the image's SHA-256: with `sha256` and `crc` zero.
    pub fn record(&self) -> layout::Superblock {
        layout::Superblock {
            magic: layout::MAGIC,
            version: layout::VERSION.into(),
            block_size: self.block_size.into(),
            compat: self.compat.into(),
            incompat: self.incompat.into(),
            total_size: self.total_size.into(),
            build_sec: self.build_time.0.into(),
            build_nsec: self.build_time.1.into(),
            root: self.root.into(),
            uuid: self.uuid,
            label: self.label,
            inodes: self.inodes.into(),
            dirents: self.dirents.into(),
            names: self.names.into(),
            xattrs: self.xattrs.into(),
            data: self.data.into(),
            metadata_crc: self.metadata_crc.into(),
            sha256: [0; 32],
            crc: 0.into(),
        }
    }

    /// Loads the place of the table of packs, which is after `free`.
    #[cold]
    fn load_packs<M: Memory>(memory: &M, free: u64, total_size: u64) -> Result<Table> {
        let raw: layout::Extent = load(memory, layout::PACKS_OFFSET)?;
        let (offset, length) = (raw.offset.get(), raw.length.get());
        let most = u64::from(layout::PACKS_MAX) * layout::PACK_SIZE;
        let whole = length & (layout::PACK_SIZE - 1) == 0 && (1..=most).contains(&length);
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= total_size);
        if offset < free || offset & (TABLE_ALIGN - 1) != 0 || !inside || !whole {
            return Err(Error::new(Problem::Packs, layout::PACKS_OFFSET, offset));
        }
        Ok(Table { offset, length })
    }

    /// Returns true if this is the image that the record of a pack names.
    pub fn is_pack(&self, record: &layout::Pack) -> bool {
        (self.sha256, self.total_size) == (record.sha256, record.total_size.get())
    }

    /// Returns the number of packs.
    pub const fn pack_count(&self) -> u32 {
        (self.packs.length / layout::PACK_SIZE) as u32
    }

    /// Returns the number of pieces that the SHA-256 of the image is made of.
    pub const fn pieces(&self) -> u64 {
        layout::pieces(self.total_size)
    }

    /// Returns the table of the SHA-256 of all pieces, which follows the image; `None` if there is
    /// none. It may be outside the memory.
    pub fn sums(&self) -> Option<Table> {
        let table = Table {
            offset: self.total_size,
            length: self.pieces() * layout::SUM_SIZE,
        };
        (self.compat & layout::COMPAT_SUMS != 0).then_some(table)
    }

    /// Returns the offset at which a signature of the image starts, if there is one.
    pub fn signature_offset(&self) -> u64 {
        let end = self.sums().map_or(self.total_size, |table| table.end());
        end.saturating_add(layout::SIGNATURE_ALIGN - 1) & !(layout::SIGNATURE_ALIGN - 1)
    }

    /// Returns the number of inodes. Their numbers start at 1.
    pub const fn inode_count(&self) -> u64 {
        self.inodes.length / layout::INODE_SIZE
    }

    /// Returns the offset of the record of inode `ino`, which is not 0.
    #[inline]
    pub const fn inode_offset(&self, ino: u32) -> u64 {
        self.inodes.offset + (ino - 1) as u64 * layout::INODE_SIZE
    }

    /// Returns true if there is an inode `ino`.
    #[inline]
    pub const fn has_inode(&self, ino: u32) -> bool {
        // The place of inode 0 is after the longest table.
        let place = ino.wrapping_sub(1) as u64 * layout::INODE_SIZE;
        place < self.inodes.length
    }
}
