// SPDX-License-Identifier: GPL-2.0-only

//! Usage errors, and requests for help.

use crate::descriptor::Stdout;
use crate::eprintln;
use crate::shown;
use crate::stdout::written;
use clap::error::ErrorKind;
use std::io::Write;
use std::process::ExitCode;

/// Prints the usage error `error` on one line, or the requested help or version.
///
/// Returns `status` for an error. Messages start with the name `program`.
pub fn usage(program: &str, error: &clap::Error, status: u8) -> ExitCode {
    if error.use_stderr() {
        // A program without any arguments prints its help.
        match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
            _ => eprintln!("{program}: {}", one_line(&error.to_string(), program)),
        }
        return ExitCode::from(status);
    }
    match written(Stdout.write_all(error.to_string().as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Joins the lines of clap's message `text`, and adds the command that prints more help.
fn one_line(text: &str, program: &str) -> String {
    let mut message = String::new();
    let mut command = String::from(program);
    for line in text.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage.split(' ');
            let words = words.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
            command = words.collect::<Vec<_>>().join(" ");
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            // The user rarely meant the option as a value.
            if !tip.starts_with("to pass ") {
                message += "; ";
                message += tip;
            }
        } else if line.ends_with("arguments were not provided:") {
            message = "missing".into();
        } else if !line.is_empty() && !line.starts_with("For more information") {
            if !message.is_empty() {
                message.push(' ');
            }
            message += line.strip_prefix("error: ").unwrap_or(line);
        }
    }
    // Names in it may be escaped already, so it keeps its backslashes.
    let message = shown(message.as_bytes()).replace(r"\\", r"\");
    format!("{message}; see {command} --help")
}
