// SPDX-License-Identifier: GPL-2.0-only

//! Writes manual pages or shell completions.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, directory) = match &arguments[..] {
        [what, directory] => (what.as_str(), Path::new(directory)),
        _ => ("", Path::new("")),
    };
    let files = match what {
        "pages" => manual::pages(),
        "completions" => Ok(manual::completions()),
        _ => {
            eprintln!("usage: manual pages|completions DIRECTORY");
            return ExitCode::from(2);
        }
    };
    let written = files.and_then(|files| {
        files.iter().try_for_each(|(name, content)| {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(directory))?;
            std::fs::write(path, content)
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
