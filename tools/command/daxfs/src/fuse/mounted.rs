// SPDX-License-Identifier: GPL-2.0-only

//! The mount of a session: unmounts that one, and never another at the same place.

use daxfs_load::mountinfo::mount_id;
use daxfs_load::unmount::detach;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// A mount of this process.
pub struct Mounted {
    path: PathBuf,
    id: u64,
}

impl Mounted {
    /// Record the new mount at `path`, which is absolute and leads through no symlinks.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        let id = mount_id(&path)?;
        Ok(Mounted { path, id })
    }

    /// Unmount it, unless it is gone already.
    ///
    /// Fail if it is in use, or if something else is mounted over it.
    pub fn unmount(&self) -> io::Result<()> {
        if mount_id(&self.path)? != self.id {
            return Err(Errno::BUSY.into());
        }
        detach(&self.path)
    }
}
