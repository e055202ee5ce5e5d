// SPDX-License-Identifier: GPL-2.0-only

//! Messages, and failures to write them.

use crate::support::{available, place};

/// A failed write to standard output is an error in every command. A closed pipe is not.
#[test]
fn full_and_closed_standard_output() {
    let place = place("mkdir tree; printf content >tree/file");
    for words in ["tree image", "-n tree image", "--help", "--version"] {
        for (output, why) in [
            (">/dev/full", "No space left on device"),
            (">&-", "Bad file descriptor"),
            ("1</dev/null", "Bad file descriptor"),
        ] {
            let why = format!("mkdaxfs: standard output: cannot write: {why}");
            place.fails(format!("mkdaxfs {words} {output}"), &why);
        }
        // SIGPIPE ends the command.
        let line = format!("exec 3> >(:); wait $!; mkdaxfs {words} >&3; echo $?");
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
    let shown = |wait: &str, options: &str| {
        let line = format!("{wait} | mkdaxfs {options} - image");
        let run = place.run(format!(": >log; TERM=vt100 script -f -q -c '{line}' log"));
        assert!(run.text().contains("mkdaxfs: standard input"), "{run:?}");
        run.text().contains("reading") && run.text().contains("0 B")
    };
    // On a busy machine, this may take longer.
    assert!(shown("until grep -q reading log; do sleep 0.1; done", ""));
    assert!(!shown("sleep 1.6", "--quiet"));
}
