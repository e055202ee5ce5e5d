// SPDX-License-Identifier: GPL-2.0-only

//! Options of an image.

use daxfs_reader::layout;
use uuid::Uuid;

/// Tail packing: which files share blocks with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tails {
    /// None, so an image has at least a block for each file. For small files that many processes map, and for
    /// programs that map the files of an image themselves
    None,
    /// Files smaller than 4 KiB, with one another
    #[default]
    Small,
    /// Files smaller than a block, also in the last blocks of larger ones. This makes the smallest image
    All,
}

/// Options of an image.
#[derive(Clone, Debug)]
pub struct Options {
    /// Alignment of file data in bytes.
    pub block_size: u32,
    /// UTF-8 label of at most 64 bytes.
    pub label: String,
    /// UUID; derived from the content if none.
    pub uuid: Option<Uuid>,
    /// Build time: seconds since 1970 and nanoseconds; the newest modification time in the tree if
    /// none.
    pub time: Option<(i64, u32)>,
    /// Store files with the same content once.
    pub dedupe: bool,
    /// Which files share blocks with others.
    pub tails: Tails,
    /// Files of at least this size are aligned for huge pages.
    pub huge_threshold: u64,
    /// Do not align a file for huge pages if the gap before it would take more than an eighth of its size.
    pub dense: bool,
    /// Number the files of a directory in the order of their nodes, not of the directory's entries. Their data have the
    /// order of their numbers. The order of nodes must not depend on where the tree comes from.
    pub by_node: bool,
    /// The image's size is a multiple of this many bytes, itself a multiple of `block_size`.
    pub padding: u64,
    /// Store the SHA-256 of each piece after the image.
    pub sums: bool,
    /// Read the image back, check it, and sync it. Not needed if readers compare each piece.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            block_size: layout::MIN_BLOCK_SIZE,
            label: String::new(),
            uuid: None,
            time: None,
            dedupe: true,
            tails: Tails::default(),
            huge_threshold: layout::HUGE_SIZE,
            dense: false,
            by_node: false,
            padding: layout::HUGE_SIZE,
            sums: false,
            verify: true,
        }
    }
}
