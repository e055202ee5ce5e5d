// SPDX-License-Identifier: GPL-2.0-only

//! A run that is interrupted leaves no files.

use crate::support;
use crate::support::{is_root, mkdaxfs, run, skip};
use daxfs_testing::scratch;
use rustix::process::{kill_process, Pid, Signal};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Return a tree that takes minutes to hash.
fn slow_tree(at: &Path) -> std::path::PathBuf {
    let tree = at.join("tree");
    fs::create_dir(&tree).unwrap();
    File::create(tree.join("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    tree
}

fn files(directory: &Path) -> usize {
    directory.read_dir().unwrap().count()
}

/// Wait until `done`, ten seconds at most.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn signals() {
    let directory = scratch();
    let tree = slow_tree(directory.path());
    let output = directory.path().join("output");
    fs::create_dir(&output).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        // Early and late.
        for delay in [0, 300] {
            // Tests that run in the background may ignore some of these.
            let mut child = Command::new("env")
                .arg("--default-signal")
                .arg(mkdaxfs().get_program())
                .arg(&tree)
                .arg(output.join("image"))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait("no temporary file", || files(&output) == 1);
            sleep(Duration::from_millis(delay));
            kill_process(Pid::from_child(&child), signal).unwrap();
            let mut status = None;
            wait("it goes on", || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            assert_eq!(status.unwrap().signal(), Some(signal.as_raw()));
            assert_eq!(files(&output), 0);
        }
    }
}

/// A signal arrives while mkdaxfs waits for more of an archive.
#[test]
fn waiting_for_a_pipe() {
    let directory = scratch();
    let output = directory.path().join("output");
    fs::create_dir(&output).unwrap();
    for image in ["image", "-"] {
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(mkdaxfs().get_program())
            .args(["tar:-", image])
            .env("TMPDIR", &output)
            .current_dir(&output)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Waiting for the program would close it.
        let stdin = child.stdin.take();
        // The temporary file of an image for standard output has no name.
        let named = usize::from(image != "-");
        wait("no temporary file", || files(&output) == named);
        sleep(Duration::from_millis(50));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        drop(stdin);
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
        assert_eq!(files(&output), 0);
    }
}

/// Signals that are ignored stay ignored, as under nohup(1).
#[test]
fn ignored_signal() {
    let directory = scratch();
    let tree = slow_tree(directory.path());
    let output = directory.path().join("output");
    fs::create_dir(&output).unwrap();
    let script = r#"trap "" HUP; exec "$@""#;
    let mut child = Command::new("bash")
        .args(["-c", script, "-"])
        .arg(mkdaxfs().get_program())
        .arg(&tree)
        .arg(output.join("image"))
        .spawn()
        .unwrap();
    wait("no temporary file", || files(&output) == 1);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::HUP).unwrap();
    sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none());
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(files(&output), 0);
}

#[test]
fn file_size_limit() {
    let directory = scratch();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), vec![1; 5 << 20]).unwrap();
    let output = directory.path().join("output");
    fs::create_dir(&output).unwrap();
    for script in [
        r#"ulimit -f 1024; exec "$@""#,
        r#"trap "" XFSZ; ulimit -f 1024; exec "$@""#,
    ] {
        let mut command = Command::new("bash");
        command
            .args(["-c", script, "-"])
            .arg(mkdaxfs().get_program())
            .arg(&tree)
            .arg(output.join("image"));
        let run = run(&mut command);
        assert_ne!(run.status, 0);
        assert_eq!(files(&output), 0);
        if run.status == 1 {
            assert!(
                run.stderr
                    .contains("image: cannot set the size of the image: File too large; raise"),
                "{run:?}"
            );
        }
    }
}

/// Run `script` as root in a new mount namespace, with the binary and a directory as arguments.
fn with_mounts(script: &str, directory: &Path) -> Option<support::Run> {
    if !is_root()
        || !Command::new("unshare")
            .args(["-m", "true"])
            .status()
            .is_ok_and(|status| status.success())
    {
        skip("mounting needs root");
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args(["-m", "bash", "-ec", script, "-"])
        .arg(mkdaxfs().get_program())
        .arg(directory);
    Some(run(&mut command))
}

#[test]
fn full_device() {
    let directory = scratch();
    let script = r#"
        cd "$2"; mkdir tree small
        head -c 3000000 /dev/zero | tr '\0' x >tree/file
        mount -t tmpfs -o size=2M tmpfs small
        status=0; "$1" tree small/image || status=$?
        test -z "$(ls -A small)"; exit $status"#;
    if let Some(run) = with_mounts(script, directory.path()) {
        assert_eq!(run.status, 1, "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1);
        assert!(
            run.stderr
                .contains("No space left on device; free some space"),
            "{run:?}"
        );
    }
}

/// The temporary file of an archive does not fit.
#[test]
fn full_temporary_directory() {
    let directory = scratch();
    let script = r#"
        cd "$2"; mkdir tree small
        head -c 3000000 /dev/urandom >tree/file
        mount -t tmpfs -o size=2M tmpfs small
        status=0; tar -C tree -c . | TMPDIR=small "$1" - image || status=$?
        test -z "$(ls -A small)"; test ! -e image; exit $status"#;
    if let Some(run) = with_mounts(script, directory.path()) {
        assert_eq!(run.status, 1, "{run:?}");
        assert!(
            run.stderr
                .contains("small: cannot write a temporary file: No space left on device; free"),
            "{run:?}"
        );
    }
    // An image for standard output is in that directory first.
    let script = r#"
        cd "$2"; mount -t tmpfs -o size=64k tmpfs small
        TMPDIR=small "$1" tree - | cat; exit ${PIPESTATUS[0]}"#;
    if let Some(run) = with_mounts(script, directory.path()) {
        let why = "mkdaxfs: small: cannot write the image: No space left on device; \
                   free some space, or use another directory (TMPDIR for temporary files)\n";
        assert_eq!((run.status, run.stderr.as_str()), (1, why));
    }
}

#[test]
fn mount_points() {
    let directory = scratch();
    let script = r#"
        cd "$2"; mkdir -p tree/mnt tree/a/b
        mount -t tmpfs tmpfs tree/mnt; echo 1 >tree/mnt/file
        "$1" -q tree image
        mount --bind tree tree/a/b; "$1" tree loop"#;
    if let Some(run) = with_mounts(script, directory.path()) {
        assert_eq!(run.status, 1, "{run:?}");
        let expected =
            "mkdaxfs: tree/a/b: is the same directory as tree above it; unmount it first\n";
        assert_eq!(run.stderr, expected);
        assert!(daxfs_testing::listing_of(&directory.path().join("image"))
            .contains_key(&b"mnt/file"[..]));
        assert!(!directory.path().join("loop").exists());
    }
}
