// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with an image.

use core::fmt;

/// Why an image, or one record of it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The memory itself could not be read (machine check, removed device).
    Unreadable,
    /// The region is too small to hold a superblock.
    TooSmall,
    /// No daxfs image.
    Magic,
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
    /// A block size that is no power of two within the limits.
    BlockSize,
    /// The image is longer than the memory that holds it.
    Truncated,
    /// A table out of place: outside the image, overlapping, unaligned or of a partial record.
    Table,
    /// The root is no directory, or not its own parent.
    Root,
    /// An inode number outside the inode table.
    InodeNumber,
    /// A mode without a valid file type.
    Mode,
    /// A flag that is unknown, or that neither the type nor the features of the image allow.
    Flags,
    /// A link count of zero.
    LinkCount,
    /// A size out of range.
    Size,
    /// A nanosecond count of a second or more.
    Time,
    /// File data outside the data table, or unaligned.
    Data,
    /// Data shared with a file that is no regular file of its own, or with other data.
    Original,
    /// Data on pages that another file has.
    Overlap,
    /// Directory entries outside the dirent table.
    Dirents,
    /// A directory entry of an unknown type, or of another than its inode's.
    FileType,
    /// A name outside the names, empty, or with a byte that no name may hold.
    Name,
    /// A directory entered through an entry that is not the one it names as its own.
    Parent,
    /// A symlink target outside the names, or with a NUL byte.
    Symlink,
    /// A device number that does not fit.
    Device,
    /// An xattr set outside the xattr table or malformed.
    Xattr,
}

impl Problem {
    /// What it is, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Problem::Unreadable => "memory cannot be read",
            Problem::TooSmall => "region too small for a superblock",
            Problem::Magic => "no daxfs superblock (wrong magic number)",
            Problem::Version => "unknown format version",
            Problem::Feature => "unknown incompatible feature",
            Problem::SuperblockChecksum => "superblock checksum mismatch",
            Problem::MetadataChecksum => "metadata checksum mismatch",
            Problem::Digest => "SHA-256 is not the expected one",
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
            Problem::Overlap => "data overlap those of another file",
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

/// A [`Problem`], where it was found, and the value found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub problem: Problem,
    /// Offset in the image of the offending field or record, in bytes.
    pub offset: u64,
    /// The offending value, as far as a number can tell it.
    pub value: u64,
}

impl Error {
    /// A `problem` with the `value` found at `offset`.
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
