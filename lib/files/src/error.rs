// SPDX-License-Identifier: GPL-2.0-only

//! Errors: one line each, with the file, the operation and the remedy.

use rustix::io::Errno;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const READ: &str = "; run as a user who may read it, or leave it out of the tree";
const WRITE: &str = "; run as a user who may write there, or write the image elsewhere";
const SNAPSHOT: &str = "stop what writes to the tree, or image a snapshot";

/// Why an image could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file failed.
    #[error("{}: cannot {operation}: {}", shown_path(path), system(error, READ))]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation, as in "cannot ...".
        operation: &'static str,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// An operation on the output failed.
    #[error("{}: cannot {operation}: {}", shown_path(path), system(error, WRITE))]
    Output {
        /// The file.
        path: PathBuf,
        /// The operation, as in "cannot ...".
        operation: &'static str,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A file or directory of the tree changed between the scan and the end of its copy.
    #[error("{}: changed while it was read ({how}); {SNAPSHOT}", shown_path(path))]
    Changed {
        /// The file.
        path: PathBuf,
        /// How it changed.
        how: String,
    },
    /// An unsupported request or file.
    #[error("{}: {}", shown_path(path), reason(why))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        #[source]
        why: Reason,
    },
    /// The image is not valid.
    #[error("{}: invalid image: {}", shown_path(path), reason(what))]
    Image {
        /// The image.
        path: PathBuf,
        /// The problem, and its place.
        #[source]
        what: Reason,
    },
}

/// An error of any type, or a text.
pub type Reason = Box<dyn std::error::Error + Send + Sync>;

/// The result of making or reading an image.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns an [`Error::Io`].
    pub fn io(path: &Path, operation: &'static str, error: impl Into<io::Error>) -> Self {
        Error::Io {
            path: path.into(),
            operation,
            error: error.into(),
        }
    }

    /// Returns an [`Error::Output`].
    pub fn output(path: &Path, operation: &'static str, error: impl Into<io::Error>) -> Self {
        Error::Output {
            path: path.into(),
            operation,
            error: error.into(),
        }
    }

    /// Returns an [`Error::Changed`].
    pub fn changed(path: &Path, how: impl Into<String>) -> Self {
        Error::Changed {
            path: path.into(),
            how: how.into(),
        }
    }

    /// Returns an [`Error::Refused`].
    pub fn refused(path: &Path, why: impl Into<Reason>) -> Self {
        Error::Refused {
            path: path.into(),
            why: why.into(),
        }
    }

    /// Returns an [`Error::Image`].
    pub fn image(path: &Path, what: impl Into<Reason>) -> Self {
        Error::Image {
            path: path.into(),
            what: what.into(),
        }
    }
}

/// Returns the text of a system error as strerror(3) does, without the number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((text, _)) => text.into(),
        None => text,
    }
}

/// Returns the text of a system error without the number, followed by its remedy, if any.
fn system(error: &io::Error, denied: &'static str) -> String {
    let text = cause(error);
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or use another directory (TMPDIR for temporary files)"
        }
        io::ErrorKind::NotFound => "; check the path",
        _ => remedy(error),
    };
    format!("{text}{remedy}")
}

/// Returns the general remedy for a system error, with a leading separator, or an empty string.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        io::ErrorKind::FileTooLarge => "; raise the limit (ulimit -f)",
        io::ErrorKind::NotADirectory => "; a file is there or on the way: name another place",
        io::ErrorKind::ReadOnlyFilesystem => "; use another filesystem",
        _ if Errno::from_io_error(error) == Some(Errno::MFILE) => "; raise the limit (ulimit -n)",
        _ => "",
    }
}

/// Formats `bytes` on one line: escapes backslashes and characters that a terminal would not show,
/// and shows bytes that are not UTF-8 as `\xNN`.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    // Leave quotes unescaped.
    text.replace("\\'", "'").replace("\\\"", "\"")
}

/// Formats `path` on one line.
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Returns a reason on one line. Escapes control characters, but not backslashes, because names in
/// the reason may be escaped already.
fn reason(why: &Reason) -> String {
    shown(why.to_string().as_bytes()).replace(r"\\", r"\")
}

/// Prints a line to standard error. Unlike std's macro, does not panic if it is closed or full.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
