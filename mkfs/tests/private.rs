// SPDX-License-Identifier: GPL-2.0-only

//! An image that replaces another file is as private as that file, from its first byte on.

use crate::support::{chmod, is_root, place, skip, who, Place};
use std::io::Write;
use std::os::unix::fs::chown;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An ordinary user.
const USER: u32 = 1000;

/// A tree and an archive of it.
const FILES: &str = "mkdir tree; echo secret >tree/shadow; tar -cf tree.tar tree";

/// Changes the file's owner to another user if possible. Returns who may read it then.
fn give(place: &Place, name: &str, mode: u32) -> (u32, u32, u32) {
    let path = place.path(name);
    if is_root() {
        chown(&path, Some(USER), Some(USER + 1)).unwrap()
    } else {
        skip("other owners need root")
    }
    chmod(&path, mode);
    who(&path)
}

#[test]
fn owner_and_mode() {
    let place = place(&format!("{FILES}; mkdaxfs -q tree image; echo >notes"));
    let image = place.path("image");
    for mode in [0o600, 0o440, 0o666, 0o000] {
        let before = give(&place, "image", mode);
        place.ok("mkdaxfs -q tree image");
        assert_eq!(who(&image), before);
    }
    // Set-id bits have a meaning only for programs.
    chmod(&image, 0o4755);
    place.ok("mkdaxfs -q tree image");
    assert_eq!(who(&image).2, 0o755);
    // A symbolic link stays, a hard link keeps the old image.
    let before = give(&place, "image", 0o640);
    let old = place.read("image");
    place.ok("ln -s image link; ln image hard; mkdaxfs -q --label=new tree link; test -L link");
    assert_eq!((who(&image), who(&place.path("hard"))), (before, before));
    assert!(place.read("hard") == old && place.read("image") != old);
    // Other files.
    let before = give(&place, "notes", 0o604);
    place.ok("mkdaxfs -q --force tree notes");
    assert_eq!(who(&place.path("notes")), before);
    // New files follow the umask.
    place.ok("rm image; umask 026; mkdaxfs -q tree image");
    assert_eq!(who(&image).2, 0o640);
}

/// Waits until a program that reads input has the temporary file `wanted`.
fn temporary_is(place: &Place, wanted: (u32, u32, u32)) {
    let start = Instant::now();
    let is_wanted = || {
        let mut names = place.names(".").into_iter();
        let name = names.find(|name| name.starts_with(".mkdaxfs-"));
        name.is_some_and(|name| who(&place.path(name)) == wanted)
    };
    while !is_wanted() {
        assert!(start.elapsed() < Duration::from_secs(60), "{wanted:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn from_the_first_byte() {
    let place = place(&format!("{FILES}; : >image"));
    let before = give(&place, "image", 0o600);
    let mut command = place.command("mkdaxfs");
    command.args(["-q", "--force", "-", "image"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    temporary_is(&place, before);
    // It becomes private while the image is made.
    chmod(place.path("image"), 0o400);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&place.read("tree.tar")).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(who(&place.path("image")), (before.0, before.1, 0o400));
}

#[test]
fn access_control_lists() {
    let place = place(&format!("{FILES}; mkdaxfs -q tree image; chmod 600 image"));
    if place.run("setfacl -m u:1234:r image").status != 0 {
        return skip("no access control lists here");
    }
    let list = || place.ok("getfacl -cpn image").stdout;
    let before = list();
    assert!(String::from_utf8_lossy(&before).contains("user:1234:r--"));
    place.ok("mkdaxfs -q tree image");
    assert_eq!(list(), before);
    // New files would inherit a list from the directory.
    place.shell("setfacl -b image; setfacl -d -m u:1234:rw .; chmod 640 image");
    let before = list();
    place.ok("mkdaxfs -q tree image");
    assert_eq!(list(), before);
}

/// A user who cannot give files away excludes everyone else.
#[test]
fn ordinary_user() {
    if !is_root() {
        return skip("files of several users need root");
    }
    // The user may execute a copy of the program, and has a second group.
    let user = format!(
        "setpriv --reuid={USER} --regid={USER} --groups={USER},{}",
        USER + 1
    );
    let replace = format!("{user} ./mkdaxfs -q -f tree own/image");
    let place = place(&format!(
        "{FILES}; cp $(command -v mkdaxfs) .; chmod 755 .; mkdir own; chown {USER}:{USER} own"
    ));
    let image = place.path("own/image");
    for (uid, gid, mode, expected) in [
        (USER, USER, 0o600, (USER, USER, 0o600)),
        (USER, USER + 1, 0o640, (USER, USER + 1, 0o640)),
        // One of the user's groups stays.
        (0, USER + 1, 0o640, (USER, USER + 1, 0o640)),
        // Any other group does not, and its members become others.
        (0, 0, 0o644, (USER, USER, 0o644)),
        (0, 0, 0o640, (USER, USER, 0o600)),
        (0, 0, 0o604, (USER, USER, 0o600)),
        (0, 0, 0o664, (USER, USER, 0o644)),
    ] {
        place.write("own/image", "old");
        chown(&image, Some(uid), Some(gid)).unwrap();
        chmod(&image, mode);
        place.ok(&replace);
        assert_eq!(who(&image), expected, "{uid} {gid} {mode:o}");
        place.shell("rm own/image");
    }
    // Where the user has no write permission, nothing is left or changed.
    place.shell("chown 0:0 own; printf old >own/image; chmod 666 own/image");
    place.fails(&replace, "may write there");
    assert_eq!(place.read("own/image"), b"old");
    assert_eq!(place.names("own"), ["image"]);
}

/// Another user may have planted a file or link under the output's name in a directory such as
/// /tmp. That user cannot read the image, and cannot choose where it goes.
#[test]
fn planted() {
    if !is_root() {
        return skip("needs root");
    }
    let place = place(&format!(
        "{FILES}; mkdir shared; chmod 1777 shared; mkdaxfs -q tree shared/image; cp shared/image mine
         chown {USER}:{USER} shared/image; ln -s $PWD/mine shared/link; chown -h {USER}:{USER} shared/link"
    ));
    place.ok("mkdaxfs -q tree shared/image");
    assert_eq!(who(&place.path("shared/image")), (0, 0, 0o600));
    let before = place.read("mine");
    place.fails("mkdaxfs -q tree shared/link", "link of another user");
    assert!(place.read("mine") == before);
}
