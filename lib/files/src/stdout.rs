// SPDX-License-Identifier: GPL-2.0-only

//! Standard output: every write is checked to the end.

use crate::signals::{obey, SIGPIPE};
use crate::{cause, remedy};
use std::fmt;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

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
/// If the other end of a pipe is closed, SIGPIPE ends the process, as it does with other programs.
pub fn written(result: io::Result<()>) -> Result<(), Error> {
    result.map_err(Error::new)
}

/// Writes `text` and a line end to standard output.
pub fn say(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Ends the process by SIGPIPE if `error`, or one of its sources, is that the other end of a pipe is
/// closed.
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
    writer: BufWriter<io::StdoutLock<'static>>,
    /// It is a terminal.
    pub terminal: bool,
}

impl Out {
    /// Locks standard output.
    pub fn open() -> Self {
        let stdout = io::stdout().lock();
        Out {
            terminal: stdout.is_terminal(),
            writer: BufWriter::with_capacity(64 << 10, stdout),
        }
    }

    /// Writes the rest of the buffer.
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
