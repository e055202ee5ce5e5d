// SPDX-License-Identifier: GPL-2.0-only

//! Mistakes that people make with a program: each gives one line that says what to do, and nothing
//! is lost.

use crate::snapshot;
use std::path::Path;
use std::process::Output;

/// A mistake: the command line, the exit status, and a part of the message. `AT/` starts paths in the
/// directory.
pub type Mistake = (&'static str, i32, &'static str);

/// Make all `mistakes` with `run`, which runs a command line. Panic if one of them prints anything
/// but one line on standard error, or changes anything in `directory`.
pub fn make(directory: &Path, mistakes: &[Mistake], run: impl Fn(&[String]) -> Output) {
    let place = |text: &str| text.replace("AT/", &format!("{}/", directory.display()));
    let before = snapshot(directory);
    for (line, status, part) in mistakes {
        let words: Vec<_> = line.split_whitespace().map(place).collect();
        let output = run(&words);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{line}: {output:?}");
        assert!(output.stdout.is_empty(), "{line}: {output:?}");
        assert_eq!(message.lines().count(), 1, "{line}: {message}");
        assert!(message.contains(&place(part)), "{line}: {message}");
        assert!(snapshot(directory) == before, "{line}");
    }
}
