// SPDX-License-Identifier: GPL-2.0-only

//! Runs the real binary.

#![allow(dead_code)]

pub mod fixture;
pub mod layout;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Output and exit status of a run.
#[derive(Debug)]
pub struct Run {
    /// Exit status, or the signal's number negated.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Return a command for the binary, without variables that change its output.
pub fn mkdaxfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkdaxfs"));
    command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    command
}

/// Run `command`.
pub fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let status = output.status;
    Run {
        status: status.code().unwrap_or_else(|| -status.signal().unwrap()),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Run `command`, which must succeed.
pub fn produce(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Run a script in `at`, which must succeed.
pub fn shell(at: &Path, script: &str) {
    let output = Command::new("bash")
        .args(["-ec", script])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// Return the arguments that have a tar program put all of `tree` into `archive`.
pub fn everything<'a>(tree: &'a Path, archive: &'a Path) -> [&'a OsStr; 5] {
    let word = OsStr::new;
    [
        word("-cf"),
        archive.as_ref(),
        word("-C"),
        tree.as_ref(),
        word("."),
    ]
}

/// Make an image with `options`, which must succeed without a warning.
pub fn make<I: IntoIterator<Item: AsRef<OsStr>>>(options: I, tree: &Path, image: &Path) -> String {
    let run = run(mkdaxfs().args(options).arg(tree).arg(image));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    run.stdout
}

/// Return a directory with a tree of one file, `tree/file`, and the path of the tree.
pub fn tree() -> (tempfile::TempDir, PathBuf) {
    let directory = daxfs_testing::scratch();
    let tree = directory.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "content").unwrap();
    (directory, tree)
}

/// Run `mkdaxfs` with `words` and the file `input` in a pipe, which must succeed quietly.
pub fn piped(input: &Path, words: &[&OsStr]) {
    let mut cat = Command::new("cat");
    let mut cat = cat.arg(input).stdout(Stdio::piped()).spawn().unwrap();
    let output = run(mkdaxfs()
        .arg("-q")
        .args(words)
        .stdin(cat.stdout.take().unwrap()));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(cat.wait().unwrap().success());
}

/// Return true if tests may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Say that a test, or part of it, was not done.
pub fn skip(why: &str) {
    println!("SKIP: {why}");
}

/// Return true if there is such a program.
pub fn available(program: &str) -> bool {
    let null = Stdio::null;
    Command::new(program)
        .arg("--version")
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .status()
        .is_ok_and(|status| status.success())
}
