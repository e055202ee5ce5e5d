// SPDX-License-Identifier: GPL-2.0-only

//! The content of a regular file.

use crate::writer::origin::{Bytes, Container, Piece};
use crate::writer::tree::{Kind, Location, NodeId, Tree};
use daxfs_files::memory::data_or_hole;
use daxfs_files::{Error, Result, Seen};
use rustix::fs::{fstat, OFlags, Stat};
use rustix::io::{pread, Errno};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Size of a block of [`OpenFile::blocks`].
const BLOCK: u64 = 64 << 10;

/// A regular file of a tree, open for reading.
pub struct OpenFile<'a> {
    tree: &'a Tree,
    node: NodeId,
    size: u64,
    bytes: Open<'a>,
    /// Last result of [`OpenFile::stretch`]: whether it is a hole, the requested offset, and its
    /// end. Finding the end of data is slow on some filesystems.
    found: Cell<(bool, u64, u64)>,
}

/// Where the bytes are.
enum Open<'a> {
    /// In a separate file.
    File {
        fd: OwnedFd,
        seen: Seen,
        /// Whether it may have holes.
        sparse: bool,
    },
    /// In one piece of a container.
    Part(&'a Container, u64),
    /// In several pieces of a container.
    Pieces(&'a Container, &'a [Piece]),
}

impl<'a> OpenFile<'a> {
    /// Opens the content of `node`, a regular file.
    ///
    /// Returns [`Error::Io`], or [`Error::Changed`] if it does not match the tree.
    pub fn open(tree: &'a Tree, node: NodeId) -> Result<Self> {
        let mut file = Self::unexamined(tree, node)?;
        if let Some(stat) = file.stat()? {
            let holes = (stat.st_blocks as u64) < file.size / 512;
            if let Open::File { sparse, .. } = &mut file.bytes {
                *sparse = holes;
            }
        }
        Ok(file)
    }

    /// Reads the start of `node` without checking the file against the tree.
    pub fn beginning(tree: &'a Tree, node: NodeId, into: &mut [u8]) -> Result<()> {
        Self::unexamined(tree, node)?.fill(0, into)
    }

    /// Reads all of `node` with few system calls, and checks the file against the tree. `into` has
    /// room for one more byte than the file.
    pub fn whole(tree: &'a Tree, node: NodeId, into: &mut [u8]) -> Result<()> {
        let file = Self::unexamined(tree, node)?;
        let Open::File { fd, .. } = &file.bytes else {
            file.fill(0, &mut into[..file.size as usize])?;
            return file.finish();
        };
        let read = loop {
            match pread(fd, &mut *into, 0) {
                Err(Errno::INTR) => (),
                read => break read.map_err(|error| file.error("read the file", error))?,
            }
        };
        // If the file changed, report how.
        file.stat()?;
        if read as u64 != file.size {
            file.fill(0, &mut into[..file.size as usize])?;
            return file.finish();
        }
        Ok(())
    }

    /// Passes the content of `node` to `sink`, in blocks of 64 KiB with their offsets, and checks
    /// the file against the tree. `skip` leaves out blocks in holes. `buffer` is reusable.
    pub fn blocks(
        tree: &'a Tree,
        node: NodeId,
        skip: bool,
        buffer: &mut Vec<u8>,
        mut sink: impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        let file = Self::open(tree, node)?;
        let needed = file.size.min(BLOCK) as usize;
        if buffer.len() < needed {
            buffer.resize(needed, 0);
        }
        let mut at = 0;
        while at < file.size {
            let (hole, until) = file.stretch(at)?;
            if skip && hole && until - at >= BLOCK {
                at = until - until % BLOCK;
                continue;
            }
            let block = &mut buffer[..(file.size - at).min(BLOCK) as usize];
            file.fill(at, block)?;
            sink(at, block);
            at += block.len() as u64;
        }
        file.finish()
    }

    /// Returns true if this is the content of `node`.
    pub fn is(&self, node: NodeId) -> bool {
        self.node == node
    }

    /// Opens the content of `node` without checking the file against the tree.
    fn unexamined(tree: &'a Tree, node: NodeId) -> Result<Self> {
        let Kind::Regular { size, location } = tree.node(node).kind else {
            return Err(Error::changed(&tree.path(node), "no longer a regular file"));
        };
        let origin = &tree.origins[tree.node(node).origin as usize];
        let bytes = match (&*origin.bytes, location) {
            (Bytes::Directory(directory), Location::File(seen)) => {
                // If a FIFO replaced the file, do not wait for a writer.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                let opened = directory.open_below(&tree.original_path(node), flags);
                let fd = opened.map_err(|error| match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO => {
                        Error::changed(&tree.path(node), "removed or replaced")
                    }
                    error => Error::io(&tree.path(node), "open the file", error),
                })?;
                Open::File {
                    fd,
                    seen,
                    sparse: false,
                }
            }
            (Bytes::File(container), Location::Part(offset)) => Open::Part(container, offset),
            (Bytes::File(container), Location::Pieces { first, count }) => {
                Open::Pieces(container, &container.pieces[first..first + count])
            }
            _ => return Err(Error::changed(&tree.path(node), "removed or replaced")),
        };
        Ok(OpenFile {
            tree,
            node,
            size,
            bytes,
            found: Cell::new((false, 0, 0)),
        })
    }

    fn path(&self) -> PathBuf {
        self.tree.path(self.node)
    }

    fn error(&self, operation: &'static str, error: Errno) -> Error {
        Error::io(&self.path(), operation, error)
    }

    /// Checks that a separate file is unchanged since the tree was read.
    fn stat(&self) -> Result<Option<Stat>> {
        let (fd, seen) = match &self.bytes {
            Open::File { fd, seen, .. } => (fd, seen),
            Open::Part(..) | Open::Pieces(..) => return Ok(None),
        };
        let stat = fstat(fd).map_err(|error| self.error("examine", error))?;
        let now = Seen::new(&stat);
        if !seen.is(&now) {
            return Err(Error::changed(&self.path(), "another file took its place"));
        }
        if stat.st_size as u64 != self.size {
            let how = format!("size {}, then {}", self.size, stat.st_size);
            return Err(Error::changed(&self.path(), how));
        }
        if seen.modified(&now) {
            return Err(Error::changed(&self.path(), "it was modified"));
        }
        Ok(Some(stat))
    }

    /// Finds the extent at offset `at` in the file. Returns whether it is a hole, and its end, at
    /// most the end of the file. An extent's data is contiguous in its container, see
    /// [`OpenFile::file_at`].
    pub fn stretch(&self, at: u64) -> Result<(bool, u64)> {
        let (hole, from, until) = self.found.get();
        if (from..until).contains(&at) {
            return Ok((hole, until));
        }
        let (hole, until) = self.find_stretch(at)?;
        self.found.set((hole, at, until));
        Ok((hole, until))
    }

    fn find_stretch(&self, at: u64) -> Result<(bool, u64)> {
        match &self.bytes {
            Open::File { sparse: false, .. } => Ok((false, self.size)),
            Open::File { fd, .. } => data_or_hole(fd, at, self.size)
                .map_err(|error| self.error("find the holes of the file", error)),
            Open::Part(container, _) if !container.sparse => Ok((false, self.size)),
            Open::Part(container, offset) => {
                let found = data_or_hole(&container.file, offset + at, offset + self.size);
                found
                    .map(|(hole, until)| (hole, until - offset))
                    .map_err(|error| self.error("find the holes of the file", error))
            }
            Open::Pieces(_, pieces) => {
                let next = pieces.partition_point(|piece| piece.at + piece.length <= at);
                Ok(match pieces.get(next) {
                    Some(piece) if piece.at <= at => (false, piece.at + piece.length),
                    Some(piece) => (true, piece.at),
                    None => (true, self.size),
                })
            }
        }
    }

    /// Returns the descriptor and the offset in it of the data at `at`, which is in no hole.
    fn file_at(&self, at: u64) -> (BorrowedFd<'_>, u64) {
        match &self.bytes {
            Open::File { fd, .. } => (fd.as_fd(), at),
            Open::Part(container, offset) => (container.file.as_fd(), offset + at),
            Open::Pieces(container, pieces) => {
                let next = pieces.partition_point(|piece| piece.at + piece.length <= at);
                let offset = pieces
                    .get(next)
                    .map_or(0, |piece| piece.offset + (at - piece.at));
                (container.file.as_fd(), offset)
            }
        }
    }

    /// Reads at least one byte at `at`; `into` is not longer than the stretch of data there.
    ///
    /// Returns [`Error::Io`], or [`Error::Changed`] if the file ends there.
    pub fn read(&self, into: &mut [u8], at: u64) -> Result<usize> {
        let (fd, offset) = self.file_at(at);
        loop {
            match pread(fd, &mut *into, offset) {
                Ok(0) => {
                    let how = format!("size {}, then {at}", self.size);
                    return Err(Error::changed(&self.path(), how));
                }
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => (),
                Err(error) => return Err(self.error("read the file", error)),
            }
        }
    }

    /// Fills `into` from `at`, within the file.
    pub fn fill(&self, mut at: u64, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let (hole, until) = self.stretch(at)?;
            let length = (until - at).min(into.len() as u64) as usize;
            let length = if hole {
                into[..length].fill(0);
                length
            } else {
                self.read(&mut into[..length], at)?
            };
            into = &mut into[length..];
            at += length as u64;
        }
        Ok(())
    }

    /// Checks that the file is unchanged and ends at its size.
    pub fn finish(&self) -> Result<()> {
        let fd = match &self.bytes {
            Open::File { fd, .. } => fd,
            Open::Part(container, _) | Open::Pieces(container, _) => {
                let origin = &self.tree.origins[self.tree.node(self.node).origin as usize];
                return container.check(origin.path());
            }
        };
        match pread(fd, &mut [0; 1][..], self.size) {
            Ok(0) => self.stat().map(drop),
            Ok(_) => self.stat().and_then(|_| {
                let why = format!("continues after its size of {}, as files in /proc do; leave it out, or copy it to an ordinary file", self.size);
                Err(Error::refused(&self.path(), why))
            }),
            Err(error) => Err(self.error("read the file", error)),
        }
    }
}
