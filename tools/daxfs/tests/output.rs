// SPDX-License-Identifier: GPL-2.0-only

//! Output of the commands: it is complete or an error, and nothing in use is overwritten.

use crate::support::{available, chmod, fixture, is_root, place, skip, who};
use daxfs_testing::image_of;

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
