// SPDX-License-Identifier: GPL-2.0-only

//! The output: a temporary file until the image is complete.

use crate::descriptor::writable;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::identity::{identity, Identity};
use crate::overwrite::Overwrite;
use crate::replace::parent_of;
use crate::{replace, spool, Progress};
use rustix::fs::{open, stat, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// An unfinished image. Before [`Output::commit`], nothing appears under its final name, on its
/// device or on standard output. Dropping it removes the temporary file.
pub struct Output {
    path: PathBuf,
    directory: PathBuf,
    target: Target,
    overwrite: Overwrite,
}

/// Destination of the temporary file.
enum Target {
    /// A file: the temporary file is renamed.
    File(NamedTempFile),
    /// A device: the temporary file has no name and is copied.
    Device(File, Device),
    /// Standard output: the temporary file has no name and is copied.
    Stdout(File),
}

impl Output {
    /// Creates the temporary file for an image that will be called `path`, or written to the device
    /// there; `-` is standard output.
    ///
    /// Returns [`Error::Refused`] if `path` cannot hold an image or holds something else, and
    /// [`Error::Output`] if it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        Self::over(path, Overwrite::default())
    }

    /// Like [`Output::create`], but overwrites what `overwrite` allows.
    pub fn over(path: &Path, overwrite: Overwrite) -> Result<Self> {
        if path.as_os_str() == "-" {
            let path = PathBuf::from("standard output");
            let stdout = clone_stdout().map_err(|error| Error::output(&path, "write", error))?;
            overwrite.check_input(&path, &stdout)?;
            if std::io::IsTerminal::is_terminal(&io::stdout()) {
                let why = "is a terminal; redirect it, or name a file for the image";
                return Err(Error::refused(&path, why));
            }
            return nameless(path, overwrite, Target::Stdout);
        }
        check_link(path)?;
        // Follow symlinks, so that the target is replaced, not the symlink.
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
            let file_type = metadata.file_type();
            if file_type.is_block_device() || file_type.is_char_device() {
                let device = Device::open(&path)?;
                device.check_free(&overwrite)?;
                return nameless(path, overwrite, |file| Target::Device(file, device));
            }
            if !metadata.is_file() {
                let why =
                    "exists and is neither a regular file nor a device; write the image to a file";
                return Err(Error::refused(&path, why));
            }
            overwrite.check_file(&path)?;
        }
        if path.file_name().is_none() {
            let why = "names no file; name a file for the image";
            return Err(Error::refused(&path, why));
        }
        let directory = parent_of(&path).to_path_buf();
        overwrite.check_directory(&directory)?;
        let temporary =
            replace::temporary(&path, ".mkdaxfs-").map_err(|error| creating(&directory, error))?;
        Ok(Output {
            path,
            directory,
            target: Target::File(temporary),
            overwrite,
        })
    }

    /// Returns the final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the final name of a file to `name` in the same directory.
    pub fn rename(&mut self, name: &OsStr) {
        self.path.set_file_name(name);
    }

    /// Returns the temporary name, if there is one.
    pub fn temporary(&self) -> Option<&Path> {
        match &self.target {
            Target::File(temporary) => Some(temporary.path()),
            Target::Device(..) | Target::Stdout(_) => None,
        }
    }

    /// Returns the name for messages about writing: the final name, or the directory of a nameless
    /// file.
    pub fn written_path(&self) -> &Path {
        match &self.target {
            Target::File(_) => &self.path,
            Target::Device(..) | Target::Stdout(_) => &self.directory,
        }
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        match &self.target {
            Target::File(temporary) => temporary.as_file(),
            Target::Device(file, _) | Target::Stdout(file) => file,
        }
    }

    /// Returns true if the image goes to standard output, so that nothing else may use it.
    pub fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout(_))
    }

    /// Returns the directory of the file, if the file has a name there.
    pub fn directory(&self) -> Result<Option<Identity>> {
        if self.temporary().is_none() {
            return Ok(None);
        }
        match stat(&self.directory) {
            Ok(stat) => Ok(Some(identity(&stat))),
            Err(error) => Err(Error::output(&self.directory, "examine", error)),
        }
    }

    /// Returns the directory for other temporary files: `TMPDIR`, or the directory of the image.
    pub fn scratch(&self) -> PathBuf {
        scratch(&self.directory)
    }

    /// Reserves space for an image of `size` bytes.
    ///
    /// Returns [`Error::Io`], or [`Error::Refused`] if the device is too small.
    pub fn reserve(&self, size: u64) -> Result<()> {
        if let Target::Device(_, device) = &self.target {
            device.check_size(size)?;
        }
        self.file()
            .set_len(size)
            .map_err(|error| Error::output(self.written_path(), "set the size of the image", error))
    }

    /// Renames the complete image to its final name, or copies it to the device or standard output.
    ///
    /// Returns [`Error::Io`]; the final name is then unchanged, and a device holds no image. If
    /// only syncing the directory fails, the image is in place, but a crash may undo that.
    pub fn commit(self, progress: &dyn Progress) -> Result<()> {
        if self.temporary().is_none() {
            return self.place(progress);
        }
        self.sync()?;
        let directory = self.directory.clone();
        self.place(progress)?;
        // Make the name durable.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(&directory, flags, Mode::empty()).and_then(rustix::fs::fsync) {
            // The directory may be write-only for us, and some filesystems sync no directories.
            Ok(()) | Err(Errno::ACCESS | Errno::INVAL) => Ok(()),
            Err(error) => Err(Error::output(&directory, "sync the directory", error)),
        }
    }

    /// Makes the written bytes durable, before the file has its final name.
    ///
    /// Returns [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        let synced = self.file().sync_all();
        synced.map_err(|error| Error::output(self.written_path(), "write the image", error))
    }

    /// Like [`Output::commit`], but syncs neither a file (use [`Output::sync`]) nor its directory.
    pub fn place(self, progress: &dyn Progress) -> Result<()> {
        let (path, overwrite) = (self.path, self.overwrite);
        let failed = |error| Error::output(&path, "write the image", error);
        match self.target {
            Target::File(temporary) => {
                // A file may have appeared there since.
                if path.symlink_metadata().is_ok() {
                    overwrite.check_file(&path)?;
                }
                replace::rename(temporary, &path)
                    .map_err(|error| Error::output(&path, "put the image in place", error))
            }
            Target::Device(file, device) => {
                let size = file.metadata().map_err(failed)?.len();
                device.write(&file, size, progress)
            }
            Target::Stdout(mut file) => {
                file.rewind().map_err(failed)?;
                let copied = clone_stdout().and_then(|mut out| io::copy(&mut file, &mut out));
                copied.map(drop).map_err(failed)
            }
        }
    }
}

/// Returns a duplicate of standard output, which must be open for writing.
fn clone_stdout() -> io::Result<File> {
    writable()?;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Fails if another user may have planted the symbolic link `path`.
fn check_link(path: &Path) -> Result<()> {
    let is_planted = |path: &Path| path.is_symlink().then(|| replace::is_planted(path));
    match is_planted(path).transpose() {
        Ok(Some(true)) => {
            let why = "is a symbolic link of another user in a directory that all can write to";
            Err(Error::refused(path, why))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Error::output(path, "examine", error)),
    }
}

/// Returns an output with a nameless temporary file, which need not be beside the image.
fn nameless(
    path: PathBuf,
    overwrite: Overwrite,
    target: impl FnOnce(File) -> Target,
) -> Result<Output> {
    let large = Some(Path::new("/var/tmp")).filter(|large| large.is_dir());
    let directory = scratch(large.unwrap_or(Path::new("/tmp")));
    let file = spool::nameless(&directory)?;
    Ok(Output {
        path,
        directory,
        target: target(file),
        overwrite,
    })
}

fn creating(directory: &Path, error: io::Error) -> Error {
    Error::output(directory, "create a file in the directory", error)
}

/// Returns the directory for large temporary files: `TMPDIR`, or `default`.
pub fn scratch(default: &Path) -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => default.into(),
    }
}
