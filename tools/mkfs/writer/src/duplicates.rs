// SPDX-License-Identifier: GPL-2.0-only

//! Finds the files of a tree that have the same content.
//!
//! Only files of the same size are compared: first their beginnings, then a hash of all bytes, and
//! files with the same hash byte by byte. So identical files are read three times, and most other
//! files are not read.

use crate::error::Result;
use crate::source::Source;
use crate::tree::{Kind, NodeId, Place, Tree};
use daxfs_check::digest::Fingerprint;
use daxfs_check::Progress;
use rayon::prelude::*;
use std::ops::Range;
use xxhash_rust::xxh3::{xxh3_128, Xxh3};

/// Bytes at the start of a file that are compared first.
const BEGINNING: u64 = 4096;

/// Bytes that are read together.
const BUFFER: usize = 64 << 10;

/// A file that is identical to others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    /// The file.
    node: NodeId,
    /// Representative of all identical files.
    representative: NodeId,
}

/// Identical files of a tree.
#[derive(Default)]
pub struct Duplicates {
    /// By ascending node.
    alike: Vec<Alike>,
}

impl Duplicates {
    /// Find identical files in `tree`.
    ///
    /// Return [`Error::Io`](crate::Error::Io) and [`Error::Changed`](crate::Error::Changed) for a
    /// file that cannot be read or has changed.
    pub fn find(tree: &Tree, progress: &dyn Progress) -> Result<Self> {
        let mut files = Vec::new();
        for (node, id) in tree.nodes.iter().zip(0..) {
            if let Kind::Regular { size, place } = node.kind {
                if size > 0 && place != Place::Nowhere {
                    files.push((size, id));
                }
            }
        }
        files.sort_unstable();
        let groups = several(&files, |file| file.0);
        let total = groups.iter().flat_map(|group| &files[group.clone()]);
        progress.step("comparing", total.map(|file| file.0).sum());
        let found: Vec<Result<Vec<Alike>>> = groups
            .into_par_iter()
            .map(|group| {
                let (size, files) = (files[group.start].0, &files[group]);
                let found = alike(tree, size, files);
                progress.advance(size * files.len() as u64);
                found
            })
            .collect();
        let mut alike = Vec::new();
        for group in found {
            alike.append(&mut group?);
        }
        alike.sort_unstable();
        Ok(Duplicates { alike })
    }

    /// Return the representative of the files that are identical to `node`, which may be `node`
    /// itself.
    pub fn representative(&self, node: NodeId) -> NodeId {
        match self.alike.binary_search_by_key(&node, |alike| alike.node) {
            Ok(index) => self.alike[index].representative,
            Err(_) => node,
        }
    }
}

/// Return the runs of two or more items of `sorted` with the same key.
fn several<T, K: PartialEq>(sorted: &[T], key: impl Fn(&T) -> K) -> Vec<Range<usize>> {
    let mut stretches = Vec::new();
    let mut start = 0;
    while start < sorted.len() {
        let same = sorted[start..]
            .iter()
            .take_while(|item| key(item) == key(&sorted[start]));
        let end = start + same.count();
        if end - start > 1 {
            stretches.push(start..end);
        }
        start = end;
    }
    stretches
}

/// Find identical files among `files`, which all have `size` bytes: each with its representative.
fn alike(tree: &Tree, size: u64, files: &[(u64, NodeId)]) -> Result<Vec<Alike>> {
    let mut hashes = files
        .par_iter()
        .map(|&(_, node)| {
            let mut buffer = [0; BEGINNING as usize];
            let beginning = &mut buffer[..size.min(BEGINNING) as usize];
            Source::beginning(tree, node, beginning)?;
            Ok((xxh3_128(beginning), node))
        })
        .collect::<Result<Vec<_>>>()?;
    hashes.sort_unstable();
    let mut found = Vec::new();
    for group in several(&hashes, |file| file.0) {
        if size <= BEGINNING {
            same_bytes(tree, size, &hashes[group], &mut found)?;
            continue;
        }
        let mut hashes = hashes[group]
            .par_iter()
            .map(|&(_, node)| Ok((hash(tree, node)?, node)))
            .collect::<Result<Vec<_>>>()?;
        hashes.sort_unstable();
        for group in several(&hashes, |file| file.0) {
            same_bytes(tree, size, &hashes[group], &mut found)?;
        }
    }
    Ok(found)
}

/// Add the files among `files`, which have the same fingerprint, that are identical to `found`.
fn same_bytes(
    tree: &Tree,
    size: u64,
    files: &[(Fingerprint, NodeId)],
    found: &mut Vec<Alike>,
) -> Result<()> {
    // Files with other content; there is hardly ever a second one.
    let mut different: Vec<NodeId> = Vec::new();
    'files: for &(_, node) in files {
        for &representative in &different {
            if equal(tree, size, representative, node)? {
                found.push(Alike {
                    node,
                    representative,
                });
                continue 'files;
            }
        }
        different.push(node);
        found.push(Alike {
            node,
            representative: node,
        });
    }
    Ok(())
}

/// Return the fingerprint of `node`.
fn hash(tree: &Tree, node: NodeId) -> Result<Fingerprint> {
    let mut hash = Xxh3::new();
    Source::stream(tree, node, |bytes| hash.update(bytes))?;
    Ok(hash.digest128())
}

/// Compare two files of `size` bytes. Return true if they are identical.
fn equal(tree: &Tree, size: u64, a: NodeId, b: NodeId) -> Result<bool> {
    let (a, b) = (Source::open(tree, a)?, Source::open(tree, b)?);
    let length = size.min(BUFFER as u64) as usize;
    let (mut left, mut right) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    while at < size {
        // Both have a hole: there is nothing to compare.
        let ((hole_a, until_a), (hole_b, until_b)) = (a.stretch(at)?, b.stretch(at)?);
        if hole_a && hole_b {
            at = until_a.min(until_b);
            continue;
        }
        let length = (size - at).min(BUFFER as u64) as usize;
        a.fill(at, &mut left[..length])?;
        b.fill(at, &mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
        at += length as u64;
    }
    a.finish()?;
    b.finish()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flat;

    fn tree_of(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let tree = flat::tree(directory.path());
        (directory, tree)
    }

    /// Return the node of the file `name`.
    fn node(tree: &Tree, name: &str) -> NodeId {
        let found = (0..).zip(&tree.nodes);
        let mut found = found.filter(|(_, node)| tree.name(&node.name) == name.as_bytes());
        found.next().unwrap().0
    }

    /// A hash is a hint: files with the same hash but other bytes stay apart.
    #[test]
    fn equal_hashes_are_not_enough() {
        let (a, b) = ([1; 10_000], [2; 10_000]);
        let (_directory, tree) = tree_of(&[("a", &a), ("b", &b), ("c", &a), ("d", &b)]);
        let mut files: Vec<_> = (1..5).map(|node| (7, node)).collect();
        let mut found = Vec::new();
        same_bytes(&tree, 10_000, &files, &mut found).unwrap();
        let same = |one, other| {
            let of = |name| found.iter().find(|file| file.node == node(&tree, name));
            of(one).unwrap().representative == of(other).unwrap().representative
        };
        assert!(same("a", "c") && same("b", "d") && !same("a", "b"));
        // A file that is identical to no other is its own representative.
        files.truncate(1);
        found.clear();
        same_bytes(&tree, 10_000, &files, &mut found).unwrap();
        assert_eq!(found[0].representative, found[0].node);
    }
}
