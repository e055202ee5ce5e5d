// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Problems of images.

use core::fmt;

/// Defines the problems: their names, and their descriptions for users and for the documentation.
macro_rules! problems {
    ($($name:ident: $text:literal,)*) => {
        /// A reason to refuse an image, or a record in it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Problem {
            /// A store of images instead of an image, or an error in its table.
            Catalog(&'static str),
            $(#[doc = $text] $name,)*
        }

        impl Problem {
            /// Returns a description.
            pub const fn text(self) -> &'static str {
                match self {
                    Problem::Catalog(text) => text,
                    $(Problem::$name => $text,)*
                }
            }
        }
    };
}

problems! {
    Unreadable: "memory cannot be read",
    TooSmall: "region too small for a superblock",
    Magic: "no daxfs superblock (wrong magic number)",
    Version: "unknown format version",
    Feature: "unknown incompatible feature",
    SuperblockChecksum: "superblock checksum mismatch",
    MetadataChecksum: "metadata checksum mismatch",
    Digest: "SHA-256 is not the expected one",
    Sums: "table of SHA-256 sums does not match the SHA-256 of the image",
    Piece: "piece of 2 MiB does not match its SHA-256",
    Signature: "malformed signature",
    BlockSize: "invalid block size",
    Truncated: "image larger than the region that holds it",
    Table: "table out of place",
    Root: "root inode is not a root directory",
    InodeNumber: "inode number out of range",
    Mode: "invalid mode",
    Flags: "invalid flags",
    LinkCount: "link count of zero",
    Size: "size out of range",
    Time: "nanoseconds out of range",
    Data: "file data out of place",
    Original: "data shared with an unsuitable file",
    Packs: "invalid table of packs",
    Pack: "data in a pack that the image does not have",
    NoPack: "file data in a pack that is not at hand",
    Overlap: "data overlap another file's",
    Dirents: "directory entries out of place",
    FileType: "wrong file type in directory entry",
    Name: "invalid name",
    Parent: "directory has another parent entry",
    Symlink: "invalid symlink target",
    Device: "invalid device number",
    Xattr: "invalid extended attributes",
}

impl Problem {
    /// A store of images where an image was expected.
    pub const IS_CATALOG: Self = Problem::Catalog("a store of images, not an image");
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
    /// Creates an error for `problem`, with the `value` found at `offset`.
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
