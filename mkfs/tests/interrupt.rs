// SPDX-License-Identifier: GPL-2.0-only

//! An interrupted run leaves no files.

use crate::support::{place, with_mounts, Place};
use rustix::process::{kill_process, Pid, Signal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A tree that takes minutes to hash, and a directory for the image.
const SLOW: &str = "mkdir tree output; truncate -s 1T tree/sparse";

/// Waits until `done`, at most a minute.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// Starts `command`, and waits until `output` contains this many files. Ignores no signals, unlike
/// background tests.
fn start(place: &Place, command: &mut Command, files: usize) -> Child {
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    wait("no temporary file", || place.names("output").len() == files);
    child
}

/// Ends the program with `signal`. Nothing may remain.
fn end(place: &Place, mut child: Child, signal: Signal) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut status = None;
    wait("it goes on", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().signal(), Some(signal.as_raw()));
    assert_eq!(place.names("output"), [""; 0]);
}

#[test]
fn signals() {
    let place = place(SLOW);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        // Early and late.
        for delay in [0, 300] {
            let mut command = place.command("--default-signal");
            command.args(["mkdaxfs", "tree", "output/image"]);
            let child = start(&place, &mut command, 1);
            sleep(Duration::from_millis(delay));
            end(&place, child, signal);
        }
    }
}

/// A signal arrives while mkdaxfs waits for more of an archive.
#[test]
fn waiting_for_a_pipe() {
    let place = place("mkdir output");
    // The temporary file of an image for standard output has no name.
    for (image, named) in [("output/image", 1), ("-", 0)] {
        let mut command = place.command("--default-signal");
        command.args(["mkdaxfs", "tar:-", image]);
        command
            .env("TMPDIR", place.path("output"))
            .stdout(Stdio::null());
        let mut child = start(&place, command.stdin(Stdio::piped()), named);
        // Waiting for the program would close the pipe.
        let stdin = child.stdin.take();
        sleep(Duration::from_millis(50));
        end(&place, child, Signal::TERM);
        drop(stdin);
    }
}

/// Ignored signals stay ignored, as under nohup(1).
#[test]
fn ignored_signal() {
    let place = place(SLOW);
    let mut command = place.command("bash");
    command.args(["-c", "trap '' HUP; exec mkdaxfs tree output/image"]);
    let mut child = start(&place, &mut command, 1);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none());
    end(&place, child, Signal::TERM);
}

/// Exceeding the file size limit is an error, whether its signal is ignored or not.
#[test]
fn file_size_limit() {
    let place = place("mkdir tree output; head -c 5M /dev/urandom >tree/file");
    let limited = "ulimit -c 0; ulimit -f 1024; exec mkdaxfs tree output/image";
    let why = "image: cannot set the size of the image: File too large; raise the limit";
    for trap in ["", "trap '' XFSZ;"] {
        place.fails(format!("{trap} {limited}"), why);
        assert_eq!(place.names("output"), [""; 0]);
    }
    // The temporary file of an archive from a pipe.
    let why = "output: cannot write a temporary file: File too large; raise the limit";
    let line = "ulimit -f 1024; tar -C tree -c . | mkdaxfs - output/image";
    place.fails(line, why);
    assert_eq!(place.names("output"), [""; 0]);
}

#[test]
fn full_device() {
    let place = place("mkdir tree small; head -c 3000000 /dev/zero | tr '\\0' x >tree/file");
    let script = "mount -t tmpfs -o size=2M tmpfs small
        status=0; mkdaxfs tree small/image || status=$?
        test -z \"$(ls -A small)\"; exit $status";
    if let Some(run) = with_mounts(&place, script) {
        assert_eq!((run.status, run.stderr.lines().count()), (1, 1), "{run:?}");
        let why = "No space left on device; free some space";
        assert!(run.stderr.contains(why), "{run:?}");
    }
}

/// An archive's temporary file does not fit.
#[test]
fn full_temporary_directory() {
    let place = place("mkdir tree small; head -c 3000000 /dev/urandom >tree/file");
    let script = "mount -t tmpfs -o size=2M tmpfs small
        status=0; tar -C tree -c . | TMPDIR=small mkdaxfs - image || status=$?
        test -z \"$(ls -A small)\"; test ! -e image; exit $status";
    if let Some(run) = with_mounts(&place, script) {
        let why = "small: cannot write a temporary file: No space left on device; free";
        assert!(run.status == 1 && run.stderr.contains(why), "{run:?}");
    }
    // An image for standard output is first in that directory.
    let script = "mount -t tmpfs -o size=64k tmpfs small
        TMPDIR=small mkdaxfs tree - | cat; exit ${PIPESTATUS[0]}";
    if let Some(run) = with_mounts(&place, script) {
        let why = "mkdaxfs: small: cannot write the image: No space left on device; \
                   free some space, or use another directory (TMPDIR for temporary files)\n";
        assert_eq!((run.status, run.stderr.as_str()), (1, why));
    }
}

#[test]
fn mount_points() {
    let place = place("mkdir -p tree/mnt tree/a/b");
    let script = "mount -t tmpfs tmpfs tree/mnt; echo 1 >tree/mnt/file
        mkdaxfs -q tree image; mkdaxfs -q --one-file-system tree one
        mount --bind tree tree/a/b; mkdaxfs tree loop";
    if let Some(run) = with_mounts(&place, script) {
        let why = "mkdaxfs: tree/a/b: is the same directory as tree above it; unmount it or leave it out with --exclude\n";
        assert_eq!((run.status, run.stderr.as_str()), (1, why));
        assert!(!place.exists("loop"));
        let (all, one) = (place.listing("image"), place.listing("one"));
        assert!(all.contains_key(&b"mnt/file"[..]) && one.contains_key(&b"mnt"[..]));
        assert_eq!(one.len() + 1, all.len());
    }
}
