// SPDX-License-Identifier: GPL-2.0-only

//! Options of an image.

use daxfs_reader::layout;
use uuid::Uuid;

/// Tail packing: which files share blocks with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tails {
    /// None, so each file needs at least a block. For small files that many processes map, and for
    /// programs that map the files of an image themselves
    None,
    /// Files smaller than 4 KiB, with each other
    #[default]
    Small,
    /// Files smaller than a block, even in the last blocks of larger ones. Makes the smallest image
    All,
}

/// Options of an image.
#[derive(Clone, Debug)]
pub struct Options {
    /// Alignment of file data in bytes.
    pub block_size: u32,
    /// UTF-8 label of at most 64 bytes.
    pub label: String,
    /// UUID, by default derived from the content.
    pub uuid: Option<Uuid>,
    /// Build time in seconds since 1970 and nanoseconds, by default the newest modification time in
    /// the tree.
    pub time: Option<(i64, u32)>,
    /// Whether to store files with the same content once.
    pub dedupe: bool,
    /// Which files share blocks with others.
    pub tails: Tails,
    /// Minimum size of files that are aligned for huge pages.
    pub huge_threshold: u64,
    /// Do not align a file for huge pages if the gap before it would exceed an eighth of its size.
    pub dense: bool,
    /// Number a directory's files in the order of their nodes instead of the directory's entries.
    /// Their data follows the numbers. The order of nodes must not depend on the kind of input.
    pub by_node: bool,
    /// The image's size is a multiple of this, which is itself a multiple of `block_size`.
    pub padding: u64,
    /// Store the SHA-256 of each piece after the image.
    pub sums: bool,
    /// Read the image back, check it, and sync it. Unnecessary if readers compare each piece.
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
