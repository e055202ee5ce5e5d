// SPDX-License-Identifier: GPL-2.0-only

//! Reads the entries of directories, several at a time.

use crate::input::exclude::Exclude;
use crate::input::xattr::XattrReader;
use crate::writer::directory::{Directory, PATH_MAX};
use crate::writer::tree::XattrSet;
use daxfs_files::{Error, Result};
use daxfs_reader::FileType;
use rayon::prelude::*;
use rustix::fs::{fstat, readlinkat, statat, AtFlags, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of directory entries to read at a time.
const LISTING: usize = 64 << 10;

/// Maximum number of a directory's entries to keep in memory at a time.
const ENTRIES: usize = 4096;

/// Number of entries that one thread reads alone, because starting others would take longer.
const FEW: usize = 64;

/// Warning about a symlink like those in a snapshot of the Hugging Face cache.
const LEADS_OUT: &str =
    "the symlink leads out of the tree, to a file that the image lacks; --dereference stores it";

/// An open directory and its entries.
pub(crate) struct Listing {
    /// Name for messages.
    pub path: PathBuf,
    /// Path below the root.
    relative: PathBuf,
    fd: OwnedFd,
    /// Whether to follow symlinks.
    pub follow: bool,
    /// Without `.` and `..`.
    names: Vec<CString>,
    /// Facts about all entries, if there are few.
    entries: Option<Vec<Result<Option<Found>>>>,
}

/// Facts about a file.
pub(crate) struct Found {
    pub name: CString,
    pub stat: Stat,
    /// The inode of the symlink that was followed, if any.
    pub link: Option<Stat>,
    /// A warning about it.
    pub loss: Option<&'static str>,
    /// Target of a symlink.
    pub target: Option<CString>,
    pub xattrs: XattrSet,
    /// Names of extended attributes that no image can store.
    pub unknown: Vec<Vec<u8>>,
}

impl Listing {
    /// Lists the directory at `relative` in `directory`, which is the root of the image if `root`.
    /// `path` is its name for messages.
    pub fn new(
        directory: &Directory,
        relative: PathBuf,
        path: PathBuf,
        root: bool,
    ) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = directory.open_below(&relative, flags);
        let fd = opened.map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP if !root => {
                Error::changed(&path, "removed or replaced")
            }
            error => Error::io(&path, "open the directory", error),
        })?;
        let names = list(&fd).map_err(|error| Error::io(&path, "list the directory", error))?;
        Ok(Listing {
            path,
            relative,
            fd,
            follow: false,
            names,
            entries: None,
        })
    }

    /// Reads the entries if there are few, except those that `exclude` matches.
    pub fn read(&mut self, exclude: Option<&Exclude>) {
        if self.names.len() <= ENTRIES {
            self.entries = Some(self.entries(&self.names, exclude));
        }
    }

    /// Passes all entries to `take` in the order of the directory, except those that `exclude`
    /// matches.
    pub fn each(
        &mut self,
        exclude: Option<&Exclude>,
        mut take: impl FnMut(Found, &Path) -> Result<()>,
    ) -> Result<()> {
        let mut give = |entries: Vec<Result<Option<Found>>>| -> Result<()> {
            for entry in entries {
                if let Some(found) = entry? {
                    let path = self.path.join(OsStr::from_bytes(found.name.to_bytes()));
                    take(found, &path)?;
                }
            }
            Ok(())
        };
        if let Some(entries) = self.entries.take() {
            return give(entries);
        }
        for names in self.names.chunks(ENTRIES) {
            give(self.entries(names, exclude))?;
        }
        Ok(())
    }

    /// Examines the directory itself.
    pub fn stat(&self) -> Result<Stat> {
        fstat(&self.fd).map_err(|error| Error::io(&self.path, "examine", error))
    }

    fn entries(&self, names: &[CString], exclude: Option<&Exclude>) -> Vec<Result<Option<Found>>> {
        // If the path is too long for the kernel, use the open directory.
        let access = if self.path.as_os_str().len() + 1 + 255 <= PATH_MAX {
            self.path.clone()
        } else {
            format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
        };
        names
            .par_iter()
            .with_min_len(FEW)
            .map_init(XattrReader::default, |xattrs, name| {
                self.entry(name, &access, exclude, xattrs)
            })
            .collect()
    }

    fn entry(
        &self,
        name: &CStr,
        access: &Path,
        exclude: Option<&Exclude>,
        xattrs: &mut XattrReader,
    ) -> Result<Option<Found>> {
        let bytes = OsStr::from_bytes(name.to_bytes());
        let path = || self.path.join(bytes);
        let mut stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(Error::changed(&path(), "removed")),
            other => other.map_err(|error| Error::io(&path(), "examine", error))?,
        };
        let excluded = |stat: &Stat| {
            let directory = file_type(stat) == Some(FileType::Directory);
            exclude.is_some_and(|them| them.matches(&self.relative.join(bytes), directory))
        };
        if excluded(&stat) {
            return Ok(None);
        }
        let (mut target, mut link, mut loss) = (None, None, None);
        if file_type(&stat) == Some(FileType::Symlink) {
            let read = readlinkat(&self.fd, name, Vec::new());
            let read = read.map_err(|error| Error::io(&path(), "read the symlink", error))?;
            if self.follow {
                match statat(&self.fd, name, AtFlags::empty()) {
                    Ok(file) => link = Some(std::mem::replace(&mut stat, file)),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                        loss = Some("the symlink leads to no file and is kept");
                    }
                    Err(error) => return Err(Error::io(&path(), "follow the symlink", error)),
                }
                if excluded(&stat) {
                    return Ok(None);
                }
            } else if let Some(inside) = within(&self.relative, read.to_bytes()) {
                let found = |path: &[u8], flags| statat(&self.fd, path, flags).is_ok();
                // A symlink inside the tree is judged on its own.
                let is_inside = found(&inside, AtFlags::SYMLINK_NOFOLLOW);
                if found(name.to_bytes(), AtFlags::empty()) && !is_inside {
                    loss = Some(LEADS_OUT);
                }
            }
            target = Some(read);
        }
        let mut unknown = Vec::new();
        xattrs.follow = link.is_some();
        let xattrs = xattrs.read(&access.join(bytes), path, |name| unknown.push(name.into()))?;
        Ok(Some(Found {
            name: name.into(),
            stat,
            link,
            loss,
            target,
            xattrs,
            unknown,
        }))
    }
}

/// Returns the file type in a `stat` structure.
pub(crate) fn file_type(stat: &Stat) -> Option<FileType> {
    FileType::of_mode((stat.st_mode & 0o170_000) as u16)
}

/// Returns `target`, of a symlink in `relative`, as a path from there, with the tree as the root.
/// Returns `None` if the path stays in the tree, or leads to files that only a running system
/// creates.
fn within(relative: &Path, target: &[u8]) -> Option<Vec<u8>> {
    let mut depth = relative.components().count();
    let mut out = target.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    if out {
        names.resize(std::mem::take(&mut depth), b"..");
    }
    for name in target.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." if depth == 0 => {
                out = true;
                continue;
            }
            b".." => depth -= 1,
            b"dev" | b"proc" | b"run" | b"sys" if depth == 0 && out => return None,
            _ => depth += 1,
        }
        names.push(name);
    }
    out.then(|| names.join(&b'/'))
}

/// Returns the names in a directory, without `.` and `..`.
fn list(fd: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); LISTING];
    let mut listing = RawDir::new(fd, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
