// SPDX-License-Identifier: GPL-2.0-only

//! Origins of a tree: where its files' content is stored.

use crate::writer::directory::Directory;
use daxfs_files::{identity, mtime, Error, Identity, Result};
use rustix::fs::{fstat, FileType, Stat};
use rustix::process::geteuid;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Index of a node in a tree's nodes.
pub type NodeId = u32;

/// A directory, an archive or an image from which files' content is read.
pub struct Origin {
    /// The path as the user wrote it.
    path: PathBuf,
    /// Original paths of nodes that moved within the tree.
    moved: HashMap<NodeId, PathBuf>,
    /// Where the bytes are.
    pub bytes: Arc<Bytes>,
}

/// Where an origin's bytes are.
pub enum Bytes {
    /// In files below a directory, at the paths of their nodes.
    Directory(Directory),
    /// All in one file.
    File(Container),
    /// Nowhere.
    Nothing,
}

/// A file with the content of many files.
pub struct Container {
    /// The file.
    pub file: File,
    /// Pieces of sparse files; one file's pieces are adjacent.
    pub pieces: Vec<Piece>,
    /// Whether the file may have holes.
    pub sparse: bool,
    /// Whether other users may write to it.
    shared: bool,
    /// State when it was opened, if other processes may write to it.
    stamp: Option<Stamp>,
}

/// Contiguous bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Their offset in the file.
    pub at: u64,
    /// Their number, at least one.
    pub length: u64,
    /// Their place in the container.
    pub offset: u64,
}

/// Values that change when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    size: i64,
    mtime: (i64, u32),
}

impl Origin {
    /// Creates an origin for the directory at `path`, see [`Directory::open`].
    pub fn directory(path: &Path, follow: bool) -> Result<Self> {
        let directory = Directory::open(path, follow)?;
        Ok(Self::new(path, Bytes::Directory(directory)))
    }

    fn new(path: &Path, bytes: Bytes) -> Self {
        Origin {
            path: path.into(),
            moved: HashMap::new(),
            bytes: Arc::new(bytes),
        }
    }

    /// Creates an origin without content.
    pub fn nothing(path: &Path) -> Self {
        Self::new(path, Bytes::Nothing)
    }

    /// Creates an origin whose content is in `container`. `path` is its name for messages.
    pub fn file(path: &Path, container: Container) -> Self {
        Self::new(path, Bytes::File(container))
    }

    /// Returns the path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that `node` moved from `path` to another place in the tree.
    pub fn moved(&mut self, node: NodeId, path: PathBuf) {
        self.moved.insert(node, path);
    }

    /// Adds `base` to all node numbers.
    pub(crate) fn renumber(mut self, base: NodeId) -> Self {
        let moved = self.moved.into_iter();
        self.moved = moved.map(|(node, path)| (node + base, path)).collect();
        self
    }

    /// Returns the path of `node` before it moved, if it did.
    pub fn original(&self, node: NodeId) -> Option<&Path> {
        self.moved.get(&node).map(PathBuf::as_path)
    }

    /// Returns an origin with the same content, for another tree in which no node moved.
    pub fn share(&self) -> Self {
        Origin {
            path: self.path.clone(),
            moved: HashMap::new(),
            bytes: Arc::clone(&self.bytes),
        }
    }

    /// Returns whether others may write to the content, so that it may change unnoticed during a
    /// read.
    pub fn may_change(&self) -> bool {
        match &*self.bytes {
            Bytes::Directory(_) => true,
            Bytes::File(container) => container.shared,
            Bytes::Nothing => false,
        }
    }

    /// Returns the name of the file at `relative` for messages.
    pub fn show(&self, relative: &Path) -> PathBuf {
        if relative.as_os_str().is_empty() {
            return self.path.clone();
        }
        match &*self.bytes {
            Bytes::Directory(_) => self.path.join(relative),
            Bytes::File(_) | Bytes::Nothing => {
                let mut text = self.path.clone().into_os_string();
                text.push(":");
                text.push(relative);
                text.into()
            }
        }
    }
}

impl Container {
    /// Creates a container from a nameless file.
    pub fn private(file: File) -> Self {
        Container {
            file,
            pieces: Vec::new(),
            sparse: false,
            shared: false,
            stamp: None,
        }
    }

    /// Creates a container from the file `path`.
    pub fn public(file: File, path: &Path) -> Result<Self> {
        let stat = fstat(&file).map_err(|error| Error::io(path, "examine", error))?;
        let stamp = Some(Stamp::of(&stat));
        let sparse = stat.st_blocks < stat.st_size / 512;
        let is_own = [geteuid().as_raw(), 0].contains(&stat.st_uid);
        Ok(Container {
            sparse,
            shared: !is_own || stat.st_mode & 0o022 != 0,
            stamp,
            ..Self::private(file)
        })
    }

    /// Checks that the file is unchanged.
    pub fn check(&self, path: &Path) -> Result<()> {
        let Some(stamp) = &self.stamp else {
            return Ok(());
        };
        let stat = fstat(&self.file).map_err(|error| Error::io(path, "examine", error))?;
        if *stamp != Stamp::of(&stat) {
            return Err(Error::changed(path, "it was modified"));
        }
        Ok(())
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        // A device's times belong to its node, and change with every write to the device.
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        Stamp {
            identity: identity(stat),
            size: stat.st_size,
            mtime: if device { (0, 0) } else { mtime(stat) },
        }
    }
}
