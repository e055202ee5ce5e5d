// SPDX-License-Identifier: GPL-2.0

//! Finds the files of a tree that have the same content.
//!
//! Only files of one size are looked at: first at their beginnings, then at a hash of all if these agree, and
//! files with the same hash are compared byte by byte. So files that are alike are read three times, and the
//! others hardly ever.

use crate::source::Source;
use crate::tree::{Kind, NodeId, Tree};
use crate::Result;
use daxfs_check::digest::Fingerprint;
use daxfs_check::memory::ZEROS;
use daxfs_check::Progress;
use rayon::prelude::*;
use std::ops::Range;
use xxhash_rust::xxh3::{xxh3_128, Xxh3};

/// Bytes at the beginning of a file that are looked at first.
const BEGINNING: u64 = 4096;

/// Bytes that are read together.
const BUFFER: usize = 64 << 10;

/// A file that is like others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    /// The file.
    node: NodeId,
    /// The one that stands for all that are alike, itself included.
    representative: NodeId,
}

/// Which files of a tree have the same content.
#[derive(Default)]
pub struct Duplicates {
    /// By ascending node.
    alike: Vec<Alike>,
}

impl Duplicates {
    /// Finds the files that are alike in `tree`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) and [`Error::Changed`](crate::Error::Changed) for a file that cannot be
    /// had as the tree describes it.
    pub fn find(tree: &Tree, progress: &dyn Progress) -> Result<Self> {
        let mut files = Vec::new();
        for (node, id) in tree.nodes.iter().zip(0..) {
            if let Kind::Regular { size, .. } = node.kind {
                if size > 0 {
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

    /// The file that stands for all that have the content of `node`; `node` itself if no other has it.
    pub fn representative(&self, node: NodeId) -> NodeId {
        match self.alike.binary_search_by_key(&node, |alike| alike.node) {
            Ok(index) => self.alike[index].representative,
            Err(_) => node,
        }
    }
}

/// The stretches of `sorted` in which several neighbours have the same key.
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

/// Which of the `files`, all of `size` bytes, are alike: each with the one that stands for it.
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
            .map(|&(_, node)| Ok((hash(tree, size, node)?, node)))
            .collect::<Result<Vec<_>>>()?;
        hashes.sort_unstable();
        for group in several(&hashes, |file| file.0) {
            same_bytes(tree, size, &hashes[group], &mut found)?;
        }
    }
    Ok(found)
}

/// Adds to `found` those of the `files`, which have the same fingerprint, that are really alike.
fn same_bytes(
    tree: &Tree,
    size: u64,
    files: &[(Fingerprint, NodeId)],
    found: &mut Vec<Alike>,
) -> Result<()> {
    // Files of different content; a second one is next to impossible.
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

/// The fingerprint of `node`.
fn hash(tree: &Tree, size: u64, node: NodeId) -> Result<Fingerprint> {
    let source = Source::open(tree, node)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < size {
        let (hole, until) = source.stretch(at)?;
        while at < until {
            let length = (until - at).min(BUFFER as u64) as usize;
            if hole {
                hash.update(&ZEROS[..length.min(ZEROS.len())]);
                at += length.min(ZEROS.len()) as u64;
            } else {
                let length = source.read(&mut buffer[..length], at)?;
                hash.update(&buffer[..length]);
                at += length as u64;
            }
        }
    }
    Ok(hash.digest128())
}

/// Whether two files of `size` bytes are the same, byte by byte.
fn equal(tree: &Tree, size: u64, a: NodeId, b: NodeId) -> Result<bool> {
    let (a, b) = (Source::open(tree, a)?, Source::open(tree, b)?);
    let length = size.min(BUFFER as u64) as usize;
    let (mut left, mut right) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    while at < size {
        // Where both have a hole there is nothing to compare.
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

    /// The node of the file `name`.
    fn node(tree: &Tree, name: &str) -> NodeId {
        let found = (0..).zip(&tree.nodes);
        let mut found = found.filter(|(_, node)| tree.name(&node.name) == name.as_bytes());
        found.next().unwrap().0
    }

    /// A hash is a hint: files that have the same by accident stay apart.
    #[test]
    fn equal_hashes_are_not_enough() {
        let (a, b) = ([1; 10_000], [2; 10_000]);
        let (_directory, tree) = tree_of(&[("a", &a), ("b", &b), ("c", &a), ("d", &b)]);
        let mut files: Vec<_> = (1..5).map(|node| (7, node)).collect();
        let mut found = Vec::new();
        same_bytes(&tree, 10_000, &files, &mut found).unwrap();
        let same = |one, other| {
            let of = |name| found.iter().find(|alike| alike.node == node(&tree, name));
            of(one).unwrap().representative == of(other).unwrap().representative
        };
        assert!(same("a", "c") && same("b", "d") && !same("a", "b"));
        // A file like none is no problem.
        files.truncate(1);
        found.clear();
        same_bytes(&tree, 10_000, &files, &mut found).unwrap();
        assert_eq!(found[0].representative, found[0].node);
    }
}
