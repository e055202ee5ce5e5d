// SPDX-License-Identifier: GPL-2.0

//! Copies the content of the tree's files into the image.

use crate::duplicates::Duplicates;
use crate::memory::ZEROS;
use crate::plan::{DataExtent, Plan};
use crate::source::Source;
use crate::tree::{Kind, Tree};
use crate::{Error, Progress, Result};
use rustix::fs::{copy_file_range, fstatfs};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::{xxh3_128, Xxh3};

/// Bytes that are written together.
const BUFFER: usize = 1 << 20;

/// Files that are read at once, smaller than [`BUFFER`].
const SMALL: u64 = 128 << 10;

/// Stretches of data that are long enough for the kernel to copy them.
const LONG: u64 = 1 << 20;

/// A worker takes neighbouring files of about so many bytes at a time,
const BATCH_BYTES: u64 = 8 << 20;
/// or so many files.
const BATCH_FILES: usize = 256;

/// What tells the content of one file from another's: XXH3 of its bytes, 128 bits.
pub type Fingerprint = u128;

/// Copies every file of `plan` to its place in `image`, which is called `path`, and returns the fingerprint of
/// each, by node; 0 for what has no data.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Changed`] for the first file that cannot be had as the tree describes it.
pub fn copy(
    tree: &Tree,
    plan: &Plan,
    duplicates: &Duplicates,
    image: &File,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Fingerprint>> {
    let batches = batches(&plan.extents);
    let next = AtomicUsize::new(0);
    let target = Target {
        image,
        path,
        turn: Mutex::new(()),
    };
    let work = || {
        let mut copier = Copier::new(tree, &target, progress, plan.block_size);
        let mut done = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            for index in batch.clone() {
                match copier.file(&plan.extents[index]) {
                    Ok(fingerprint) => done.push((index, fingerprint)),
                    Err(error) => {
                        // Nobody needs to go on.
                        next.store(batches.len(), Ordering::Relaxed);
                        return Err((index, error));
                    }
                }
            }
            // What lies between this batch and the next that comes here may be another worker's.
            if let Err(error) = copier.flush() {
                next.store(batches.len(), Ordering::Relaxed);
                return Err((usize::MAX, error));
            }
        }
        Ok(done)
    };

    let results = rayon::broadcast(|_| work());

    let mut fingerprints = vec![0; tree.nodes.len()];
    let mut first: Option<(usize, Error)> = None;
    for result in results {
        match result {
            Ok(done) => {
                for (index, fingerprint) in done {
                    fingerprints[plan.extents[index].node as usize] = fingerprint;
                }
            }
            Err((index, error)) => {
                if first.as_ref().is_none_or(|(other, _)| index < *other) {
                    first = Some((index, error));
                }
            }
        }
    }
    if let Some((_, error)) = first {
        return Err(error);
    }
    for alike in duplicates.alike() {
        let known = &mut fingerprints[alike.node as usize];
        if *known != 0 && *known != alike.fingerprint {
            return Err(Error::changed(&tree.path(alike.node), "it was modified"));
        }
        *known = alike.fingerprint;
    }
    Ok(fingerprints)
}

/// Whether the file system of `image` can have the same blocks in several files, or copies them on a server. On any
/// other the kernel copies no faster than we do, since all content has to be read for its fingerprint anyway.
fn clones(image: &File) -> bool {
    const BTRFS: u64 = 0x9123_683e;
    const XFS: u64 = 0x5846_5342;
    const BCACHEFS: u64 = 0xca45_1a4e;
    const OCFS2: u64 = 0x7461_636f;
    const NFS: u64 = 0x6969;
    const SMB2: u64 = 0xfe53_4d42;
    let known = [BTRFS, XFS, BCACHEFS, OCFS2, NFS, SMB2];
    fstatfs(image).is_ok_and(|found| known.contains(&(found.f_type as u64)))
}

/// Splits the files among the workers.
fn batches(extents: &[DataExtent]) -> Vec<std::ops::Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, extent) in extents.iter().enumerate() {
        bytes += extent.size;
        if bytes >= BATCH_BYTES || index - start >= BATCH_FILES {
            batches.push(start..index + 1);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < extents.len() {
        batches.push(start..extents.len());
    }
    batches
}

/// The image, as far as the workers have it in common.
struct Target<'a> {
    image: &'a File,
    path: &'a Path,
    /// The system lets nobody write to a file while another does, and those that come meanwhile waste their time.
    turn: Mutex<()>,
}

impl Target<'_> {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.image
            .write_all_at(bytes, offset)
            .map_err(|error| Error::output(self.path, "write the image", error))
    }
}

/// Reads files into a buffer that is written when it is full or when the next byte belongs elsewhere.
struct Copier<'a> {
    tree: &'a Tree,
    target: &'a Target<'a>,
    progress: &'a dyn Progress,
    block: u64,
    /// Whether the image is where the kernel copies without moving bytes.
    clones: bool,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    start: u64,
    /// Bytes in the buffer.
    filled: usize,
}

impl<'a> Copier<'a> {
    fn new(tree: &'a Tree, target: &'a Target<'a>, progress: &'a dyn Progress, block: u32) -> Self {
        Copier {
            tree,
            target,
            progress,
            block: block.into(),
            clones: clones(target.image),
            buffer: vec![0; BUFFER],
            start: 0,
            filled: 0,
        }
    }

    /// Writes the buffer.
    fn flush(&mut self) -> Result<()> {
        self.target.write(&self.buffer[..self.filled], self.start)?;
        self.start += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Makes `offset` the place of the next byte. What lies between is zero.
    fn seek(&mut self, offset: u64) -> Result<()> {
        let gap = offset.wrapping_sub(self.start + self.filled as u64);
        let room = (self.buffer.len() - self.filled) as u64;
        // Within a batch a gap in front of the next extent is empty. One of a block may be a hole of the image file.
        if self.filled > 0 && gap < self.block && gap <= room {
            let end = self.filled + gap as usize;
            self.buffer[self.filled..end].fill(0);
            self.filled = end;
        } else {
            self.flush()?;
            self.start = offset;
        }
        Ok(())
    }

    /// Has the kernel copy the data of `source` from `at` to `until`, and returns how many bytes it has copied.
    fn kernel_copy(&self, source: &Source<'_>, at: u64, until: u64, offset: u64) -> u64 {
        let (fd, from) = source.place(at);
        let mut done = 0;
        while done < until - at {
            let (mut from, mut to) = (from + done, offset + done);
            let length = usize::try_from(until - at - done).unwrap_or(usize::MAX);
            let range = copy_file_range(
                fd,
                Some(&mut from),
                self.target.image,
                Some(&mut to),
                length,
            );
            match range {
                Ok(0) => break,
                Ok(length) => done += length as u64,
                Err(Errno::INTR) => (),
                // Whatever is wrong, copying the other way shows it too, or works.
                Err(_) => break,
            }
        }
        done
    }

    /// Copies a file that is [`SMALL`].
    fn small(&mut self, extent: &DataExtent) -> Result<Fingerprint> {
        self.seek(extent.offset)?;
        let size = extent.size as usize;
        if self.buffer.len() - self.filled <= size {
            self.flush()?;
        }
        let room = &mut self.buffer[self.filled..self.filled + size + 1];
        Source::whole(self.tree, extent.node, room)?;
        self.filled += size;
        self.progress.advance(extent.size);
        Ok(xxh3_128(&room[..size]))
    }

    /// Copies one file.
    fn file(&mut self, extent: &DataExtent) -> Result<Fingerprint> {
        if extent.size <= SMALL {
            return self.small(extent);
        }
        let source = Source::open(self.tree, extent.node)?;
        let mut hash = Xxh3::new();
        let mut at = 0;
        let (mut hole, mut until) = (false, 0);
        // Up to here the kernel has copied the data already.
        let mut copied = 0;
        while at < extent.size {
            if at == until {
                (hole, until) = source.stretch(at)?;
                if self.clones && !hole && until - at >= LONG {
                    self.flush()?;
                    copied = at + self.kernel_copy(&source, at, until, extent.offset + at);
                }
            }
            let length = if at < copied {
                let length = (copied - at).min(self.buffer.len() as u64) as usize;
                let length = source.read(&mut self.buffer[..length], at)?;
                hash.update(&self.buffer[..length]);
                length as u64
            } else if hole {
                let length = (until - at).min(ZEROS.len() as u64);
                hash.update(&ZEROS[..length as usize]);
                length
            } else {
                self.seek(extent.offset + at)?;
                if self.filled == self.buffer.len() {
                    self.flush()?;
                }
                let room = (self.buffer.len() - self.filled) as u64;
                let end = self.filled + room.min(until - at) as usize;
                let piece = &mut self.buffer[self.filled..end];
                let length = source.read(piece, at)?;
                hash.update(&piece[..length]);
                self.filled += length;
                length as u64
            };
            at += length;
            self.progress.advance(length);
        }
        source.finish()?;
        Ok(hash.digest128())
    }
}

/// Makes sure that the empty files of the tree can be read and are empty, which files in /proc are not.
///
/// # Errors
///
/// As [`copy`].
pub fn check_empty(tree: &Tree) -> Result<()> {
    for (node, id) in tree.nodes.iter().zip(0..) {
        if let Kind::Regular { size: 0, .. } = node.kind {
            Source::open(tree, id)?.finish()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::NodeId;
    use crate::{scan, Silent};

    fn target(image: &File) -> Target<'_> {
        Target {
            image,
            path: Path::new("image"),
            turn: Mutex::new(()),
        }
    }

    /// The kernel's copies and our own make the same image, whatever the file system.
    #[test]
    fn kernel_copies_are_the_same() {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let content: Vec<u8> = (0..5_000_000u32).map(|n| (n / 7) as u8).collect();
        let path = directory.path().join("file");
        std::fs::write(&path, &content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // Data, a hole, and data too short for the kernel.
        file.set_len(9_000_000).unwrap();
        file.write_all_at(b"end", 8_999_997).unwrap();
        let tree = scan::scan(directory.path(), None, |warning| panic!("{warning}")).unwrap();
        let node = (0..tree.nodes.len() as NodeId)
            .find(|&node| matches!(tree.node(node).kind, Kind::Regular { .. }))
            .unwrap();
        let extent = DataExtent {
            offset: 4096,
            size: 9_000_000,
            node,
        };
        let mut made = Vec::new();
        for clones in [false, true] {
            let image = tempfile::tempfile_in(directory.path()).unwrap();
            let target = target(&image);
            let mut copier = Copier::new(&tree, &target, &Silent, 4096);
            copier.clones = clones;
            let fingerprint = copier.file(&extent).unwrap();
            copier.flush().unwrap();
            let mut bytes = vec![0; 4096 + 9_000_000];
            image.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes[4096..4096 + content.len()], content);
            made.push((fingerprint, bytes));
        }
        assert!(made[0] == made[1]);
        // It was the kernel that copied, and it says how much.
        let image = tempfile::tempfile_in(directory.path()).unwrap();
        let target = target(&image);
        let copier = Copier::new(&tree, &target, &Silent, 4096);
        let source = Source::open(&tree, node).unwrap();
        let until = source.stretch(0).unwrap().1;
        let copied = copier.kernel_copy(&source, 0, until, 0);
        assert!(copied == until || copied == 0, "{copied}");
        if copied == 0 {
            println!("SKIP: the kernel copies nothing here");
        }
    }
}
