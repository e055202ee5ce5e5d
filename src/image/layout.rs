// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The records of the on-image format, byte for byte.
//!
//! All integers are little-endian. Offsets count bytes from the start of the image unless a field
//! says otherwise. All other bytes are zero. Documentation/format.rst describes the format in
//! prose.

use core::ops::Range;
use zerocopy::little_endian::{
    I64,
    U16,
    U32,
    U64, //
};
use zerocopy_derive::{
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout,
    Unaligned, //
};

/// First eight bytes of an image: a byte that is not ASCII, the name, and a line end that a
/// transfer in text mode would change.
pub const MAGIC: [u8; 8] = *b"\x89daxfs\r\n";

/// `f_type` of statfs(2): `daxf` read as a little-endian word.
pub const STATFS_MAGIC: u32 = u32::from_le_bytes(*b"daxf");

/// Format version.
pub const VERSION: u32 = 1;

/// Compatible feature: the SHA-256 of all pieces, [`SUM_SIZE`] bytes each, follow the image at
/// [`Superblock::total_size`]. The SHA-256 of this table is the image's.
pub const COMPAT_SUMS: u64 = 1 << 0;

/// Incompatible feature: some files are [`INODE_PACKED`].
pub const INCOMPAT_PACKED: u64 = 1 << 0;

/// Incompatible feature: some files have an [`Inode::original`].
pub const INCOMPAT_SHARED: u64 = 1 << 2;

/// Incompatible feature: there is a table of packs ([`Pack`]), and there may be files with
/// [`Inode::pack`]. Such an image is *composed*.
pub const INCOMPAT_PACKS: u64 = 1 << 3;

/// Incompatible features known to this reader. An image with any other is refused.
///
/// Bit 1 is reserved for files with several extents.
pub const INCOMPAT_KNOWN: u64 = INCOMPAT_PACKED | INCOMPAT_SHARED | INCOMPAT_PACKS;

/// Flag of a regular file: the data may start at any byte, and the rest of their blocks may belong
/// to other files.
pub const INODE_PACKED: u16 = 1 << 0;

/// Number of bytes for the superblock: the record ([`Superblock`]), the place of the table of packs
/// ([`PACKS_OFFSET`]), then zeros.
pub const SUPERBLOCK_SIZE: u64 = 4096;

/// Offset of an [`Extent`], the table of packs ([`Pack`]): right after the record of the
/// superblock. It is zero without [`INCOMPAT_PACKS`].
pub const PACKS_OFFSET: u64 = size_of::<Superblock>() as u64;

/// Length in bytes of a [`Pack`].
pub const PACK_SIZE: u64 = size_of::<Pack>() as u64;

/// Largest number of packs of an image.
pub const PACKS_MAX: u32 = 4096;

/// Smallest block size, and the default.
pub const MIN_BLOCK_SIZE: u32 = 4096;

/// Largest block size: the largest page size of all architectures of Linux.
pub const MAX_BLOCK_SIZE: u32 = 65536;

/// Files of at least this many bytes start at a multiple of it, and images are padded to a multiple
/// of it, so that they can be mapped by PMD entries.
pub const HUGE_SIZE: u64 = 2 << 20;

/// Length in bytes of the pieces from which an image's SHA-256 is computed. The last piece may be
/// shorter.
pub const DIGEST_PIECE: u64 = 2 << 20;

/// Length in bytes of the SHA-256 of a piece.
pub const SUM_SIZE: u64 = 32;

/// Length in bytes of an [`Inode`].
pub const INODE_SIZE: u64 = size_of::<Inode>() as u64;

/// Length in bytes of a [`Dirent`].
pub const DIRENT_SIZE: u64 = size_of::<Dirent>() as u64;

/// First eight bytes of a [`Signature`].
pub const SIGNATURE_MAGIC: [u8; 8] = *b"\x89daxsig\n";

/// Alignment of a [`Signature`].
pub const SIGNATURE_ALIGN: u64 = 64;

/// Longest CMS message of a [`Signature`], in bytes.
pub const SIGNATURE_MAX: u32 = 16 << 10;

/// First eight bytes of a store, which only user space reads.
pub const CATALOG_MAGIC: [u8; 8] = *b"\x89daxcat\n";

/// Returns the number of pieces of an image of `total_size` bytes.
pub const fn pieces(total_size: u64) -> u64 {
    total_size.div_ceil(DIGEST_PIECE)
}

/// Returns the range of piece `index` of an image of `total_size` bytes.
pub fn piece(index: u64, total_size: u64) -> Range<u64> {
    let start = index.saturating_mul(DIGEST_PIECE);
    start..total_size.clamp(start, start.saturating_add(DIGEST_PIECE))
}

/// Alignment of every metadata table: a cache line.
pub const TABLE_ALIGN: u64 = 64;

/// Longest name of a directory entry, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Longest symlink target, in bytes (`PATH_MAX` less the NUL).
pub const SYMLINK_MAX: u64 = 4095;

/// `Inode::position` of the root directory, which has no entry.
pub const NO_POSITION: u32 = u32::MAX;

/// Unit of `Inode::xattrs`, in bytes, and the alignment of xattr sets.
pub const XATTR_ALIGN: u64 = 8;

/// Longest value of an extended attribute in Linux, in bytes.
pub const XATTR_VALUE_MAX: u32 = 65536;

/// Maximum number of extended attributes of an inode: how many of the shortest names (`user.x` and
/// a NUL) fit into Linux's limit of 65536 bytes for a list.
pub const XATTR_COUNT_MAX: u32 = 65536 / 7;

/// The range of a table.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Extent {
    /// First byte.
    pub offset: U64,
    /// Length in bytes.
    pub length: U64,
}

/// The superblock, at offset 0.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// Alignment of file data in bytes: a power of two from [`MIN_BLOCK_SIZE`] to
    /// [`MAX_BLOCK_SIZE`].
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
    /// CRC-32C of the metadata: of all bytes after this record and before `data.offset`.
    pub metadata_crc: U32,
    /// SHA-256 of the SHA-256 of all pieces of [`DIGEST_PIECE`] bytes. In the first piece this
    /// field and `crc` count as zero.
    pub sha256: [u8; 32],
    /// CRC-32C of the bytes of the record before this field.
    pub crc: U32,
}

impl Superblock {
    /// Returns the record as it counts in the image's SHA-256: with `sha256` and `crc` zero.
    pub fn without_sums(mut self) -> Self {
        self.sha256 = [0; 32];
        self.crc = 0.into();
        self
    }
}

/// A pack: an image that may contain data of this one's files. It has no packs itself.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Pack {
    /// Its [`Superblock::sha256`].
    pub sha256: [u8; 32],
    /// Its [`Superblock::total_size`].
    pub total_size: U64,
    /// Zero.
    pub reserved: [u8; 24],
}

/// Head of the signature of an image. It follows the image and its table of sums, at the next
/// multiple of [`SIGNATURE_ALIGN`], and `length` bytes of a CMS message follow it. No feature says
/// that the image has one: the image's SHA-256, which it signs, covers the features.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Signature {
    /// [`SIGNATURE_MAGIC`].
    pub magic: [u8; 8],
    /// [`Superblock::sha256`] of the image that it belongs to.
    pub sha256: [u8; 32],
    /// Last second in which the signature counts, since 1970.
    pub expires: U64,
    /// Bytes of the message, 1 to [`SIGNATURE_MAX`].
    pub length: U32,
    /// CRC-32C of the bytes of the record before this field, and of the message.
    pub crc: U32,
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
    /// 0, or 1 + the offset of the inode's [`XattrSet`] in the xattr table in units of
    /// [`XATTR_ALIGN`].
    pub xattrs: U32,
    /// Regular file: offset of its data in the image (0 when it is empty, or the data are in a
    /// pack). Directory: index of its first record in the dirent table. Symlink: offset of its
    /// target in the names. Device: `major << 32 | minor`.
    pub data: U64,
    /// Directory: inode number of its parent (the root's own). Else 0.
    pub parent: U32,
    /// Directory: number of the parent's entry for it ([`NO_POSITION`] for the root). Else 0.
    pub position: U32,
    /// Regular file: inode number of the file that this one shares data with, or 0: in the pack if
    /// `pack` names one, else in this image and smaller than its own. Else 0.
    pub original: U32,
    /// Regular file: number of the pack that has `original`, 1 for the first, or 0. Else 0.
    pub pack: U32,
}

/// A directory entry: four to a cache line. A directory's entries ascend by (hash, name).
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Dirent {
    /// [Hash](super::Memory::name_hash) of the name.
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

impl Dirent {
    /// Returns the offset of the name in the names.
    #[inline]
    pub fn name_offset(&self) -> u64 {
        (u64::from(self.name_high.get()) << 32) | u64::from(self.name_low.get())
    }
}

/// Head of a set of extended attributes. `count` [`XattrEntry`] follow, ascending by (prefix,
/// name).
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct XattrSet {
    /// Length of the set in bytes, including this head, without padding at the end.
    pub length: U32,
    /// Number of entries.
    pub count: U32,
}

/// Head of an extended attribute. `name_len` bytes of name and `value_len` bytes of value follow,
/// then zeros up to a multiple of 4.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct XattrEntry {
    /// Bytes of the value.
    pub value_len: U32,
    /// Length in bytes of the name after the prefix.
    pub name_len: u8,
    /// Number of an [`XattrPrefix`].
    pub prefix: u8,
    /// Zero.
    pub reserved: U16,
}

/// The prefixes of extended attributes, with the numbers of ext4 and EROFS.
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
    /// All prefixes in the order of their numbers.
    pub const ALL: [XattrPrefix; 5] = [
        XattrPrefix::User,
        XattrPrefix::AclAccess,
        XattrPrefix::AclDefault,
        XattrPrefix::Trusted,
        XattrPrefix::Security,
    ];

    /// Returns the prefix with this number, if there is one.
    pub fn from_number(number: u8) -> Option<XattrPrefix> {
        Self::ALL.into_iter().find(|&prefix| prefix as u8 == number)
    }

    /// Returns true if the prefix is a whole name.
    pub const fn is_whole(self) -> bool {
        matches!(self, XattrPrefix::AclAccess | XattrPrefix::AclDefault)
    }

    /// Returns the text.
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
    assert!(size_of::<Pack>() == 64);
    assert!(size_of::<Signature>() == 56);
    assert!(size_of::<Inode>() == 64);
    assert!(core::mem::offset_of!(Inode, data) == 40);
    assert!(core::mem::offset_of!(Inode, original) == 56);
    assert!(size_of::<Dirent>() == 16);
    assert!(size_of::<XattrSet>() == 8);
    assert!(size_of::<XattrEntry>() == 8);
};
