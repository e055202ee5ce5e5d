// SPDX-License-Identifier: GPL-2.0-only

//! Identities of files and nodes.

use rustix::fs::Stat;

/// Index of a node in [`crate::tree::Tree::nodes`].
pub type NodeId = u32;

/// `st_dev` and `st_ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number in it.
    pub ino: u64,
}

/// Return the identity in a `stat` structure.
pub fn identity(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

/// Return the modification time in a `stat` structure.
pub fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, stat.st_mtime_nsec as u32)
}
