// SPDX-License-Identifier: GPL-2.0-only

//! Identities of files.

use rustix::fs::Stat;

/// `st_dev` and `st_ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number of the filesystem.
    pub dev: u64,
    /// Inode number in that filesystem.
    pub ino: u64,
}

/// The state of a file when it was found, to notice when another file replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Its identity.
    pub identity: Identity,
    /// Its modification time in nanoseconds.
    mtime: i64,
    /// The time of the last change to its inode.
    ctime: i64,
}

impl Seen {
    /// Returns the state in a `stat` structure.
    pub fn new(stat: &Stat) -> Self {
        let time = |seconds: i64, rest| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Seen {
            identity: identity(stat),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// Returns true if `now` is the same file, modified or not.
    ///
    /// Some filesystems renumber a file that the kernel has forgotten: overlayfs directories, FUSE
    /// and FAT all files. Then the ctime decides: the kernel sets it when a file is created or
    /// renamed, and programs cannot set it.
    pub fn is(&self, now: &Self) -> bool {
        self.identity == now.identity || self.ctime == now.ctime
    }

    /// Returns true if the content has changed by the time of `now`.
    pub fn modified(&self, now: &Self) -> bool {
        self.mtime != now.mtime
    }
}

/// Returns the identity in a `stat` structure.
pub fn identity(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

/// Returns the modification time in a `stat` structure.
pub fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, stat.st_mtime_nsec as u32)
}
