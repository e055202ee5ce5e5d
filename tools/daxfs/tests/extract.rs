// SPDX-License-Identifier: GPL-2.0-only

//! Extracting an image to a directory or a tar archive restores the tree; an interrupted extraction
//! leaves nothing.

use crate::support::{available, chmod, fixture, is_root, place, skip, who, Place};
use daxfs_testing::{assert_same, image_of, listing, spec};
use proptest::prelude::*;
use rustix::process::{kill_process, Pid, Signal};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

/// The type bits of a socket.
const SOCKET: u32 = 0o140_000;

/// Unpacks the archive `tar` with the system's tar.
const UNTAR: &str =
    "mkdir untarred; tar --extract --preserve-permissions --numeric-owner --xattrs \
    --xattrs-include='*' --warning=no-timestamp --file tar --directory untarred";

/// Builds the image, and returns the listing of the tree `source`.
fn made(place: &Place) -> listing::Listing {
    image_of(&place.path("source"), &place.path("image")).unwrap();
    listing::of_directory(&place.path("source"))
}

#[track_caller]
fn has(place: &Place, name: &str, expected: &listing::Listing) {
    assert_same(&listing::of_directory(&place.path(name)), expected);
}

/// Checks that the image is extracted as `expected`, including through an archive.
#[track_caller]
fn check(place: &Place, expected: &listing::Listing) {
    place.ok("daxfs extract image target; daxfs extract --tar image tar");
    place.ok(UNTAR);
    has(place, "target", expected);
    has(place, "untarred", expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_goes_in_comes_out(item in spec::tree()) {
        let place = place("");
        spec::create(&item, &place.path("source"), false);
        let mut expected = made(&place);
        place.ok("daxfs extract image target");
        has(&place, "target", &expected);
        // An image of it is identical.
        image_of(&place.path("target"), &place.path("again")).unwrap();
        place.same("again", "image");

        // Standard error lists sockets.
        prop_assert_eq!(place.run("daxfs extract --tar image tar").status, 0);
        // An ordinary user's tar sets the mode first, and may then lack permission for attributes.
        let possible = |entry: &listing::Entry| entry.xattrs.is_empty() || entry.mode & 0o200 != 0;
        if !is_root() && !expected.values().all(possible) {
            return Ok(());
        }
        place.ok(UNTAR);
        expected.retain(|_, entry| entry.mode & 0o170_000 != SOCKET);
        has(&place, "untarred", &expected);
    }
}

#[test]
fn sparse_files_stay_sparse() {
    let place = place("mkdir source; truncate -s 1G source/nothing");
    let create = |name: &str| fs::File::create(place.path("source").join(name)).unwrap();
    let file = create("sparse");
    file.set_len(3 << 30).unwrap();
    for at in [0, 1 << 20, (1 << 30) + 70_000, (3 << 30) - 1] {
        file.write_all_at(b"x", at).unwrap();
    }
    let end = create("hole at the end");
    end.write_all_at(&[1; 100_000], 200_000).unwrap();
    end.set_len(5 << 20).unwrap();
    check(&place, &made(&place));
    assert!(place.path("tar").metadata().unwrap().len() < 1 << 20);
    for name in ["target/sparse", "untarred/sparse"] {
        assert!(place.path(name).metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}

#[test]
fn owners_devices_and_attributes_as_root() {
    if !is_root() {
        return skip("only root can set owners");
    }
    let place = place(
        "mkdir source; cd source; touch a b c; ln -s nowhere link; chown -h 7:8 link
         chown 1000:500 a; chown 4000000000:2000000000 b; chmod 4755 a; chmod 2070 b; chmod 7777 c",
    );
    // Containers may lack permission.
    if place
        .run("cd source; mknod block b 300 70000 && mknod char c 300 70000")
        .status
        != 0
    {
        skip("devices cannot be made here");
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, value) in [
        ("trusted.x=%y", &b"\0z"[..]),
        ("security.capability", &capability),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(place.path("source/a"), name, value, flags).is_err() {
            skip(name);
        }
    }
    check(&place, &made(&place));
    let run = place.run("daxfs extract --no-same-owner image mine");
    let why = "set-id bits left out";
    assert!(run.status == 0 && run.stderr.contains(why), "{run:?}");
    let (uid, _, mode) = who(&place.path("mine/a"));
    assert_eq!((uid, mode), (0, 0o755));
}

#[test]
fn deep_trees_and_long_paths() {
    let place = place("mkdir source");
    let flags = rustix::fs::OFlags::RDONLY;
    // Deeper than the limit on descriptors, longer than the system accepts in one piece.
    let none = rustix::fs::Mode::empty();
    let mut at = rustix::fs::open(place.path("source"), flags, none).unwrap();
    let name = "directory ".repeat(6);
    let all = rustix::fs::Mode::RWXU;
    for _ in 0..1500 {
        rustix::fs::mkdirat(&at, &name, all).unwrap();
        at = rustix::fs::openat(&at, &name, flags, all).unwrap();
    }
    rustix::fs::symlinkat("end", &at, "link").unwrap();
    rustix::fs::linkat(&at, "link", &at, "twice", rustix::fs::AtFlags::empty()).unwrap();
    image_of(&place.path("source"), &place.path("image")).unwrap();
    place.ok("daxfs extract image target");
    image_of(&place.path("target"), &place.path("again")).unwrap();
    place.same("again", "image");
    // The paths are too long for removing the temporary directory.
    place.shell("rm -rf source target");
}

#[test]
fn targets() {
    let place = fixture();
    chmod(place.path("source/dir"), 0o555);
    let expected = made(&place);
    // An empty directory is filled, and receives the root's attributes.
    place.ok("mkdir -m 711 target; daxfs extract image target");
    has(&place, "target", &expected);
    // Nothing is overwritten.
    let end = ": is not empty; name a new or an empty directory\n";
    place.fails("daxfs extract image target", end);
    // Part of the image.
    place.ok("daxfs extract --path=/link/.. image part");
    assert_eq!(place.read("part/below/deep"), vec![7; 10_000]);
    assert_eq!(place.names("."), ["image", "part", "source", "target"]);
    // Otherwise, a user who is not root could not remove them.
    place.shell("chmod 755 source/dir target/dir part");
    // If its attributes cannot be set, a directory stays empty.
    if is_root() && available("strace") {
        place.shell("cp $(command -v daxfs) .; chmod 755 .; mkdir -m 777 other");
        let user = "timeout 60 setpriv --reuid=1000 --clear-groups";
        let extract = format!("{user} ./daxfs extract image other");
        place.fails(extract, "cannot set the mode");
        assert_eq!(place.names("other"), [""; 0]);
        // Another user replaces the directory that is created for the target.
        place.shell("chown 1000 other");
        let swap = "until n=$(ls -A) && [ $n ]; do sleep 0.01; done; mv $n away; mkdir $n";
        let slow = "strace -f -o /dev/null -e inject=?mkdir,mkdirat:delay_exit=3000000";
        let race =
            format!("(cd other; {user} bash -c '{swap}') & {slow} daxfs extract image other/new");
        place.fails(race, "cannot open the directory made for it");
    }
}

/// Runs `daxfs` with `words`, and kills it with a signal as soon as its output appears in
/// `directory`. Returns whether the signal arrived in time.
fn interrupted(place: &Place, words: &[&str], directory: &str) -> bool {
    let mut command = place.command("daxfs");
    let mut child = command.args(words).stdout(Stdio::null()).spawn().unwrap();
    let hidden = || {
        let names = place.names(directory);
        names.iter().any(|name| name.starts_with(".daxfs-"))
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
    status.signal() == Some(Signal::TERM.as_raw())
}

#[test]
fn interrupted_runs_leave_nothing() {
    let place = place("mkdir source out");
    for n in 0..3000 {
        place.write(format!("source/file{n}"), vec![n as u8; 5000]);
    }
    made(&place);
    let mut cut = 0;
    for _ in 0..5 {
        for words in [
            &["extract", "image", "out/target"][..],
            &["extract", "--tar", "image", "out/target"],
        ] {
            if interrupted(&place, words, "out") {
                cut += 1;
                assert!(!place.exists("out/target"));
            }
            place.shell("rm -rf out/target");
        }
        // The same for an existing directory.
        place.shell("mkdir out/target");
        if interrupted(&place, &["extract", "image", "out/target"], "out/target") {
            cut += 1;
            assert_eq!(place.names("out/target"), [""; 0]);
        }
        place.shell("rm -r out/target");
    }
    assert!(cut > 0, "no run was cut");
}
