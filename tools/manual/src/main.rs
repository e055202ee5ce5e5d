// SPDX-License-Identifier: GPL-2.0-only

//! Writes the manual pages and the shell completions.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory] = &arguments[..] else {
        eprintln!("usage: manual DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let files = [
        ("man", manual::pages()?),
        ("completions", manual::completions()),
    ];
    for (kind, files) in files {
        for (name, content) in files {
            let path = directory.join(kind).join(name);
            fs::create_dir_all(path.parent().unwrap_or(directory))?;
            fs::write(path, content)?;
        }
    }
    Ok(())
}
