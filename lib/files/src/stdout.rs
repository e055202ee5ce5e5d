// SPDX-License-Identifier: GPL-2.0-only

//! Standard output that reports every failed write.

use crate::descriptor::{opened, Stdout};
use crate::replace::is_planted;
use crate::signals::{obey, SIGPIPE};
use crate::{cause, remedy};
use rustix::stdio::dup2_stdout;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Writing to standard output failed.
#[derive(Debug)]
pub struct Error(io::Error);

impl Error {
    /// Converts an error of writing to standard output; see [`written`] for a closed pipe.
    pub fn new(error: io::Error) -> Self {
        obey_pipe(&error);
        Error(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cause, remedy) = (cause(&self.0), remedy(&self.0));
        write!(f, "standard output: cannot write: {cause}{remedy}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Converts the outcome of writing to standard output.
///
/// If the reader of a pipe has closed it, SIGPIPE ends the process, as in other programs.
pub fn written(result: io::Result<()>) -> Result<(), Error> {
    result.map_err(Error::new)
}

/// Returns `-` for an output `path` that means standard output, a pipe, or a descriptor of a
/// nameless file, and makes it standard output. Returns any other path unchanged, even another
/// user's pipe in a world-writable directory.
///
/// Opening a FIFO waits for its reader, so call this before handling signals.
pub fn or_pipe(path: &Path) -> io::Result<PathBuf> {
    let names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    if !names.iter().any(|name| path == Path::new(name)) {
        let is_descriptor = path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd");
        let is_pipe = path
            .metadata()
            .is_ok_and(|found| found.file_type().is_fifo() || is_descriptor && found.nlink() == 0);
        if !is_pipe || is_planted(path)? {
            return Ok(path.into());
        }
        dup2_stdout(File::options().write(true).open(path)?)?;
        opened();
    }
    Ok("-".into())
}

/// Writes `text` and a line end to standard output.
pub fn say(text: &str) -> Result<(), Error> {
    written(Stdout.write_all(format!("{text}\n").as_bytes()))
}

/// Ends the process with SIGPIPE if `error` or one of its sources is a closed pipe.
pub fn obey_pipe(error: &(dyn std::error::Error + 'static)) {
    let closed = |error: &(dyn std::error::Error + 'static)| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    if std::iter::successors(Some(error), |error| error.source()).any(closed) {
        obey(SIGPIPE);
    }
}

/// Buffered standard output.
pub struct Out {
    writer: BufWriter<Stdout>,
    /// Whether it is a terminal.
    pub terminal: bool,
}

impl Out {
    /// Returns standard output with an empty buffer.
    pub fn open() -> Self {
        Out {
            terminal: io::stdout().is_terminal(),
            writer: BufWriter::with_capacity(64 << 10, Stdout),
        }
    }

    /// Flushes the buffer.
    pub fn finish(mut self) -> Result<(), Error> {
        written(self.writer.flush())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
