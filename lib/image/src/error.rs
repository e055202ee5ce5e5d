// SPDX-License-Identifier: GPL-2.0-only

//! Errors of the program `daxfs`: one line each, with the file, the problem and a remedy.

use crate::text::{cause, remedy, shown};
use daxfs_files::{signals, stdout};
use daxfs_reader::Problem;
use rustix::io::Errno;
use std::borrow::Cow;
use std::io;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The system refused an operation.
    #[error("{}{operation}: {}", prefix(name), said(source, remedy))]
    System {
        /// The file, as messages show it, or empty.
        name: String,
        /// The failed operation, as in "cannot open".
        operation: Cow<'static, str>,
        /// The remedy, with its separator from the text before, if it is not the usual one.
        remedy: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// An image, or a file in it, cannot be read.
    #[error("{}{}{source}{}", prefix(name), prefix(&shown(path)), remedy(source.problem))]
    Image {
        /// The image.
        name: String,
        /// The path in the image; empty for the image itself.
        path: Vec<u8>,
        /// The problem.
        source: daxfs_reader::Error,
    },
    /// A file is not an image.
    #[error("{}not a daxfs image{looks}", prefix(name))]
    Foreign {
        /// The file, as messages show it.
        name: String,
        /// What it looks like instead, and what to do.
        looks: String,
    },
    /// The SHA-256 of an image differs from its superblock's.
    #[error(
        "{name}: SHA-256 is {found}, the superblock says {stored}{}",
        remedy(Problem::Digest)
    )]
    Digest {
        /// The image.
        name: String,
        /// The image's.
        found: String,
        /// The superblock's.
        stored: String,
    },
    /// An invalid request, or one that cannot be granted.
    #[error("{}{why}", prefix(name))]
    Refused {
        /// The subject, as messages show it, or empty.
        name: String,
        /// Why, and what to do.
        why: Cow<'static, str>,
    },
    /// A device is full.
    #[error("{name}: {why}")]
    Full {
        /// The device, as messages show it.
        name: String,
        /// Bytes that are missing even if the free ones were contiguous, at least 1.
        missing: u64,
        /// Why, and what to do.
        why: String,
    },
    /// The kernel refused a mount.
    #[error("cannot mount: {said}")]
    Mount {
        /// Its message.
        said: String,
        /// Its error.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error(transparent)]
    Stdout(#[from] stdout::Error),
    /// An output, a device or an input directory cannot be used.
    #[error(transparent)]
    Output(#[from] daxfs_files::Error),
    /// A signal arrived.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns true if the cause is a damaged image.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Image { .. } | Error::Foreign { .. } | Error::Digest { .. } => true,
            Error::System { source, .. } => Errno::from_io_error(source) == Some(Errno::IO),
            Error::Mount { source, .. } => Errno::from_io_error(source)
                .is_some_and(|errno| [Errno::BADMSG, Errno::UCLEAN].contains(&errno)),
            _ => false,
        }
    }

    /// Creates an [`Error::System`] for `name`.
    pub fn system(
        name: impl Into<String>,
        operation: impl Into<Cow<'static, str>>,
        remedy: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        Error::System {
            name: name.into(),
            operation: operation.into(),
            remedy,
            source: source.into(),
        }
    }

    /// Creates an [`Error::Refused`] for `name`.
    pub fn refused(name: impl Into<String>, why: impl Into<Cow<'static, str>>) -> Self {
        Error::Refused {
            name: name.into(),
            why: why.into(),
        }
    }

    /// Creates an [`Error::Image`] for `path` in the image `name`.
    pub fn image(name: &str, path: &[u8], source: daxfs_reader::Error) -> Self {
        Error::Image {
            name: name.into(),
            path: path.into(),
            source,
        }
    }
}

/// Returns the text of an error with `remedy`, or with the usual remedy if that is empty.
fn said(error: &io::Error, remedy: &'static str) -> String {
    let usual = daxfs_files::remedy(error);
    cause(error) + if remedy.is_empty() { usual } else { remedy }
}

/// Returns the prefix of a message about `name`.
fn prefix(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!("{name}: "),
    }
}
