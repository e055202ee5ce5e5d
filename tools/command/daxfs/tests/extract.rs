// SPDX-License-Identifier: GPL-2.0-only

//! Extracting an image, to a directory or to a tar archive, restores the tree; an interrupted
//! extraction leaves nothing.

use crate::support::{fail, run, succeed, tree, DAXFS};
use daxfs_testing::{assert_same, image_of, listing, scratch, spec};
use proptest::prelude::*;
use rustix::process::{geteuid, kill_process, Pid, Signal};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
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

/// A tree, the place of its image, and more room.
struct Trip {
    scratch: tempfile::TempDir,
    source: PathBuf,
    image: PathBuf,
}

impl Trip {
    fn new() -> Self {
        let scratch = scratch();
        let [source, image] = ["source", "image"].map(|name| scratch.path().join(name));
        fs::create_dir(&source).unwrap();
        Trip {
            scratch,
            source,
            image,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Make the image, and return what is in the tree.
    fn made(&self) -> listing::Listing {
        image_of(&self.source, &self.image).unwrap();
        listing::of_directory(&self.source)
    }

    /// Return the words that extract to `target`.
    fn words(&self, options: &[&str], target: &Path) -> Vec<OsString> {
        let words = ["extract"].iter().chain(options).map(OsString::from);
        words
            .chain([self.image.clone().into(), target.into()])
            .collect()
    }

    /// Extract to `name`, and return the path.
    fn extract(&self, options: &[&str], name: &str) -> PathBuf {
        let target = self.at(name);
        succeed(&self.words(options, &target));
        target
    }

    /// Check that the image is extracted as `expected`, through an archive as well.
    fn check(&self, expected: &listing::Listing) {
        let target = self.extract(&[], "target");
        assert_same(&listing::of_directory(&target), expected);
        let archive = self.extract(&["--tar"], "tar");
        untar(&archive, &self.at("untarred"));
        assert_same(&listing::of_directory(&self.at("untarred")), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_goes_in_comes_out(item in spec::tree()) {
        let trip = Trip::new();
        fs::remove_dir(&trip.source).unwrap();
        spec::create(&item, &trip.source, false);
        let mut expected = trip.made();
        let target = trip.extract(&[], "target");
        assert_same(&listing::of_directory(&target), &expected);
        // An image of it is the same, byte for byte.
        let again = trip.at("again");
        image_of(&target, &again).unwrap();
        assert!(fs::read(&again).unwrap() == fs::read(&trip.image).unwrap());
        let same = succeed(&["diff".as_ref(), trip.image.as_os_str(), trip.source.as_os_str()]);
        assert_eq!(same.text(), "");

        let (archive, target) = (trip.at("tar"), trip.at("untarred"));
        // Sockets are named on standard error.
        assert_eq!(run(&trip.words(&["--tar"], &archive)).status, 0);
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
    let trip = Trip::new();
    let create = |name| fs::File::create(trip.source.join(name)).unwrap();
    let file = create("sparse");
    file.set_len(3 << 30).unwrap();
    for at in [0, 1 << 20, (1 << 30) + 70_000, (3 << 30) - 1] {
        file.write_all_at(b"x", at).unwrap();
    }
    let end = create("hole at the end");
    end.write_all_at(&[1; 100_000], 200_000).unwrap();
    end.set_len(5 << 20).unwrap();
    create("nothing").set_len(1 << 30).unwrap();
    trip.check(&trip.made());
    assert!(fs::metadata(trip.at("tar")).unwrap().len() < 1 << 20);
    for tree in ["target", "untarred"] {
        let sparse = fs::metadata(trip.at(tree).join("sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 1 << 20);
    }
}

#[test]
fn owners_devices_and_attributes_as_root() {
    if !geteuid().is_root() {
        println!("skipped: only root can set owners");
        return;
    }
    let trip = Trip::new();
    let source = &trip.source;
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
    trip.check(&trip.made());
    let target = trip.at("mine");
    let run = run(&trip.words(&["--no-same-owner"], &target));
    assert_eq!(run.status, 0);
    assert!(run.stderr.contains("set-id bits left out"), "{run:?}");
    let metadata = fs::metadata(target.join("a")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o755));
}

#[test]
fn deep_trees_and_long_paths() {
    let trip = Trip::new();
    let flags = rustix::fs::OFlags::RDONLY;
    // Deeper than descriptors last, longer than the system takes in one piece.
    let mut at = rustix::fs::open(&trip.source, flags, rustix::fs::Mode::empty()).unwrap();
    let name = "directory ".repeat(6);
    let all = rustix::fs::Mode::RWXU;
    for _ in 0..1500 {
        rustix::fs::mkdirat(&at, &name, all).unwrap();
        at = rustix::fs::openat(&at, &name, flags, all).unwrap();
    }
    rustix::fs::symlinkat("end", &at, "link").unwrap();
    rustix::fs::linkat(&at, "link", &at, "twice", rustix::fs::AtFlags::empty()).unwrap();
    image_of(&trip.source, &trip.image).unwrap();
    let target = trip.extract(&[], "target");
    let again = trip.at("again");
    image_of(&target, &again).unwrap();
    assert!(fs::read(&again).unwrap() == fs::read(&trip.image).unwrap());
    // The paths are too long for the removal of the temporary directory.
    for tree in [&trip.source, &target] {
        let status = Command::new("rm").arg("-rf").arg(tree).status().unwrap();
        assert!(status.success());
    }
}

#[test]
fn targets() {
    let trip = Trip::new();
    tree(&trip.source);
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(&trip.source.join("dir"), 0o555);
    let expected = trip.made();
    // An empty directory is filled, and gets the root's attributes.
    let target = trip.at("target");
    fs::create_dir(&target).unwrap();
    chmod(&target, 0o711);
    trip.extract(&[], "target");
    assert_same(&listing::of_directory(&target), &expected);
    // Nothing is overwritten.
    let line = fail(&trip.words(&[], &target), 1);
    let end = ": is not empty; name a new or an empty directory\n";
    assert!(line.ends_with(end), "{line}");
    // A part.
    let part = trip.extract(&["--path=/link/.."], "part");
    assert_eq!(fs::read(part.join("below/deep")).unwrap(), vec![7; 10_000]);
    let entries = trip.scratch.path().read_dir().unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["image", "part", "source", "target"]);
    // A user who is not root could not remove them otherwise.
    for dir in ["source/dir", "target/dir", "part"] {
        chmod(&trip.at(dir), 0o755);
    }
}

/// Run `daxfs` with `words` and end it by a signal as soon as something of it is to be seen in
/// `directory`. Return whether the signal came in time.
fn interrupted(words: &[OsString], directory: &Path) -> bool {
    let mut child = Command::new(DAXFS)
        .args(words)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let hidden = || {
        let mut names = directory
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.any(|name| name.as_encoded_bytes().starts_with(b".daxfs-"))
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
    let trip = Trip::new();
    for n in 0..3000 {
        fs::write(trip.source.join(format!("file{n}")), vec![n as u8; 5000]).unwrap();
    }
    image_of(&trip.source, &trip.image).unwrap();
    let out = trip.at("out");
    fs::create_dir(&out).unwrap();
    let target = out.join("target");
    let mut cut = 0;
    for _ in 0..5 {
        for options in [&[][..], &["--tar"]] {
            if interrupted(&trip.words(options, &target), &out) {
                cut += 1;
                assert!(!target.exists());
            } else if options.is_empty() {
                fs::remove_dir_all(&target).unwrap();
            } else {
                fs::remove_file(&target).unwrap();
            }
        }
        // The same into a directory that exists.
        fs::create_dir(&target).unwrap();
        if interrupted(&trip.words(&[], &target), &target) {
            cut += 1;
            assert_eq!(target.read_dir().unwrap().count(), 0);
        }
        fs::remove_dir_all(&target).unwrap();
    }
    assert!(cut > 0, "no run was cut");
}

#[test]
fn full_disk_and_closed_pipe() {
    let trip = Trip::new();
    fs::write(trip.source.join("file"), vec![3; 1 << 20]).unwrap();
    image_of(&trip.source, &trip.image).unwrap();
    let archive = trip.words(&["--tar"], Path::new("-"));
    // /dev/full takes nothing.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(DAXFS)
        .args(&archive)
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
    let cat = ["cat".into(), trip.image.clone().into(), "/file".into()];
    for words in [&archive[..], &cat] {
        let mut command = Command::new(DAXFS);
        command
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let expected = (Some(Signal::PIPE.as_raw()), Vec::new());
        assert_eq!((signal, output.stderr), expected);
    }
}
