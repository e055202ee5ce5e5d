// SPDX-License-Identifier: GPL-2.0-only

//! Errors of members of an archive.

use daxfs_reader::layout::NAME_MAX;
use std::error::Error as StdError;

/// Why a member cannot become a file of a tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the map of a sparse file is malformed")]
    SparseMap,
    #[error("the map of a sparse file is malformed at {0}")]
    SparseMapAt(u64),
    #[error("the map of a sparse file has {map} bytes, the archive {stored}")]
    SparseBytes { map: u64, stored: u64 },
    #[error(
        "a sparse file has a format that is not 1.0; make the archive with --sparse-version=1.0"
    )]
    OldSparse,
    #[error("the size of a sparse file is malformed")]
    SparseSize,
    #[error("an extended header is malformed")]
    ExtendedHeader,
    #[error("the extended header {key} has the value '{value}'")]
    Record { key: String, value: String },
    #[error("the name '{0}' leads out of the tree; make the archive without '..'")]
    Outside(String),
    #[error("'{0}' has a name of more than {NAME_MAX} bytes")]
    LongName(String),
    #[error("more than {0} directories are nested; leave the innermost out")]
    Depth(usize),
    #[error("more than {0} members and directories; unpack the archive, and make the image of the directory")]
    Count(u64),
    #[error("more than {0} MiB of names, symlinks, extended attributes and maps of sparse files; unpack the archive, and make the image of the directory")]
    Bytes(u64),
    #[error("more than {0} extended attributes, which Linux cannot list; remove some")]
    XattrCount(u32),
    #[error("its extended headers have more than {0} bytes")]
    LongHeader(u64),
    #[error("more than {0} bytes in global extended headers; make the archive without them")]
    GlobalHeader(usize),
    #[error("'{0}' contains NUL")]
    NameWithNul(String),
    #[error("the root of the tree is not a directory")]
    Root,
    #[error("a symlink's target has {0} bytes")]
    SymlinkLength(usize),
    #[error("a symlink's target contains NUL")]
    SymlinkWithNul,
    #[error("a hard link to '{0}', which is not there")]
    LinkToNothing(String),
    #[error("a hard link to the directory '{0}'")]
    LinkToDirectory(String),
    #[error("no directory '{0}'")]
    NoDirectory(String),
    #[error("'{0}' is not a directory")]
    NotDirectory(String),
    #[error("the symlink '{0}' leads nowhere")]
    SymlinkLoop(String),
    #[error("device number {major}:{minor} is not supported by Linux")]
    Device { major: u32, minor: u32 },
    #[error("has the extended attribute '{0}', whose name has a NUL")]
    XattrName(String),
    #[error("has an access control list with the entry '{0}'")]
    AclEntry(String),
    #[error("has an access control list with the entry '{0}': no such user or group here; make the archive with numeric owners")]
    AclName(String),
    #[error(transparent)]
    Acl(#[from] daxfs_writer::acl::WrongAcl),
    /// The attributes of the file `name` are malformed.
    #[error("'{name}' {source}")]
    Attributes {
        name: String,
        source: Box<Malformed>,
    },
}

/// Something is wrong with the member that starts at byte `at` of an archive.
#[derive(Debug, thiserror::Error)]
#[error("{why} (member at byte {at})")]
pub(crate) struct AtMember {
    pub at: u64,
    #[source]
    pub why: Box<dyn StdError + Send + Sync>,
}

/// Why a member was refused: for itself, or for an error of the tree or the archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Error(#[from] daxfs_writer::Error),
}
