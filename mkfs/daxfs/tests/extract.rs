// SPDX-License-Identifier: GPL-2.0-only

//! Extracting an image, to a directory or to a tar archive, restores the tree; an interrupted
//! extraction leaves nothing.

use crate::support::{fail, run, succeed, tree, DAXFS};
use daxfs_testing::{assert_same, image_of, listing, scratch, spec};
use proptest::prelude::*;
use rustix::process::{geteuid, kill_process, Pid, Signal};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The type bits of a socket.
const SOCKET: u32 = 0o140_000;

/// Unpack `archive` with the system's tar.
fn untar(archive: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    let tar = Command::new("tar")
        .args(["--extract", "--preserve-permissions", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*", "--warning=no-timestamp"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tar.stderr);
    assert!(tar.status.success() && said.is_empty(), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_goes_in_comes_out(item in spec::tree()) {
        let scratch = scratch();
        let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
        spec::create(&item, &source, false);
        image_of(&source, &image).unwrap();
        let expected = listing::of_directory(&source);

        let target = scratch.path().join("target");
        succeed(&["extract".as_ref(), image.as_os_str(), target.as_os_str()]);
        assert_same(&listing::of_directory(&target), &expected);
        // An image of it is the same, byte for byte.
        let again = scratch.path().join("again");
        image_of(&target, &again).unwrap();
        assert!(fs::read(&again).unwrap() == fs::read(&image).unwrap());
        let same = succeed(&["diff".as_ref(), image.as_os_str(), source.as_os_str()]);
        assert_eq!(same.text(), "");

        let (archive, target) = (scratch.path().join("tar"), scratch.path().join("untarred"));
        let made = run(&["extract".as_ref(), "--tar".as_ref(), image.as_os_str(), archive.as_os_str()]);
        assert_eq!(made.status, 0);
        let mut expected = expected;
        // As an ordinary user tar sets the mode first, after which it may not set attributes.
        let possible = |entry: &listing::Entry| entry.xattrs.is_empty() || entry.mode & 0o200 != 0;
        if !geteuid().is_root() && !expected.values().all(possible) {
            return Ok(());
        }
        untar(&archive, &target);
        expected.retain(|_, entry| entry.mode & 0o170_000 != SOCKET);
        assert_same(&listing::of_directory(&target), &expected);
    }
}

#[test]
fn sparse_files_stay_sparse() {
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    fs::create_dir(&source).unwrap();
    let file = fs::File::create(source.join("sparse")).unwrap();
    file.set_len(3 << 30).unwrap();
    for at in [0, 1 << 20, (1 << 30) + 70_000, (3 << 30) - 1] {
        file.write_all_at(b"x", at).unwrap();
    }
    let end = fs::File::create(source.join("hole at the end")).unwrap();
    end.write_all_at(&[1; 100_000], 200_000).unwrap();
    end.set_len(5 << 20).unwrap();
    fs::File::create(source.join("nothing"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    image_of(&source, &image).unwrap();
    let expected = listing::of_directory(&source);

    let target = scratch.path().join("target");
    succeed(&["extract".as_ref(), image.as_os_str(), target.as_os_str()]);
    assert_same(&listing::of_directory(&target), &expected);
    assert!(fs::metadata(target.join("sparse")).unwrap().blocks() * 512 < 1 << 20);

    let (archive, target) = (scratch.path().join("tar"), scratch.path().join("untarred"));
    succeed(&[
        "extract".as_ref(),
        "--tar".as_ref(),
        image.as_os_str(),
        archive.as_os_str(),
    ]);
    assert!(fs::metadata(&archive).unwrap().len() < 1 << 20);
    untar(&archive, &target);
    assert_same(&listing::of_directory(&target), &expected);
    assert!(fs::metadata(target.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn owners_devices_and_attributes_as_root() {
    if !geteuid().is_root() {
        println!("skipped: only root can set owners");
        return;
    }
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    fs::create_dir(&source).unwrap();
    for (name, uid, mode) in [
        ("a", 1000, 0o4755),
        ("b", 4_000_000_000, 0o2070),
        ("c", 0, 0o7777),
    ] {
        let path = source.join(name);
        fs::write(&path, name).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(uid / 2)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", source.join("link")).unwrap();
    std::os::unix::fs::lchown(source.join("link"), Some(7), Some(8)).unwrap();
    let cwd = rustix::fs::CWD;
    let device = rustix::fs::makedev(300, 70_000);
    let mode = rustix::fs::Mode::RUSR;
    for (name, kind) in [
        ("block", rustix::fs::FileType::BlockDevice),
        ("char", rustix::fs::FileType::CharacterDevice),
    ] {
        // Containers may not.
        if rustix::fs::mknodat(cwd, source.join(name), kind, mode, device).is_err() {
            println!("without devices");
        }
    }
    let set = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join("a"), name, value, flags).is_ok()
    };
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let stored = (
        set("trusted.x=%y", b"\0z"),
        set("security.capability", &capability),
    );
    println!("trusted and security attributes: {stored:?}");
    image_of(&source, &image).unwrap();
    let expected = listing::of_directory(&source);
    let target = scratch.path().join("target");
    succeed(&["extract".as_ref(), image.as_os_str(), target.as_os_str()]);
    assert_same(&listing::of_directory(&target), &expected);
    let (archive, target) = (scratch.path().join("tar"), scratch.path().join("untarred"));
    succeed(&[
        "extract".as_ref(),
        "--tar".as_ref(),
        image.as_os_str(),
        archive.as_os_str(),
    ]);
    untar(&archive, &target);
    assert_same(&listing::of_directory(&target), &expected);
    let target = scratch.path().join("mine");
    let no = "--no-same-owner".as_ref();
    let run = run(&[
        "extract".as_ref(),
        no,
        image.as_os_str(),
        target.as_os_str(),
    ]);
    assert_eq!(run.status, 0);
    assert!(
        run.stderr.contains("set-id bits left out"),
        "{}",
        run.stderr
    );
    let metadata = fs::metadata(target.join("a")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o755));
}

#[test]
fn deep_trees_and_long_paths() {
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    // Deeper than descriptors last, longer than the system takes in one piece.
    fs::create_dir(&source).unwrap();
    let root = rustix::fs::open(
        &source,
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let mut at = root.unwrap();
    let name = "directory ".repeat(6);
    let all = rustix::fs::Mode::RWXU;
    for _ in 0..1500 {
        rustix::fs::mkdirat(&at, &name, all).unwrap();
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::RDONLY, all).unwrap();
    }
    rustix::fs::symlinkat("end", &at, "link").unwrap();
    rustix::fs::linkat(&at, "link", &at, "twice", rustix::fs::AtFlags::empty()).unwrap();
    image_of(&source, &image).unwrap();
    let target = scratch.path().join("target");
    succeed(&["extract".as_ref(), image.as_os_str(), target.as_os_str()]);
    let again = scratch.path().join("again");
    image_of(&target, &again).unwrap();
    assert!(fs::read(&again).unwrap() == fs::read(&image).unwrap());
    // The paths are too long for the removal of the temporary directory.
    for tree in [&source, &target] {
        let status = Command::new("rm").arg("-rf").arg(tree).status().unwrap();
        assert!(status.success());
    }
}

#[test]
fn targets() {
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    fs::create_dir(&source).unwrap();
    tree(&source);
    fs::set_permissions(source.join("dir"), fs::Permissions::from_mode(0o555)).unwrap();
    image_of(&source, &image).unwrap();
    let expected = listing::of_directory(&source);
    // An empty directory is filled, and gets the root's attributes.
    let target = scratch.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o711)).unwrap();
    succeed(&["extract".as_ref(), image.as_os_str(), target.as_os_str()]);
    assert_same(&listing::of_directory(&target), &expected);
    // Nothing is overwritten.
    let line = fail(
        &["extract".as_ref(), image.as_os_str(), target.as_os_str()],
        1,
    );
    assert!(
        line.ends_with(": is not empty; name a new or an empty directory\n"),
        "{line}"
    );
    let line = fail(
        &["extract".as_ref(), image.as_os_str(), image.as_os_str()],
        1,
    );
    assert!(
        line.contains("cannot extract to it: Not a directory"),
        "{line}"
    );
    let missing = scratch.path().join("missing/target");
    let line = fail(
        &["extract".as_ref(), image.as_os_str(), missing.as_os_str()],
        1,
    );
    assert!(
        line.ends_with("No such file or directory; create its parent directory first\n"),
        "{line}"
    );
    // A part.
    let part = scratch.path().join("part");
    let arguments = [
        "extract".as_ref(),
        "--path=/link/..".as_ref(),
        image.as_os_str(),
        part.as_os_str(),
    ];
    succeed(&arguments);
    assert_eq!(fs::read(part.join("below/deep")).unwrap(), vec![7; 10_000]);
    let no = scratch.path().join("no");
    let line = fail(
        &[
            "extract".as_ref(),
            "--path=/file".as_ref(),
            image.as_os_str(),
            no.as_os_str(),
        ],
        1,
    );
    assert!(line.contains("is not a directory"), "{line}");
    let names = |path: &Path| {
        let mut names: Vec<_> = path
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(scratch.path()), ["image", "part", "source", "target"]);
    // A user who is not root could not remove them otherwise.
    for dir in ["source/dir", "target/dir", "part"] {
        let dir = scratch.path().join(dir);
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Run `daxfs extract` with `arguments` and ends it by a signal as soon as something of it is to be
/// seen in `directory`. Return whether the signal came in time.
fn interrupted(arguments: &[&std::ffi::OsStr], directory: &Path, output: Stdio) -> bool {
    let mut child = Command::new(DAXFS)
        .arg("extract")
        .args(arguments)
        .stdout(output)
        .spawn()
        .unwrap();
    let hidden = || {
        let mut entries = directory.read_dir().unwrap();
        entries.any(|entry| {
            entry
                .unwrap()
                .file_name()
                .as_encoded_bytes()
                .starts_with(b".daxfs-")
        })
    };
    for _ in 0..10_000 {
        if hidden() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    let status = child.wait().unwrap();
    assert!(!hidden(), "something is left");
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw())
}

#[test]
fn interrupted_runs_leave_nothing() {
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    fs::create_dir(&source).unwrap();
    for n in 0..3000 {
        fs::write(source.join(format!("file{n}")), vec![n as u8; 5000]).unwrap();
    }
    image_of(&source, &image).unwrap();
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    let target = out.join("target");
    let mut cut = 0;
    for _ in 0..5 {
        if interrupted(
            &[image.as_os_str(), target.as_os_str()],
            &out,
            Stdio::null(),
        ) {
            cut += 1;
            assert!(!target.exists());
        } else {
            fs::remove_dir_all(&target).unwrap();
        }
        if interrupted(
            &["--tar".as_ref(), image.as_os_str(), target.as_os_str()],
            &out,
            Stdio::null(),
        ) {
            cut += 1;
            assert!(!target.exists());
        } else {
            fs::remove_file(&target).unwrap();
        }
        // The same into a directory that exists.
        fs::create_dir(&target).unwrap();
        if interrupted(
            &[image.as_os_str(), target.as_os_str()],
            &target,
            Stdio::null(),
        ) {
            cut += 1;
            assert_eq!(target.read_dir().unwrap().count(), 0);
        }
        fs::remove_dir_all(&target).unwrap();
    }
    assert!(cut > 0, "no run was cut");
}

#[test]
fn full_disk_and_closed_pipe() {
    let scratch = scratch();
    let (source, image) = (scratch.path().join("source"), scratch.path().join("image"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), vec![3; 1 << 20]).unwrap();
    image_of(&source, &image).unwrap();
    // /dev/full takes nothing.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(DAXFS)
        .args([
            "extract".as_ref(),
            "--tar".as_ref(),
            image.as_os_str(),
            "-".as_ref(),
        ])
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said,
        "daxfs: standard output: cannot write: No space left on device; free some space\n"
    );
    // A reader that has seen enough stops it without a message.
    for arguments in [vec!["extract", "--tar"], vec!["cat"]] {
        let last = if arguments[0] == "cat" { "/file" } else { "-" };
        let mut child = Command::new(DAXFS)
            .args(arguments)
            .args([image.as_os_str(), last.as_ref()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(
            (signal, output.stderr),
            (Some(Signal::PIPE.as_raw()), Vec::new())
        );
    }
}
