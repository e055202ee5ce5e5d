// SPDX-License-Identifier: GPL-2.0-only

//! Output of the commands: it is complete or an error, and nothing in use is overwritten.

use crate::support::{available, chmod, fixture, is_root, place, skip, who};
use daxfs_testing::image_of;

/// /dev/full, a closed descriptor and a read-only one cause errors. A closed pipe does not.
#[test]
fn full_and_closed_standard_output() {
    let place = fixture();
    place.ok("daxfs store init store; mkdir empty");
    image_of(&place.path("empty"), &place.path("other")).unwrap();
    for (line, status) in [
        ("daxfs info image", 1),
        ("daxfs info --json image", 1),
        ("daxfs info --udev image", 1),
        ("daxfs ls -lR image", 1),
        ("daxfs stat image /file", 1),
        ("daxfs dump image", 1),
        ("daxfs digest image", 1),
        ("daxfs cat image file", 1),
        ("daxfs extract --tar image -", 1),
        ("daxfs diff image other", 2),
        ("daxfs store list store", 1),
        ("daxfs fsck image", 8),
        ("fsck.daxfs -a image", 8),
        ("fsck.daxfs -V", 8),
        ("daxfs --help", 1),
        ("daxfs ls --help", 1),
        ("mount.daxfs --version", 1),
    ] {
        for (output, why) in [
            (">/dev/full", "No space left on device; free some space"),
            (">&-", "Bad file descriptor"),
            ("1</dev/null", "Bad file descriptor"),
        ] {
            let told = place.run(format!("{line} {output}"));
            assert_eq!(told.status, status, "{line} {output}: {told:?}");
            let why = format!("standard output: cannot write: {why}\n");
            assert!(told.stderr.ends_with(&why), "{line} {output}: {told:?}");
        }
        // SIGPIPE ends the command.
        let closed = place.ok(format!("exec 3> >(:); wait $!; {line} >&3; echo $?"));
        assert_eq!(closed.text(), "141\n", "{line}");
    }
}

/// An image is truncated or replaced while a command waits for the reader of its output.
#[test]
fn images_that_change() {
    let place =
        place("mkdir one two; for dir in one two; do head -c 9M /dev/urandom >$dir/big; done");
    for name in ["one", "two"] {
        image_of(&place.path(name), &place.path(format!("{name}.img"))).unwrap();
    }
    let (short, other) = ("the file is too short", "another image took its place");
    // Successful reads cannot detect other changes, until another image appears.
    let modified = "was modified while it was read";
    for (change, why) in [
        ("truncate -s 6M image", short),
        (": >image", short),
        ("cp two.img image", other),
        ("(: >image; sleep 0.1; cp two.img image)", other),
        ("truncate -s +1 image", modified),
    ] {
        for line in ["daxfs cat image /big", "daxfs extract --tar image -"] {
            let reader = format!("(head -c 9 >start; {change}; cat >rest)");
            let run = place.run(format!(
                "cp one.img image; {line} | {reader}; exit ${{PIPESTATUS[0]}}"
            ));
            assert_eq!(run.status, 1, "{line}, {change}: {run:?}");
            let said = [why, modified].iter().any(|why| run.stderr.contains(why));
            let named = run.stderr.starts_with("daxfs: image: ");
            assert!(said && named, "{line}, {change}: {run:?}");
        }
    }
}

#[test]
fn archives_that_exist() {
    let place = fixture();
    place.shell("printf precious >archive.tar; ln -s image link");
    let size = || place.read("archive.tar").len();
    place.mistakes(
        "daxfs extract --tar image archive.tar | 1 | archive.tar: exists; name another file, or give --force to overwrite it
         daxfs extract --tar --force image image | 1 | is an input as well
         daxfs extract --tar --force image link | 1 | is an input as well
         daxfs extract --force image directory | 2 | --tar",
    );
    place.run("daxfs extract --tar --force image archive.tar");
    assert!(size() > 10_000);
    place.run(": >archive.tar; daxfs extract -t image archive.tar");
    assert!(size() > 10_000);
}

/// An archive is as private as the file that it replaces, even through a symbolic link.
#[test]
fn private_archives() {
    let place = fixture();
    place.shell("ln -s archive.tar link");
    let archive = place.path("archive.tar");
    for target in ["archive.tar", "link"] {
        place.write("archive.tar", "old");
        chmod(&archive, 0o600);
        if is_root() {
            std::os::unix::fs::chown(&archive, Some(1000), Some(1001)).unwrap();
        }
        let before = who(&archive);
        place.says(format!("daxfs extract -tf image {target}"), 0, "");
        assert_eq!(who(&archive), before);
        assert!(place.read("archive.tar").len() > 10_000);
        place.shell("test -L link");
    }
}

/// GNU tar and bsdtar both restore the lists with `--acls`, which reads only the text form.
#[test]
fn lists_survive_tar_programs() {
    let place = place("mkdir -p source/dir; : >source/file");
    let set = "setfacl -m u:12:rwx,g:34:r,m::x,d:u:56:rw,d:g::- source/dir &&
               setfacl -m u:12:rwx,g::rw,m::- source/file";
    if place.run(set).status != 0 {
        return skip("setfacl cannot set an access control list");
    }
    let lists = |tree: &str| place.ok(format!("cd {tree} && getfacl -n dir file")).stdout;
    let expected = lists("source");
    let shown = String::from_utf8_lossy(&expected);
    assert_eq!(shown.matches("user:12:").count(), 2, "{shown}");
    assert!(shown.contains("default:user:56:rw-"), "{shown}");
    image_of(&place.path("source"), &place.path("image")).unwrap();
    place.ok("daxfs extract --tar image archive");
    for program in ["tar", "bsdtar"] {
        if available(program) {
            place.shell(format!(
                "mkdir {program}; {program} --acls -xpf archive -C {program}"
            ));
            assert_eq!(lists(program), expected, "{program}");
        }
    }
}
