// SPDX-License-Identifier: GPL-2.0-only

//! A place in a directory tree on disk, reached without a path: no symlink is ever followed, and
//! directories may be of any depth.

use rustix::fs::{
    chmodat, fstat, mkdirat, openat, statat, unlinkat, AtFlags, Dir, FileType, Mode, OFlags,
};
use rustix::io::{Errno, Result};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// How directories are opened.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Device and inode number.
type Identity = (u64, u64);

/// An open directory below a root. No other is kept open; those above are remembered by what they
/// are.
pub struct Cursor {
    here: OwnedFd,
    above: Vec<Identity>,
}

fn identity(directory: &OwnedFd) -> Result<Identity> {
    let status = fstat(directory)?;
    Ok((status.st_dev, status.st_ino))
}

impl Cursor {
    /// Start at the root `root`.
    pub fn new(root: OwnedFd) -> Self {
        Cursor {
            here: root,
            above: Vec::new(),
        }
    }

    /// Return the directory.
    pub fn here(&self) -> &OwnedFd {
        &self.here
    }

    /// Make the directory `name`, for its owner alone, and enter it.
    pub fn make(&mut self, name: &[u8]) -> Result<()> {
        mkdirat(&self.here, name, Mode::RWXU)?;
        self.enter(name)
    }

    /// Enter the directory `name`.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let inner = openat(&self.here, name, DIRECTORY, Mode::empty())?;
        self.above.push(identity(&self.here)?);
        self.here = inner;
        Ok(())
    }

    /// Go back up, and return the directory that was left; `ESTALE` if it was moved.
    pub fn leave(&mut self) -> Result<OwnedFd> {
        let outer = openat(&self.here, "..", DIRECTORY, Mode::empty())?;
        if self.above.pop() != Some(identity(&outer)?) {
            return Err(Errno::STALE);
        }
        Ok(std::mem::replace(&mut self.here, outer))
    }

    /// Remove all that is in the directory.
    pub fn clear(&mut self) -> Result<()> {
        let depth = self.above.len();
        // The names of the directories that are being cleared.
        let mut names: Vec<CString> = Vec::new();
        loop {
            let mut inner = None;
            for entry in Dir::read_from(&self.here)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                let status = statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                    inner = Some(name.to_owned());
                    break;
                }
                unlinkat(&self.here, name, AtFlags::empty())?;
            }
            if let Some(name) = inner {
                // Its author may have removed the owner's own rights.
                chmodat(&self.here, &name, Mode::RWXU, AtFlags::empty())?;
                self.enter(name.as_bytes())?;
                names.push(name);
            } else if let Some(name) = names.pop() {
                self.leave()?;
                unlinkat(&self.here, &name, AtFlags::REMOVEDIR)?;
            } else {
                debug_assert_eq!(self.above.len(), depth);
                return Ok(());
            }
        }
    }

    /// Open the directory `path`, relative to `root`, one component after the other.
    pub fn walk(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = openat(root, ".", flags, Mode::empty())?;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            at = openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }
}
