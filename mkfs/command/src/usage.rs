// SPDX-License-Identifier: GPL-2.0-only

//! Wrong command lines, and requests for help.

use crate::stdout::written;
use std::io::Write;
use std::process::ExitCode;

/// Print the usage error `error`, or the help or version that was asked for.
///
/// Return `status` for an error. Messages start with the name `program`.
pub fn usage(program: &str, error: &clap::Error, status: u8) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    if error.use_stderr() {
        return ExitCode::from(status);
    }
    match written(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
