// SPDX-License-Identifier: GPL-2.0-only

//! Errors: one line each, with the snapshot, the problem and a remedy.

use daxfs_files::eprintln;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tonic::{Code, Status};

/// Why a request failed.
#[derive(Debug, Error)]
pub enum Error {
    /// No snapshot has this name.
    #[error("snapshot {0:?} does not exist")]
    NotFound(String),
    /// A snapshot has this name already.
    #[error("snapshot {0:?} exists already")]
    Exists(String),
    /// The request does not fit the kind or state of the snapshot.
    #[error("snapshot {name:?}: {why}")]
    State {
        /// The snapshot.
        name: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A mount is in the way: files at or below it cannot be read or removed.
    #[error("{path}: {mount} is mounted there; unmount it first (umount {mount})", path = daxfs_files::shown_path(path), mount = daxfs_files::shown_path(mount))]
    Mounted {
        /// The directory.
        path: PathBuf,
        /// The mount point, at the directory or below it.
        mount: PathBuf,
    },
    /// A mount elsewhere shows files of a directory, so they are not removed.
    #[error("{path}: not removed, because the mount {mount} uses it; unmount that (umount {mount}), then call Cleanup or restart the daemon", path = daxfs_files::shown_path(path), mount = daxfs_files::shown_path(mount))]
    Used {
        /// The directory.
        path: PathBuf,
        /// Where the directory, or an overlay that writes to it, is mounted.
        mount: PathBuf,
    },
    /// The machine is not set up for images in memory.
    #[error("{0}")]
    Unsupported(String),
    /// An invalid request.
    #[error("{0}")]
    Invalid(String),
    /// The system refused an operation on a file.
    #[error("{path}: cannot {operation}: {error}", path = daxfs_files::shown_path(path), error = daxfs_files::cause(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// The failed operation, as in "cannot ...".
        operation: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// A file of the snapshotter is damaged.
    #[error("{path}: {why}", path = daxfs_files::shown_path(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem and a remedy.
        why: String,
    },
    /// The image of a committed snapshot cannot be made.
    #[error("snapshot {name:?}: its image cannot be made: {why}; if this stays so, remove the container image, and pull it again")]
    Unmade {
        /// The snapshot.
        name: String,
        /// The code of the error.
        code: Code,
        /// The error.
        why: String,
    },
    /// The client ended the call.
    #[error("the client is gone")]
    Gone,
    /// An image cannot be made.
    #[error(transparent)]
    Image(#[from] daxfs_files::Error),
    /// An image cannot be added to the store, loaded or mounted.
    #[error(transparent)]
    Load(#[from] daxfs_image::Error),
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns a function that creates an [`Error::Io`] for `path`.
    pub fn io(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Error::Io {
            path,
            operation,
            error,
        }
    }

    /// Returns an [`Error::State`] for the snapshot `name`.
    pub fn state(name: &str, why: &'static str) -> Self {
        Error::State {
            name: name.into(),
            why,
        }
    }

    /// Returns the error for an unreadable image of the snapshot in `dir`, which is damaged unless
    /// the system failed.
    pub fn in_snapshot(dir: &Path, error: daxfs_image::Error) -> Self {
        match error {
            daxfs_image::Error::System { ref source, .. }
                if source.kind() != io::ErrorKind::NotFound =>
            {
                error.into()
            }
            _ => Error::Damaged {
                path: dir.into(),
                why: error.to_string(),
            },
        }
    }

    /// If an image of `size` bytes could not be loaded for lack of memory, returns the number of
    /// missing bytes.
    pub fn missing_memory(&self, size: u64) -> Option<u64> {
        match self {
            Error::Load(daxfs_image::Error::Full { missing, .. }) => Some(*missing),
            Error::Load(daxfs_image::Error::System { source, .. }) => matches!(
                source.kind(),
                io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull
            )
            .then_some(size),
            _ => None,
        }
    }

    /// Returns the gRPC code, which containerd converts to its own error of the same name.
    pub fn code(&self) -> Code {
        match self {
            Error::NotFound(_) => Code::NotFound,
            Error::Exists(_) => Code::AlreadyExists,
            Error::State { .. }
            | Error::Mounted { .. }
            | Error::Used { .. }
            | Error::Unsupported(_) => Code::FailedPrecondition,
            Error::Invalid(_) => Code::InvalidArgument,
            Error::Unmade { code, .. } => *code,
            Error::Gone => Code::Cancelled,
            Error::Io { error, .. } => system(error),
            Error::Damaged { .. } => Code::DataLoss,
            Error::Image(error) | Error::Load(daxfs_image::Error::Output(error)) => match error {
                daxfs_files::Error::Io { error, .. } | daxfs_files::Error::Output { error, .. } => {
                    system(error)
                }
                daxfs_files::Error::Changed { .. } => Code::Aborted,
                daxfs_files::Error::Refused { .. } => Code::FailedPrecondition,
                daxfs_files::Error::Image { .. } => Code::DataLoss,
            },
            Error::Load(error) => match error {
                daxfs_image::Error::System { source, .. } => system(source),
                daxfs_image::Error::Full { .. } => Code::ResourceExhausted,
                daxfs_image::Error::Refused { .. } => Code::FailedPrecondition,
                error if error.is_damage() => Code::DataLoss,
                _ => Code::Internal,
            },
        }
    }
}

/// Returns the code for a system error.
fn system(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::FileTooLarge => Code::ResourceExhausted,
        _ => match Errno::from_io_error(error) {
            // daxfs is missing on this machine, or this process may not use it.
            Some(Errno::NODEV | Errno::PERM) => Code::FailedPrecondition,
            _ => Code::Internal,
        },
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}

/// Prints a warning.
pub fn warn(warning: &dyn fmt::Display) {
    eprintln!("daxfs-snapshotter: warning: {warning}");
}

/// Prints a warning if `tried` failed.
pub fn warn_of<T, E: fmt::Display>(tried: std::result::Result<T, E>) {
    if let Err(error) = tried {
        warn(&error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let io = |error: Errno| Error::io(Path::new("/x"), "read")(error.into()).code();
        assert_eq!(io(Errno::NODEV), Code::FailedPrecondition);
        assert_eq!(io(Errno::PERM), Code::FailedPrecondition);
        assert_eq!(io(Errno::NOSPC), Code::ResourceExhausted);
        assert_eq!(io(Errno::IO), Code::Internal);
        let mount = |errno: Errno| {
            let (said, source) = (String::new(), errno.into());
            Error::from(daxfs_image::Error::Mount { said, source }).code()
        };
        assert_eq!(mount(Errno::BADMSG), Code::DataLoss);
        assert_eq!(mount(Errno::UCLEAN), Code::DataLoss);
        assert_eq!(mount(Errno::BUSY), Code::Internal);
    }
}
