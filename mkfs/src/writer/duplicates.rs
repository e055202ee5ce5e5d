// SPDX-License-Identifier: GPL-2.0-only

//! Finds files of a tree with the same content.
//!
//! Compares only files of the same size: first their beginnings, then a SHA-256 of all bytes. So
//! identical files are read twice, and most other files are not read.

use crate::writer::open_file::OpenFile;
use crate::writer::tree::{Kind, NodeId, Tree};
use daxfs_files::digest::sha256;
use daxfs_files::memory::ZEROS;
use daxfs_files::{Progress, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes at the start of a file to compare first.
const BEGINNING: u64 = 4096;

/// Identical files of a tree.
#[derive(Default)]
pub struct Duplicates {
    /// The representative of each file that is identical to another, except its own.
    representatives: HashMap<NodeId, NodeId>,
}

impl Duplicates {
    /// Finds identical files in `tree`.
    ///
    /// Returns [`Error::Io`](daxfs_files::Error::Io) for an unreadable file and
    /// [`Error::Changed`](daxfs_files::Error::Changed) for a changed one.
    pub fn find(tree: &Tree, progress: &dyn Progress) -> Result<Self> {
        let mut files = Vec::new();
        for (node, id) in tree.nodes.iter().zip(0..) {
            if let Kind::Regular { size, location } = node.kind {
                if size > 0 && location.is_read() {
                    files.push((size, id));
                }
            }
        }
        files.sort_unstable();
        let groups = files.chunk_by(|a, b| a.0 == b.0);
        let groups: Vec<_> = groups.filter(|group| group.len() > 1).collect();
        let bytes = |group: &[(u64, NodeId)]| group[0].0.saturating_mul(group.len() as u64);
        let total = groups.iter().map(|group| bytes(group));
        progress.step("comparing", total.fold(0, u64::saturating_add));
        let found: Vec<Result<Vec<_>>> = groups
            .into_par_iter()
            .map(|group| {
                let found = alike(tree, group[0].0, group);
                progress.advance(bytes(group));
                found
            })
            .collect();
        let mut representatives = HashMap::new();
        for group in found {
            representatives.extend(group?);
        }
        Ok(Duplicates { representatives })
    }

    /// Returns the representative of the files that are identical to `node`, which may be `node`
    /// itself.
    pub fn representative(&self, node: NodeId) -> NodeId {
        self.representatives.get(&node).copied().unwrap_or(node)
    }
}

/// Finds identical files among `files`, which all have `size` bytes. Returns each of them but the
/// first, paired with the first.
fn alike(tree: &Tree, size: u64, files: &[(u64, NodeId)]) -> Result<Vec<(NodeId, NodeId)>> {
    let mut beginnings = files
        .par_iter()
        .map(|&(_, node)| {
            let mut buffer = [0; BEGINNING as usize];
            let beginning = &mut buffer[..size.min(BEGINNING) as usize];
            OpenFile::beginning(tree, node, beginning)?;
            Ok((xxh3_128(beginning), node))
        })
        .collect::<Result<Vec<_>>>()?;
    beginnings.sort_unstable();
    let mut found = Vec::new();
    let groups = beginnings.chunk_by(|a, b| a.0 == b.0);
    for group in groups.filter(|group| group.len() > 1) {
        let mut sums = group
            .par_iter()
            .map(|&(_, node)| Ok((sum(tree, node)?, node)))
            .collect::<Result<Vec<_>>>()?;
        sums.sort_unstable();
        for same in sums.chunk_by(|a, b| a.0 == b.0) {
            found.extend(same[1..].iter().map(|&(_, node)| (node, same[0].1)));
        }
    }
    Ok(found)
}

/// Returns a SHA-256 of the content of `node` without the blocks of zeros in sparse files.
fn sum(tree: &Tree, node: NodeId) -> Result<[u8; 32]> {
    // Block boundaries do not depend on the holes.
    sha256(|add| {
        OpenFile::blocks(tree, node, true, &mut Vec::new(), |at, block| {
            if *block != ZEROS[..block.len()] {
                add(&at.to_le_bytes());
                add(block);
            }
        })
    })
}
