// SPDX-License-Identifier: GPL-2.0-only

//! Messages, and failures to write them.

use crate::support::{available, place};

/// A failure to write to standard output is an error of every command. A closed pipe is not.
#[test]
fn full_and_closed_standard_output() {
    let place = place("mkdir tree; printf content >tree/file");
    for words in ["tree image", "-n tree image", "--help", "--version"] {
        let why = "mkdaxfs: standard output: cannot write: No space left on device";
        place.fails(format!("mkdaxfs {words} >/dev/full"), why);
        // SIGPIPE ends it.
        let line = format!("(sleep 0.1; mkdaxfs {words}; echo $? >status) | :; cat status");
        assert_eq!(place.ok(line).text(), "141\n", "{words}");
    }
}

/// A bar appears on a terminal after a second, even while nothing arrives from a pipe.
#[test]
fn progress() {
    if !available("script") {
        return;
    }
    let place = place("");
    let shown = |options: &str| {
        let line = format!("sleep 1.6 | mkdaxfs {options} - image");
        let run = place.run(format!("TERM=vt100 script -q -c '{line}' /dev/null"));
        assert!(run.text().contains("mkdaxfs: standard input"), "{run:?}");
        run.text().contains("reading") && run.text().contains("0 B")
    };
    assert!(shown(""));
    assert!(!shown("--quiet"));
}
