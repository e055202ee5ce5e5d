// SPDX-License-Identifier: GPL-2.0-only

//! A directory that a tree is read from.

use daxfs_files::{Error, Result};
use rustix::fs::{fstat, openat, Mode, OFlags, Stat, CWD};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest path that the kernel accepts in bytes: `PATH_MAX` without the NUL.
pub const PATH_MAX: usize = 4095;

/// An open directory.
pub struct Directory {
    root: OwnedFd,
    /// Whether to follow symlinks in the last component of paths.
    follow: bool,
}

impl Directory {
    /// Opens the directory at `path`. Files below it may be symlinks to the files if `follow`.
    pub fn open(path: &Path, follow: bool) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => Ok(Directory { root, follow }),
            Err(Errno::NOTDIR) => Err(Error::refused(path, "not a directory; name a directory")),
            Err(error) => Err(Error::io(path, "open the directory", error)),
        }
    }

    /// Examines the directory itself.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        fstat(&self.root)
    }

    /// Opens the file at `relative`, a path below the directory of any length.
    pub fn open_below(&self, relative: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut flags = flags | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !self.follow);
        let mut rest = relative.as_os_str().as_bytes();
        if rest.is_empty() {
            return openat(&self.root, ".", flags, Mode::empty());
        }
        // Walk a path longer than PATH_MAX in pieces that end between two components.
        let mut parent: Option<OwnedFd> = None;
        while rest.len() > PATH_MAX {
            let cut = rest[..PATH_MAX]
                .iter()
                .rposition(|&byte| byte == b'/')
                .ok_or(Errno::NAMETOOLONG)?;
            let at = parent.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let step =
                OFlags::PATH | OFlags::DIRECTORY | flags & OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = Some(openat(at, &rest[..cut], step, Mode::empty())?);
            rest = &rest[cut + 1..];
        }
        let at = parent.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
        openat(at, rest, flags, Mode::empty())
    }
}
