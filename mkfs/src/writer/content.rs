// SPDX-License-Identifier: GPL-2.0-only

//! Copies files' content into the image.

use crate::writer::open_file::OpenFile;
use crate::writer::plan::{DataExtent, Plan};
use crate::writer::tree::{Kind, NodeId, Tree};
use daxfs_files::digest::{self, in_order, Fingerprint, Sum};
use daxfs_files::{Error, Progress, Result};
use daxfs_reader::layout::{self, DIGEST_PIECE};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::mem::size_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::Xxh3;
use zerocopy::IntoBytes;

/// Size limit of files that are read by one call, if they are contiguous in the image.
const SMALL: u64 = 128 << 10;

/// Bytes to write per call: for longer writes, the page cache allocates larger blocks of memory. If
/// such blocks were free for long, the host of a virtual machine may have reclaimed them, and
/// getting them back can double the run time.
pub const WRITTEN_AT_ONCE: usize = 256 << 10;

/// Sums of an image's pieces.
pub struct Pieces {
    /// The bytes of the first piece after the superblock.
    first: Vec<u8>,
    others: Vec<Sum>,
}

impl Pieces {
    /// Returns the SHA-256 of the pieces of the image with this superblock.
    pub fn sums(&self, superblock: &layout::Superblock) -> impl Iterator<Item = [u8; 32]> + '_ {
        let first = Sha256::new()
            .chain_update(superblock.without_sums().as_bytes())
            .chain_update(self.after_superblock())
            .finalize();
        let others = self.others.iter().map(|sum| sum.digest);
        std::iter::once(first.into()).chain(others)
    }

    /// Returns the fingerprints of the pieces of the image with this superblock.
    pub fn fingerprints(&self, superblock: &layout::Superblock) -> Vec<Fingerprint> {
        let mut first = Xxh3::new();
        first.update(superblock.as_bytes());
        first.update(self.after_superblock());
        let others = self.others.iter().map(|sum| sum.fingerprint);
        std::iter::once(first.digest128()).chain(others).collect()
    }

    fn after_superblock(&self) -> &[u8] {
        &self.first[size_of::<layout::Superblock>()..]
    }
}

/// Copies every file of `plan` to its place in `image`, which is called `path` and has its
/// metadata.
///
/// Returns [`Error::Io`] or [`Error::Changed`] for the first unreadable or changed file.
pub fn copy(
    tree: &Tree,
    plan: &Plan,
    image: &File,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Pieces> {
    let target = Target {
        image,
        path,
        turn: Mutex::new(()),
    };
    let copier = || Copier::new(tree, plan, &target, progress);
    let mut copier_of_first = copier();
    let length = copier_of_first.piece(0)?.map_or(0, <[u8]>::len);
    let mut first = copier_of_first.buffer;
    first.truncate(length);
    let count = layout::pieces(plan.total_size);
    let others = in_order(1..count, copier, |copier, index| {
        Ok(copier.piece(index)?.map_or_else(Sum::zeros, Sum::of))
    })?;
    Ok(Pieces { first, others })
}

/// The image, shared by all workers.
struct Target<'a> {
    image: &'a File,
    path: &'a Path,
    /// Held while writing, because the system serializes writes to a file, and threads that wait in
    /// the kernel waste their time.
    turn: Mutex<()>,
}

impl Target<'_> {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, bytes) in bytes.chunks(WRITTEN_AT_ONCE).enumerate() {
            self.image
                .write_all_at(bytes, offset + (part * WRITTEN_AT_ONCE) as u64)
                .map_err(|error| Error::output(self.path, "write the image", error))?;
        }
        Ok(())
    }
}

/// Assembles the pieces of the image.
struct Copier<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    target: &'a Target<'a>,
    progress: &'a dyn Progress,
    /// The piece, and one byte more, see [`OpenFile::whole`].
    buffer: Vec<u8>,
    /// Number of complete bytes at its start.
    filled: usize,
    /// Ranges of it to write. The rest is holes, or already in the image.
    written: Vec<Range<usize>>,
    /// The last file of this piece, which may continue in the next.
    source: Option<OpenFile<'a>>,
}

impl<'a> Copier<'a> {
    fn new(
        tree: &'a Tree,
        plan: &'a Plan,
        target: &'a Target<'a>,
        progress: &'a dyn Progress,
    ) -> Self {
        Copier {
            tree,
            plan,
            target,
            progress,
            buffer: vec![0; plan.total_size.min(DIGEST_PIECE) as usize + 1],
            filled: 0,
            written: Vec::new(),
            source: None,
        }
    }

    /// Writes the data of piece `index` of the image, and returns the piece, or `None` if it is all
    /// zeros.
    fn piece(&mut self, index: u64) -> Result<Option<&[u8]>> {
        let Range { start, end } = layout::piece(index, self.plan.total_size);
        self.filled = 0;
        self.written.clear();
        if start < self.plan.data.offset {
            let metadata = end.min(self.plan.data.offset) - start;
            self.filled = metadata as usize;
            self.target
                .image
                .read_exact_at(&mut self.buffer[..self.filled], start)
                .map_err(|error| Error::output(self.target.path, "read back the image", error))?;
        }
        let extents = &self.plan.extents;
        let first = extents.partition_point(|extent| extent.offset + extent.size <= start);
        for extent in extents[first..]
            .iter()
            .take_while(|extent| extent.offset < end)
        {
            self.file(extent, start, end)?;
        }
        if self.filled == 0 && end - start == DIGEST_PIECE {
            return Ok(None);
        }
        let length = (end - start) as usize;
        self.skip(length);
        for part in &self.written {
            self.target
                .write(&self.buffer[part.clone()], start + part.start as u64)?;
        }
        Ok(Some(&self.buffer[..length]))
    }

    /// Fills the buffer with zeros up to `to`.
    fn skip(&mut self, to: usize) {
        self.buffer[self.filled..to].fill(0);
        self.filled = to;
    }

    /// Adds the buffer's bytes from `from` to `to` to those to write.
    fn fill(&mut self, from: usize, to: usize) {
        self.filled = to;
        match self.written.last_mut() {
            // A gap of a whole block may be a hole in the image file.
            Some(last) if from - last.end < self.plan.block_size as usize => last.end = to,
            _ => self.written.push(from..to),
        }
    }

    /// Copies a file's bytes in the image, from the buffer's offset `start` to `end`, into the
    /// buffer.
    fn file(&mut self, extent: &DataExtent, start: u64, end: u64) -> Result<()> {
        let mut at = start.saturating_sub(extent.offset);
        let until = extent.size.min(end - extent.offset);
        if at == 0 && until == extent.size && extent.size <= SMALL {
            let from = (extent.offset - start) as usize;
            let to = from + extent.size as usize;
            self.skip(from);
            OpenFile::whole(self.tree, extent.node, &mut self.buffer[from..=to])?;
            self.fill(from, to);
            self.progress.advance(extent.size);
            return Ok(());
        }
        let source = match self.source.take().filter(|source| source.is(extent.node)) {
            Some(source) => source,
            None => OpenFile::open(self.tree, extent.node)?,
        };
        while at < until {
            let (hole, stretch) = source.stretch(at)?;
            let stretch = stretch.min(until);
            if !hole {
                let place = |at| (extent.offset + at - start) as usize;
                self.skip(place(at));
                source.fill(at, &mut self.buffer[place(at)..place(stretch)])?;
                self.fill(place(at), place(stretch));
            }
            self.progress.advance(stretch - at);
            at = stretch;
        }
        source.finish()?;
        self.source = Some(source);
        Ok(())
    }
}

/// Checks that the tree's empty files are readable and really empty, unlike files in /proc.
pub fn check_empty(tree: &Tree) -> Result<()> {
    for (node, id) in tree.nodes.iter().zip(0..) {
        if matches!(node.kind, Kind::Regular { size: 0, location } if location.is_read()) {
            OpenFile::open(tree, id)?.finish()?;
        }
    }
    Ok(())
}

/// Returns the SHA-256 of `node`'s content. Uses `buffer` for reading, see `OpenFile::blocks`.
///
/// Returns [`Error::Io`] if it is unreadable and [`Error::Changed`] if it has changed.
pub fn sha256(tree: &Tree, node: NodeId, buffer: &mut Vec<u8>) -> Result<[u8; 32]> {
    digest::sha256(|add| OpenFile::blocks(tree, node, false, buffer, |_, block| add(block)))
}
