// SPDX-License-Identifier: GPL-2.0

//! The records of the on-image format, byte for byte.
//!
//! All integers are little-endian, all offsets count bytes from the start of the image unless a field
//! says otherwise, and every byte without a meaning is zero. Documentation/format.rst is the prose
//! twin of this file.

use core::mem::size_of;
use core::ops::Range;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of an image: a byte that is no ASCII, the name, and a line end that transfers in
/// text mode would damage.
pub const MAGIC: [u8; 8] = *b"\x89daxfs\r\n";

/// `f_type` of statfs(2): `daxf` read as a little-endian word.
pub const STATFS_MAGIC: u32 = u32::from_le_bytes(*b"daxf");

/// The only format version so far.
pub const VERSION: u32 = 1;

/// Compatible features known to this reader; unknown ones are ignored.
pub const COMPAT_KNOWN: u64 = 0;

/// Incompatible feature: there are files with [`INODE_PACKED`].
pub const INCOMPAT_PACKED: u64 = 1 << 0;

/// Incompatible feature: there are files with [`Inode::original`].
pub const INCOMPAT_SHARED: u64 = 1 << 2;

/// Incompatible features known to this reader; an image with any other is refused.
///
/// Bit 1 is set aside for files of several extents.
pub const INCOMPAT_KNOWN: u64 = INCOMPAT_PACKED | INCOMPAT_SHARED;

/// Flag of a regular file: the content may start at any byte, and what stands around it in its blocks may
/// belong to other files.
pub const INODE_PACKED: u16 = 1 << 0;

/// Bytes set aside for the superblock; the record fills the first [`size_of::<Superblock>()`](Superblock), zeros
/// the rest.
pub const SUPERBLOCK_SIZE: u64 = 4096;

/// Smallest data alignment; also the default.
pub const MIN_BLOCK_SIZE: u32 = 4096;

/// Largest data alignment: the largest base page of any architecture Linux runs on.
pub const MAX_BLOCK_SIZE: u32 = 65536;

/// Files of at least this many bytes start at a multiple of it, and images are padded to it, so that
/// they can be mapped with PMD entries.
pub const HUGE_SIZE: u64 = 2 << 20;

/// Bytes of the pieces that the SHA-256 of an image is taken of; the last one may be shorter.
pub const DIGEST_PIECE: u64 = 2 << 20;

/// How many pieces an image of `total_size` bytes has.
pub const fn pieces(total_size: u64) -> u64 {
    total_size.div_ceil(DIGEST_PIECE)
}

/// Where piece `index` of an image of `total_size` bytes is.
pub fn piece(index: u64, total_size: u64) -> Range<u64> {
    let start = index.saturating_mul(DIGEST_PIECE);
    start..total_size.min(start.saturating_add(DIGEST_PIECE))
}

/// Alignment of every metadata table: a cache line.
pub const TABLE_ALIGN: u64 = 64;

/// Longest name of a directory entry, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Longest symlink target, in bytes (`PATH_MAX` less the NUL).
pub const SYMLINK_MAX: u64 = 4095;

/// `Inode::position` of the root directory, which no entry names.
pub const NO_POSITION: u32 = u32::MAX;

/// Unit of `Inode::xattrs`, in bytes, and the alignment of xattr sets.
pub const XATTR_ALIGN: u64 = 8;

/// Longest value of an extended attribute, in bytes, as Linux has it.
pub const XATTR_VALUE_MAX: u32 = 65536;

/// Most extended attributes of one inode: as many names as Linux's longest list of them, of 65536 bytes, can hold if
/// they are as short as can be (`user.x` and a NUL).
pub const XATTR_COUNT_MAX: u32 = 65536 / 7;

/// Where a table stands.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Extent {
    /// First byte.
    pub offset: U64,
    /// Length in bytes.
    pub length: U64,
}

/// The superblock, at offset 0.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// Alignment of file data in bytes: a power of two from [`MIN_BLOCK_SIZE`] to [`MAX_BLOCK_SIZE`].
    pub block_size: U32,
    /// Features that a reader may ignore.
    pub compat: U64,
    /// Features that a reader must know.
    pub incompat: U64,
    /// Bytes of the whole image, padding included: a multiple of `block_size`.
    pub total_size: U64,
    /// Build time, seconds since 1970.
    pub build_sec: I64,
    /// Build time, nanoseconds within the second.
    pub build_nsec: U32,
    /// Inode number of the root directory.
    pub root: U32,
    /// RFC 4122 UUID.
    pub uuid: [u8; 16],
    /// UTF-8 label, padded with NUL.
    pub label: [u8; 64],
    /// [`Inode`] records; inode number `n` is record `n - 1`.
    pub inodes: Extent,
    /// [`Dirent`] records of all directories, each directory's together.
    pub dirents: Extent,
    /// Names and symlink targets, without terminators.
    pub names: Extent,
    /// Xattr sets ([`XattrSet`]).
    pub xattrs: Extent,
    /// File data.
    pub data: Extent,
    /// CRC-32C of the metadata: the bytes from the end of this record to `data.offset`.
    pub metadata_crc: U32,
    /// SHA-256 of the SHA-256 of all pieces of [`DIGEST_PIECE`] bytes, the first with this field and `crc` zero.
    pub sha256: [u8; 32],
    /// CRC-32C of the record's bytes in front of this field.
    pub crc: U32,
}

impl Superblock {
    /// The record as the image's SHA-256 is taken of it: with `sha256` and `crc` zero.
    pub fn without_sums(mut self) -> Self {
        self.sha256 = [0; 32];
        self.crc = 0.into();
        self
    }
}

/// An inode: one cache line.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Inode {
    /// `S_IFMT` and permission bits, as in `st_mode`.
    pub mode: U16,
    /// [`INODE_PACKED`] or 0.
    pub flags: U16,
    /// Link count.
    pub nlink: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Regular file, symlink: bytes of content. Directory: bytes of its [`Dirent`] records. Else 0.
    pub size: U64,
    /// Modification time, seconds since 1970.
    pub mtime_sec: I64,
    /// Modification time, nanoseconds within the second.
    pub mtime_nsec: U32,
    /// 0, or 1 + the offset of the inode's [`XattrSet`] in the xattr table in units of [`XATTR_ALIGN`].
    pub xattrs: U32,
    /// Regular file: offset of its data in the image (0 when it is empty). Directory: index of its first
    /// record in the dirent table. Symlink: offset of its target in the names. Device: `major << 32 | minor`.
    pub data: U64,
    /// Directory: inode number of its parent (the root's own). Else 0.
    pub parent: U32,
    /// Directory: which of the parent's entries names it ([`NO_POSITION`] for the root). Else 0.
    pub position: U32,
    /// Regular file: inode number of the file with the same content whose data this one shares, smaller than
    /// its own; 0 if there is none. Else 0.
    pub original: U32,
    /// Zero.
    pub reserved: U32,
}

/// A directory entry: four to a cache line. A directory's entries ascend by (hash, name).
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Dirent {
    /// [`super::hash::name_hash`] of the name.
    pub hash: U32,
    /// Inode number.
    pub ino: U32,
    /// Offset of the name in the names, bits 0 to 31.
    pub name_low: U32,
    /// Offset of the name in the names, bits 32 to 47.
    pub name_high: U16,
    /// Bytes of the name, 1 to 255.
    pub name_len: u8,
    /// File type: `st_mode >> 12`, which is also `d_type`.
    pub file_type: u8,
}

/// Head of a set of extended attributes; `count` [`XattrEntry`] follow, ascending by (prefix, name).
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct XattrSet {
    /// Bytes of the set, this head included, padding at its end not.
    pub length: U32,
    /// Number of entries.
    pub count: U32,
}

/// Head of one extended attribute; `name_len` bytes of name and `value_len` bytes of value follow, then
/// zeros to a multiple of 4.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct XattrEntry {
    /// Bytes of the value.
    pub value_len: U32,
    /// Bytes of the name behind the prefix.
    pub name_len: u8,
    /// What the name starts with, an [`XattrPrefix`].
    pub prefix: u8,
    /// Zero.
    pub reserved: U16,
}

/// The name spaces of extended attributes, numbered as ext4 and EROFS do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum XattrPrefix {
    /// `user.`
    User = 1,
    /// `system.posix_acl_access`, the whole name.
    AclAccess = 2,
    /// `system.posix_acl_default`, the whole name.
    AclDefault = 3,
    /// `trusted.`
    Trusted = 4,
    /// `security.`
    Security = 6,
}

impl XattrPrefix {
    /// Every prefix, in the order of their numbers.
    pub const ALL: [XattrPrefix; 5] = [
        XattrPrefix::User,
        XattrPrefix::AclAccess,
        XattrPrefix::AclDefault,
        XattrPrefix::Trusted,
        XattrPrefix::Security,
    ];

    /// The prefix that has `number` in an image.
    pub fn from_number(number: u8) -> Option<XattrPrefix> {
        Self::ALL.into_iter().find(|&prefix| prefix as u8 == number)
    }

    /// Whether the prefix is a whole name, and not the start of one.
    pub const fn is_whole(self) -> bool {
        matches!(self, XattrPrefix::AclAccess | XattrPrefix::AclDefault)
    }

    /// The bytes that names under this prefix start with.
    pub const fn text(self) -> &'static str {
        match self {
            XattrPrefix::User => "user.",
            XattrPrefix::AclAccess => "system.posix_acl_access",
            XattrPrefix::AclDefault => "system.posix_acl_default",
            XattrPrefix::Trusted => "trusted.",
            XattrPrefix::Security => "security.",
        }
    }
}

const _: () = {
    assert!(size_of::<Superblock>() == 256);
    assert!(core::mem::offset_of!(Superblock, inodes) == 136);
    assert!(core::mem::offset_of!(Superblock, sha256) == 220);
    assert!(core::mem::offset_of!(Superblock, crc) == 252);
    assert!(size_of::<Inode>() == 64);
    assert!(core::mem::offset_of!(Inode, data) == 40);
    assert!(core::mem::offset_of!(Inode, original) == 56);
    assert!(size_of::<Dirent>() == 16);
    assert!(size_of::<XattrSet>() == 8);
    assert!(size_of::<XattrEntry>() == 8);
};
