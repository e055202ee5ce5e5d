// SPDX-License-Identifier: GPL-2.0-only

//! A directory on disk, to be compared with an image.

use super::{Children, Facts, Side};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Xattr;
use daxfs_image::text::shown_path;
use daxfs_input::xattr::XattrReader;
use daxfs_reader::FileType;
use daxfs_writer::tree;
use rustix::fs::{openat, Mode, OFlags, CWD};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory.
pub struct Directory(pub PathBuf);

/// A file below it.
pub struct Entry {
    path: PathBuf,
    metadata: Metadata,
    kind: FileType,
}

/// Return the error for `operation` on `path` that failed with `error`.
fn fail(path: &Path, operation: &'static str, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as a user who may read it",
        _ => "",
    };
    Error::system(shown_path(path), operation, remedy, error)
}

fn entry(path: PathBuf, metadata: Metadata) -> Result<Entry> {
    let kind = FileType::of_mode((metadata.mode() & 0o170_000) as u16)
        .ok_or_else(|| Error::refused(shown_path(&path), "has an unknown file type"))?;
    Ok(Entry {
        path,
        metadata,
        kind,
    })
}

impl Side for Directory {
    type File = Entry;

    fn root(&self) -> Result<Entry> {
        let metadata =
            fs::metadata(&self.0).map_err(|error| fail(&self.0, "cannot examine", error))?;
        entry(self.0.clone(), metadata)
    }

    fn facts(&self, entry: &Entry) -> Facts {
        let metadata = &entry.metadata;
        let file_type = metadata.file_type();
        let device = metadata.rdev();
        Facts {
            kind: entry.kind,
            permissions: (metadata.mode() & 0o7777) as u16,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            size: if file_type.is_file() {
                metadata.len()
            } else {
                0
            },
            device: if file_type.is_block_device() || file_type.is_char_device() {
                (rustix::fs::major(device), rustix::fs::minor(device))
            } else {
                (0, 0)
            },
            links: (metadata.nlink() > 1).then_some((metadata.dev(), metadata.ino())),
        }
    }

    fn children(&self, file: &Entry, _path: &[u8]) -> Result<Children<Entry>> {
        let list = |error| fail(&file.path, "cannot list the directory", error);
        let mut children: Children<Entry> = Vec::new();
        for child in fs::read_dir(&file.path).map_err(list)? {
            let child = child.map_err(list)?;
            let path = child.path();
            let metadata = child
                .metadata()
                .map_err(|error| fail(&path, "cannot examine", error))?;
            children.push((child.file_name().as_bytes().into(), entry(path, metadata)?));
        }
        children.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(children)
    }

    fn target(&self, file: &Entry, _path: &[u8]) -> Result<Vec<u8>> {
        let target = fs::read_link(&file.path);
        let target = target.map_err(|error| fail(&file.path, "cannot read the symlink", error))?;
        Ok(target.as_os_str().as_bytes().into())
    }

    fn xattrs(&self, file: &Entry, _path: &[u8]) -> Result<Vec<Xattr>> {
        // The root may be given as a symlink.
        let path = if file.path == self.0 {
            file.path.join(".")
        } else {
            file.path.clone()
        };
        let set = XattrReader::default().read(&path, || file.path.clone(), |_| ())?;
        let whole = |xattr: tree::Xattr| Xattr {
            name: [xattr.prefix.text().as_bytes(), &xattr.name].concat(),
            value: xattr.value.into(),
        };
        let mut xattrs: Vec<_> = set.into_iter().map(whole).collect();
        xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }

    fn read(&self, file: &Entry, _path: &[u8], offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut read = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = File::from(openat(CWD, &file.path, flags, Mode::empty())?);
            let mut done = 0;
            while done < into.len() {
                match open.read_at(&mut into[done..], offset + done as u64)? {
                    0 => break,
                    length => done += length,
                }
            }
            Ok(done)
        };
        read().map_err(|error: io::Error| fail(&file.path, "cannot read", error))
    }
}
