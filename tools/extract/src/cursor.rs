// SPDX-License-Identifier: GPL-2.0-only

//! A position in a directory tree on disk, reached without paths: symlinks are never followed, and
//! directories may be nested to any depth.

use daxfs_files::{identity, Identity};
use rustix::fs::{
    chmodat, fstat, mkdirat, openat, openat2, unlinkat, AtFlags, Dir, Mode, OFlags, ResolveFlags,
};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// How to open directories.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Returns all names in a directory.
pub fn names_in(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// An open directory below a root. Only this one is kept open; its ancestors are remembered by
/// identity.
pub struct Cursor {
    here: OwnedFd,
    above: Vec<Identity>,
    /// Never enter or leave a mount.
    one_mount: bool,
}

impl Cursor {
    /// Starts at the root `root`.
    pub fn new(root: OwnedFd) -> Self {
        Cursor {
            here: root,
            above: Vec::new(),
            one_mount: false,
        }
    }

    /// Starts at the root `root`, and stays in its mount: for another mount, [`Cursor::enter`]
    /// returns `EXDEV`.
    pub fn in_mount(root: OwnedFd) -> Self {
        Cursor {
            one_mount: true,
            ..Self::new(root)
        }
    }

    fn open(&self, name: &[u8]) -> Result<OwnedFd> {
        let (flags, mode) = (DIRECTORY, Mode::empty());
        if self.one_mount {
            openat2(&self.here, name, flags, mode, ResolveFlags::NO_XDEV)
        } else {
            openat(&self.here, name, flags, mode)
        }
    }

    /// Returns the directory.
    pub fn here(&self) -> &OwnedFd {
        &self.here
    }

    /// Creates the directory `name`, accessible only to its owner, and enters it.
    pub fn make(&mut self, name: &[u8]) -> Result<()> {
        mkdirat(&self.here, name, Mode::RWXU)?;
        self.enter(name)
    }

    /// Enters the directory `name`.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let inner = self.open(name)?;
        self.above.push(identity(&fstat(&self.here)?));
        self.here = inner;
        Ok(())
    }

    /// Goes up, and returns the inner directory. `ESTALE` if it was moved, `EXDEV` at another
    /// mount.
    pub fn leave(&mut self) -> Result<OwnedFd> {
        let outer = self.open(b"..")?;
        if self.above.pop() != Some(identity(&fstat(&outer)?)) {
            return Err(Errno::STALE);
        }
        Ok(std::mem::replace(&mut self.here, outer))
    }

    /// Calls `step` with each of the `names` and false. If `step` enters a directory and returns
    /// true, visits all names there, leaves, and calls `step` again with true.
    pub fn each(
        &mut self,
        mut names: Vec<CString>,
        step: &mut dyn FnMut(&mut Self, &CStr, bool) -> Result<bool>,
    ) -> Result<()> {
        let mut above = Vec::new();
        loop {
            if let Some(name) = names.pop() {
                if step(self, &name, false)? {
                    let inner = names_in(&self.here)?;
                    above.push((name, std::mem::replace(&mut names, inner)));
                }
            } else if let Some((name, rest)) = above.pop() {
                self.leave()?;
                names = rest;
                step(self, &name, true)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Removes everything in the directory.
    pub fn clear(&mut self) -> Result<()> {
        let names = names_in(&self.here)?;
        self.each(names, &mut |at, name, left| {
            if left {
                unlinkat(&at.here, name, AtFlags::REMOVEDIR)?;
            } else if let Err(error) = unlinkat(&at.here, name, AtFlags::empty()) {
                if error != Errno::ISDIR {
                    return Err(error);
                }
                // The directory may deny even its owner access.
                chmodat(&at.here, name, Mode::RWXU, AtFlags::empty())?;
                at.enter(name.to_bytes())?;
                return Ok(true);
            }
            Ok(false)
        })
    }

    /// Opens the directory `path`, relative to `root`, component by component.
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
