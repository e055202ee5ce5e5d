// SPDX-License-Identifier: GPL-2.0

//! Standard output, as programs that are used in pipes have it.

use crate::text::cause;
use crate::Result;
use daxfs::stdout::obey_pipe;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

/// Buffers what goes to standard output. When nobody reads it any more, SIGPIPE ends the program, as it does with
/// other programs.
pub struct Out {
    writer: BufWriter<io::StdoutLock<'static>>,
    /// Whether a person reads it.
    pub terminal: bool,
}

impl Out {
    /// Standard output, which nobody else may use meanwhile.
    pub fn open() -> Self {
        let stdout = io::stdout().lock();
        Out {
            terminal: stdout.is_terminal(),
            writer: BufWriter::with_capacity(64 << 10, stdout),
        }
    }

    /// Hands on what is still in the buffer.
    ///
    /// # Errors
    ///
    /// As [`written`].
    pub fn finish(mut self) -> Result<()> {
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

/// The outcome of writing to standard output.
///
/// # Errors
///
/// In one line, why that failed.
pub fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        obey_pipe(&error);
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space",
            _ => "",
        };
        format!("standard output: cannot write: {}{remedy}", cause(&error))
    })
}
