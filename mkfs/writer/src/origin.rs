// SPDX-License-Identifier: GPL-2.0

//! What a tree was read from, as far as the content of its files is concerned.

use crate::directory::Directory;
use crate::tree::{identity, mtime, Identity, NodeId};
use crate::{Error, Result};
use rustix::fs::{fstat, FileType, Stat};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A directory, an archive or an image, of which the content of files is yet to be read.
pub struct Origin {
    /// As the user wrote it.
    path: PathBuf,
    /// Where the bytes are.
    pub bytes: Bytes,
}

/// Where an origin has its bytes.
pub enum Bytes {
    /// In files below a directory, under the paths of their nodes.
    Directory {
        /// The directory.
        directory: Directory,
        /// Paths of nodes that are elsewhere in the tree than in the directory.
        moved: HashMap<NodeId, PathBuf>,
    },
    /// All in one file.
    File(Container),
    /// Nowhere.
    Nothing,
}

/// A file with the content of many.
pub struct Container {
    /// The file.
    pub file: File,
    /// The pieces of sparse files in it, those of one file side by side.
    pub pieces: Vec<Piece>,
    /// Whether the file may have holes.
    pub sparse: bool,
    /// How it was when it was opened, if somebody else may write to it.
    stamp: Option<Stamp>,
}

/// Bytes of a file that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Their offset in the file.
    pub at: u64,
    /// How many there are: one at least.
    pub length: u64,
    /// Where they are in the container.
    pub offset: u64,
}

/// What changes when a file is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    size: i64,
    mtime: (i64, u32),
}

impl Origin {
    /// The directory at `path`.
    pub fn directory(path: &Path) -> Result<Self> {
        Ok(Origin {
            path: path.into(),
            bytes: Bytes::Directory {
                directory: Directory::open(path)?,
                moved: HashMap::new(),
            },
        })
    }

    /// What has no content.
    pub fn nothing(path: &Path) -> Self {
        Origin {
            path: path.into(),
            bytes: Bytes::Nothing,
        }
    }

    /// What is in `container`; `path` is how the user knows it.
    pub fn file(path: &Path, container: Container) -> Self {
        Origin {
            path: path.into(),
            bytes: Bytes::File(container),
        }
    }

    /// The same once more, but a directory without its paths.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let bytes = match &self.bytes {
            Bytes::File(container) => Bytes::File(Container {
                file: container.file.try_clone()?,
                pieces: container.pieces.clone(),
                sparse: container.sparse,
                stamp: container.stamp,
            }),
            Bytes::Directory { .. } | Bytes::Nothing => Bytes::Nothing,
        };
        Ok(Origin {
            path: self.path.clone(),
            bytes,
        })
    }

    /// As the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that `node` has moved from `path` to elsewhere in the tree.
    pub fn moved(&mut self, node: NodeId, path: PathBuf) {
        if let Bytes::Directory { moved, .. } = &mut self.bytes {
            moved.insert(node, path);
        }
    }

    /// How to call what is at `relative` in messages.
    pub fn show(&self, relative: &Path) -> PathBuf {
        if relative.as_os_str().is_empty() {
            return self.path.clone();
        }
        match self.bytes {
            Bytes::Directory { .. } => self.path.join(relative),
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
    /// A file that nobody else knows.
    pub fn private(file: File) -> Self {
        Container {
            file,
            pieces: Vec::new(),
            sparse: false,
            stamp: None,
        }
    }

    /// A file of the user's, called `path`.
    pub fn public(file: File, path: &Path) -> Result<Self> {
        let stat = fstat(&file).map_err(|error| Error::io(path, "examine", error))?;
        let stamp = Some(Stamp::of(&stat));
        let sparse = stat.st_blocks < stat.st_size / 512;
        Ok(Container {
            file,
            pieces: Vec::new(),
            sparse,
            stamp,
        })
    }

    /// Makes sure that nobody wrote to the file meanwhile.
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
        // The times of a device are those of its node, and change whenever it is written.
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        Stamp {
            identity: identity(stat),
            size: stat.st_size,
            mtime: if device { (0, 0) } else { mtime(stat) },
        }
    }
}
