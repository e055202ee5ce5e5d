// SPDX-License-Identifier: GPL-2.0-only

//! Messages, and failures to write them.

use crate::support::{available, mkdaxfs, run, skip, tree};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// A failure to write to standard output is an error of every command.
#[test]
fn full_and_closed_standard_output() {
    let (directory, tree) = tree();
    let image = directory.path().join("image");
    let (tree, image) = (tree.to_str().unwrap(), image.to_str().unwrap());
    for arguments in [
        &["--json", tree, image][..],
        &[tree, image],
        &["-n", tree, image],
        &["--help"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = mkdaxfs()
            .args(arguments)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let told = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(
            told.starts_with("mkdaxfs: standard output: cannot write: No space left on device"),
            "{told}"
        );

        // A closed pipe is not an error.
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let output = mkdaxfs()
            .args(arguments)
            .stdout(OwnedFd::from(writer))
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(
            (signal, output.stderr),
            (Some(13), Vec::new()),
            "{arguments:?}"
        );
    }
}

/// A bar appears on a terminal after a second, even while nothing arrives from a pipe.
#[test]
fn progress() {
    if !available("script") {
        return skip("no script");
    }
    let (directory, _tree) = tree();
    let shown = |options: &str| {
        let mut command = Command::new("script");
        let line = format!("sleep 1.6 | \"$MKDAXFS\" {options} - image");
        command.args(["-q", "-c", &line, "/dev/null"]);
        command.env("MKDAXFS", mkdaxfs().get_program());
        let run = run(command.env("TERM", "vt100").current_dir(directory.path()));
        assert!(run.stdout.contains("mkdaxfs: standard input"), "{run:?}");
        run.stdout.contains("reading") && run.stdout.contains("0 B")
    };
    assert!(shown(""));
    assert!(!shown("--quiet"));
}
