// SPDX-License-Identifier: GPL-2.0-only

//! Mistakes that people make with a program: each gives one line that says what to do, and nothing
//! is lost.

use crate::snapshot;
use std::path::Path;
use std::process::Output;

/// Make all `mistakes` with `run`, which runs a command line. Each is a line of the command, the exit status and a
/// part of the message, with bars between them. `AT/` starts paths in the directory. Panic if one of them prints anything
/// but one line on standard error, or changes anything in `directory`.
pub fn make(directory: &Path, mistakes: &str, run: impl Fn(&[String]) -> Output) {
    let place = |text: &str| text.replace("AT/", &format!("{}/", directory.display()));
    let before = snapshot(directory);
    let is_row = |row: &&str| !row.is_empty() && !row.starts_with('#');
    for row in mistakes.lines().filter(is_row) {
        let [line, status, part] = row.splitn(3, " | ").collect::<Vec<_>>()[..] else {
            panic!("not a mistake: {row}");
        };
        let words: Vec<_> = line.split_whitespace().map(place).collect();
        let output = run(&words);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            status.parse().ok(),
            "{line}: {output:?}"
        );
        assert!(output.stdout.is_empty(), "{line}: {output:?}");
        assert_eq!(message.lines().count(), 1, "{line}: {message}");
        assert!(message.contains(&place(part)), "{line}: {message}");
        // The text of system errors is enough.
        assert!(!message.contains("os error"), "{line}: {message}");
        assert!(snapshot(directory) == before, "{line}");
    }
}
