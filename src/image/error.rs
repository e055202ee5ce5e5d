// SPDX-License-Identifier: GPL-2.0-only

//! Problems of images.

use core::fmt;

/// A reason to refuse an image, or a record in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The memory cannot be read (machine check, removed device).
    Unreadable,
    /// The region is too small to hold a superblock.
    TooSmall,
    /// Not a daxfs image.
    Magic,
    /// A catalogue of images instead of an image, or an error in a catalogue.
    Catalog(&'static str),
    /// A format version that this reader does not know.
    Version,
    /// An incompatible feature that this reader does not know.
    Feature,
    /// Superblock checksum mismatch.
    SuperblockChecksum,
    /// Metadata checksum mismatch.
    MetadataChecksum,
    /// The image's SHA-256 is not the expected one.
    Digest,
    /// The table of the SHA-256 of all pieces does not match the image's SHA-256.
    Sums,
    /// A piece does not match its SHA-256.
    Piece,
    /// The signature is malformed.
    Signature,
    /// A block size that is not a power of two within the limits.
    BlockSize,
    /// The image is longer than the memory that holds it.
    Truncated,
    /// A table that is outside the image, overlaps another, is unaligned or ends in a partial
    /// record.
    Table,
    /// The root is not a directory, or not its own parent.
    Root,
    /// An inode number outside the inode table.
    InodeNumber,
    /// A mode without a valid file type.
    Mode,
    /// A flag that is unknown, or that the file type or the features of the image do not allow.
    Flags,
    /// A link count of zero.
    LinkCount,
    /// A size out of range.
    Size,
    /// A number of nanoseconds of a second or more.
    Time,
    /// File data outside the data table, or unaligned.
    Data,
    /// Data shared with an inode that has other data, is not a regular file, or shares data itself.
    Original,
    /// Data on pages of another file.
    Overlap,
    /// Directory entries outside the dirent table.
    Dirents,
    /// A directory entry whose file type is unknown or differs from its inode's.
    FileType,
    /// A name that is outside the names, is empty, or contains an invalid byte.
    Name,
    /// A directory with another parent or entry than the one it was found by.
    Parent,
    /// A symlink target that is outside the names or contains a NUL.
    Symlink,
    /// A device number that does not fit.
    Device,
    /// An xattr set that is outside the xattr table or malformed.
    Xattr,
}

impl Problem {
    /// A catalogue of images where an image was expected.
    pub const IS_CATALOG: Self = Problem::Catalog("a catalogue of images, not an image");

    /// Return a description.
    pub const fn text(self) -> &'static str {
        match self {
            Problem::Unreadable => "memory cannot be read",
            Problem::TooSmall => "region too small for a superblock",
            Problem::Magic => "no daxfs superblock (wrong magic number)",
            Problem::Catalog(text) => text,
            Problem::Version => "unknown format version",
            Problem::Feature => "unknown incompatible feature",
            Problem::SuperblockChecksum => "superblock checksum mismatch",
            Problem::MetadataChecksum => "metadata checksum mismatch",
            Problem::Digest => "SHA-256 is not the expected one",
            Problem::Sums => "table of SHA-256 sums does not match the SHA-256 of the image",
            Problem::Piece => "piece of 2 MiB does not match its SHA-256",
            Problem::Signature => "malformed signature",
            Problem::BlockSize => "invalid block size",
            Problem::Truncated => "image larger than the region that holds it",
            Problem::Table => "table out of place",
            Problem::Root => "root inode is not a root directory",
            Problem::InodeNumber => "inode number out of range",
            Problem::Mode => "invalid mode",
            Problem::Flags => "invalid flags",
            Problem::LinkCount => "link count of zero",
            Problem::Size => "size out of range",
            Problem::Time => "nanoseconds out of range",
            Problem::Data => "file data out of place",
            Problem::Original => "data shared with an unsuitable file",
            Problem::Overlap => "data overlap another file's",
            Problem::Dirents => "directory entries out of place",
            Problem::FileType => "wrong file type in directory entry",
            Problem::Name => "invalid name",
            Problem::Parent => "directory has another parent entry",
            Problem::Symlink => "invalid symlink target",
            Problem::Device => "invalid device number",
            Problem::Xattr => "invalid extended attributes",
        }
    }
}

/// A [`Problem`], with the place and the value that was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Problem.
    pub problem: Problem,
    /// Offset in the image of the invalid field or record in bytes.
    pub offset: u64,
    /// Invalid value, if it is a number.
    pub value: u64,
}

impl Error {
    /// Make an error for `problem`, with the `value` found at `offset`.
    pub const fn new(problem: Problem, offset: u64, value: u64) -> Self {
        Error {
            problem,
            offset,
            value,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (offset {:#x}, value {:#x})",
            self.problem.text(),
            self.offset,
            self.value
        )
    }
}

/// The result of reading an image.
pub type Result<T> = core::result::Result<T, Error>;
