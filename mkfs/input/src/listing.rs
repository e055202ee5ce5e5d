// SPDX-License-Identifier: GPL-2.0

//! Reads what is in directories, several entries at a time.

use crate::exclude::Exclude;
use crate::xattr::XattrReader;
use daxfs_reader::FileType;
use daxfs_writer::directory::{Directory, PATH_MAX};
use daxfs_writer::tree::XattrSet;
use daxfs_writer::{Error, Result};
use rayon::prelude::*;
use rustix::fs::{fstat, readlinkat, statat, AtFlags, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of directory entries that are read at a time.
const LISTING: usize = 64 << 10;

/// Entries of a directory that are kept at a time, so that a large one takes no memory for all that is known of each.
const ENTRIES: usize = 4096;

/// Entries of which one thread reads all, since the others would not be there in time.
const FEW: usize = 64;

/// An open directory, and what is in it.
pub(crate) struct Listing {
    /// How people call it.
    pub path: PathBuf,
    /// Below the root.
    relative: PathBuf,
    fd: OwnedFd,
    /// But `.` and `..`.
    names: Vec<CString>,
    /// What is known of all of them, if they are few.
    entries: Option<Vec<Result<Option<Found>>>>,
}

/// What the system says of a file.
pub(crate) struct Found {
    /// Its name.
    pub name: CString,
    /// Its inode.
    pub stat: Stat,
    /// Where a symlink leads.
    pub target: Option<CString>,
    /// Its extended attributes,
    pub xattrs: XattrSet,
    /// and the names of those that no image can hold.
    pub unknown: Vec<Vec<u8>>,
}

impl Listing {
    /// Lists what is at `relative` in `directory`, the root if `root`; people call it `path`.
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
            names,
            entries: None,
        })
    }

    /// Reads the entries, if they are few, without those that `exclude` names.
    pub fn read(&mut self, exclude: Option<&Exclude>) {
        if self.names.len() <= ENTRIES {
            self.entries = Some(self.entries(&self.names, exclude));
        }
    }

    /// Hands every entry but those that `exclude` names to `take`, in the order of the directory.
    ///
    /// # Errors
    ///
    /// That of the first entry that cannot be read or taken.
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

    /// The directory itself.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn stat(&self) -> Result<Stat> {
        fstat(&self.fd).map_err(|error| Error::io(&self.path, "examine", error))
    }

    fn entries(&self, names: &[CString], exclude: Option<&Exclude>) -> Vec<Result<Option<Found>>> {
        // A path that the kernel does not take is replaced by one through the open directory.
        let access = match self.path.as_os_str().len() + 1 + 255 <= PATH_MAX {
            true => self.path.clone(),
            false => format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into(),
        };
        names
            .par_iter()
            .with_min_len(FEW)
            .map_init(XattrReader::new, |xattrs, name| {
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
        let stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(Error::changed(&path(), "removed")),
            other => other.map_err(|error| Error::io(&path(), "examine", error))?,
        };
        let file_type = file_type(&stat);
        if let Some(exclude) = exclude {
            let directory = file_type == Some(FileType::Directory);
            if exclude.matches(&self.relative.join(bytes), directory) {
                return Ok(None);
            }
        }
        let target = match file_type {
            Some(FileType::Symlink) => {
                let target = readlinkat(&self.fd, name, Vec::new());
                Some(target.map_err(|error| Error::io(&path(), "read the symlink", error))?)
            }
            _ => None,
        };
        let mut unknown = Vec::new();
        let xattrs = xattrs.read(&access.join(bytes), path, |name| unknown.push(name.into()))?;
        Ok(Some(Found {
            name: name.into(),
            stat,
            target,
            xattrs,
            unknown,
        }))
    }
}

/// The type of file in a `stat` structure.
pub(crate) fn file_type(stat: &Stat) -> Option<FileType> {
    FileType::of_mode((stat.st_mode & 0o170_000) as u16)
}

/// The names in a directory, `.` and `..` not among them.
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
