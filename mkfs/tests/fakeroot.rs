// SPDX-License-Identifier: GPL-2.0-only

//! Owners and devices faked by fakeroot(1) are not lost silently.

use crate::support::{available, place};

#[test]
fn owners_and_devices() {
    if !available("fakeroot") {
        return;
    }
    let place = place("mkdir tree");
    let make = "mknod tree/device b 8 1; touch tree/file; chown 12:34 tree/file";
    let why = "tree: the owners and devices that fakeroot pretends cannot be seen";
    let refused = place.fails(format!("fakeroot sh -ec '{make}; mkdaxfs tree image'"), why);
    place.shell("test ! -e image; rm tree/*");

    // Runs the command that the message suggests.
    let start = refused.find("tar --format").unwrap();
    let remedy = refused[start..].trim_end();
    let remedy = remedy
        .replace("DIRECTORY", "tree")
        .replace("IMAGE", "image");
    place.shell(format!("fakeroot sh -ec '{make}; {remedy}'"));
    let listing = place.listing("image");
    let file = &listing[&b"file"[..]];
    assert_eq!((file.uid, file.gid), (12, 34));
    assert_eq!(listing[&b"device"[..]].mode & 0o170_000, 0o060_000);
    // Without the key, fakeroot fakes nothing.
    place.ok("fakeroot sh -c 'unset FAKEROOTKEY; mkdaxfs tree plain'");
}
