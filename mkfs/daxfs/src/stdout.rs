// SPDX-License-Identifier: GPL-2.0

//! Standard output: every write is checked to the end.

use crate::{Error, Result};
use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Write `text` and a line end to standard output.
///
/// # Errors
///
/// As [`written`].
pub fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Turn the outcome of writing to standard output into a message.
///
/// # Errors
///
/// [`Error::Output`]. If nobody reads standard output any more, SIGPIPE ends the process quietly, as it does other
/// programs.
pub fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        obey_pipe(&error);
        Error::output(Path::new("standard output"), "write", error)
    })
}

/// End the process by SIGPIPE if `error` says that nobody reads what it writes.
pub fn obey_pipe(error: &io::Error) {
    if error.kind() == ErrorKind::BrokenPipe {
        let _ = emulate_default_handler(SIGPIPE);
    }
}
