// SPDX-License-Identifier: GPL-2.0-only

//! Runs the program as a user would.

#![allow(dead_code)]

use daxfs_testing::{image_with, options, scratch};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program.
pub const DAXFS: &str = env!("CARGO_BIN_EXE_daxfs");

/// Output and exit status of a run.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    /// Return standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Parse standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Run `daxfs` with `arguments`, and return its output and status.
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Run {
    let output = Command::new(DAXFS).args(arguments).output();
    output.unwrap().into()
}

/// Run `daxfs` with `arguments`, which must succeed and say nothing on standard error.
pub fn succeed<A: AsRef<OsStr>>(arguments: &[A]) -> Run {
    let run = run(arguments);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    run
}

/// Run `daxfs` with `arguments`, which must fail with one line on standard error; return that.
pub fn fail<A: AsRef<OsStr>>(arguments: &[A], status: i32) -> String {
    let run = run(arguments);
    assert_eq!(run.status, status, "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    run.stderr
}

/// Run the program under another name.
pub fn run_as<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Run {
    let output = Command::new(DAXFS).arg0(name).args(arguments).output();
    output.unwrap().into()
}

/// Run `daxfs` with `arguments` and `input` in a pipe.
pub fn run_with<A: AsRef<OsStr>>(arguments: &[A], input: &[u8]) -> Run {
    let mut child = Command::new(DAXFS)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The program may end without having read all.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap().into()
    })
}

/// Create a small tree: two names of one file, an empty one, directories, a symlink, a FIFO.
pub fn tree(path: &Path) {
    use std::fs::{create_dir_all, hard_link, write};
    create_dir_all(path.join("dir/below")).unwrap();
    write(path.join("file"), "some text\n").unwrap();
    hard_link(path.join("file"), path.join("dir/other name")).unwrap();
    write(path.join("dir/empty"), "").unwrap();
    write(path.join("dir/below/deep"), vec![7; 10_000]).unwrap();
    std::os::unix::fs::symlink("dir/below", path.join("link")).unwrap();
    std::os::unix::fs::symlink("/dir/../file", path.join("dir/absolute")).unwrap();
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    let (cwd, mode) = (rustix::fs::CWD, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(cwd, path.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// An image, and where it is.
pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub image: PathBuf,
    pub digest: String,
}

/// Return an image of [`tree`].
pub fn fixture() -> Fixture {
    let directory = scratch();
    let (source, image) = (
        directory.path().join("source"),
        directory.path().join("image"),
    );
    std::fs::create_dir(&source).unwrap();
    tree(&source);
    let mut options = options();
    options.label = "a label".into();
    let summary = image_with(&source, &image, &options).unwrap();
    Fixture {
        digest: daxfs_check::digest::hex(&summary.digest),
        directory,
        image,
    }
}

impl Fixture {
    /// Return the words of a command line.
    pub fn with<'a>(&'a self, command: &'a str, rest: &[&'a str]) -> Vec<&'a OsStr> {
        let mut words: Vec<&OsStr> = vec![command.as_ref(), self.image.as_os_str()];
        words.extend(rest.iter().map(|&word| OsStr::new(word)));
        words
    }

    /// Return the message for a failure of `command`, without the image's name.
    pub fn fail(&self, command: &str, rest: &[&str]) -> String {
        let line = fail(&self.with(command, rest), 1);
        let start = format!("daxfs: {}: ", self.image.display());
        line.strip_prefix(&start).expect(&line).trim_end().into()
    }
}
