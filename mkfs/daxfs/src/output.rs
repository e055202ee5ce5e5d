// SPDX-License-Identifier: GPL-2.0

//! The file that an image is written to: a temporary one until it is complete.

use crate::scan::identity;
use crate::tree::Identity;
use crate::{Error, Result};
use rustix::fs::{open, stat, Mode, OFlags};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// An image in the making. It stands beside its final name, under which nothing appears before
/// [`Output::commit`]; until then, whatever had the name keeps it. Dropped, it leaves nothing behind.
pub struct Output {
    path: PathBuf,
    directory: PathBuf,
    temporary: NamedTempFile,
}

impl Output {
    /// Creates the temporary file for an image that will be called `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when `path` is something else than a regular file, [`Error::Io`] when its directory
    /// cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        // Through symlinks, so that they stay what they are.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => path.into(),
            Err(error) => return Err(Error::output(path, "find out where it leads", error)),
        };
        if let Ok(metadata) = path.metadata() {
            if metadata.is_dir() {
                let why = "is a directory; name a file for the image";
                return Err(Error::refused(&path, why));
            }
            if !metadata.is_file() {
                let why =
                    "exists and is no regular file; write the image to a file and copy that there";
                return Err(Error::refused(&path, why));
            }
        }
        if path.file_name().is_none() {
            return Err(Error::refused(
                &path,
                "names no file; name a file for the image",
            ));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
            _ => PathBuf::from("."),
        };
        let temporary = Builder::new()
            .prefix(".mkdaxfs-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&directory)
            .map_err(|error| {
                Error::output(&directory, "create a file in the directory", plain(error))
            })?;
        Ok(Output {
            path,
            directory,
            temporary,
        })
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The temporary name.
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The directory that the file is in.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn directory(&self) -> Result<Identity> {
        match stat(&self.directory) {
            Ok(stat) => Ok(identity(&stat)),
            Err(error) => Err(Error::output(&self.directory, "examine", error)),
        }
    }

    /// Gives the complete image its name, in place of what had it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the final name is then as it was.
    pub fn commit(self) -> Result<()> {
        self.file()
            .sync_all()
            .map_err(|error| Error::output(&self.path, "write the image", error))?;
        self.temporary
            .persist(&self.path)
            .map_err(|error| Error::output(&self.path, "put the image in place", error.error))?;
        // The name has to last, too. The image is in place whatever this says.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(directory) = open(&self.directory, flags, Mode::empty()) {
            let _ = rustix::fs::fsync(directory);
        }
        Ok(())
    }
}

/// The system's own error in one that tells the temporary file's name.
fn plain(error: std::io::Error) -> std::io::Error {
    let source = error.get_ref().and_then(|inner| inner.source());
    match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(inner) => inner
            .raw_os_error()
            .map_or(inner.kind().into(), std::io::Error::from_raw_os_error),
        None => error,
    }
}
