// SPDX-License-Identifier: GPL-2.0-only

//! Owners and devices that fakeroot(1) pretends are not lost silently.

use crate::support::{available, run, skip};
use daxfs_testing::{listing_of, scratch};
use std::fs;
use std::process::Command;

#[test]
fn owners_and_devices() {
    if !available("fakeroot") {
        return skip("no fakeroot");
    }
    let directory = scratch();
    let at = directory.path();
    let fakeroot = |script: &str| {
        let mut command = Command::new("fakeroot");
        command.args(["sh", "-ec", script]).current_dir(at);
        run(command.env("MKDAXFS", env!("CARGO_BIN_EXE_mkdaxfs")))
    };
    fs::create_dir(at.join("tree")).unwrap();
    let make = "mknod tree/device b 8 1; touch tree/file; chown 12:34 tree/file";
    let refused = fakeroot(&format!("{make}; \"$MKDAXFS\" tree image"));
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("tree: the owners and devices that fakeroot pretends cannot be seen"),
        "{refused:?}"
    );
    assert!(!at.join("image").exists());
    fs::remove_dir_all(at.join("tree")).unwrap();
    fs::create_dir(at.join("tree")).unwrap();

    // Run the command that the message suggests.
    let start = refused.stderr.find("tar --format").unwrap();
    let remedy = refused.stderr[start..].trim_end();
    let remedy = remedy
        .replace("DIRECTORY", "tree")
        .replace("mkdaxfs", "\"$MKDAXFS\"");
    let made = fakeroot(&format!("{make}; {}", remedy.replace("IMAGE", "image")));
    assert_eq!(made.status, 0, "{made:?}");
    let listing = listing_of(&at.join("image"));
    let file = &listing[&b"file"[..]];
    assert_eq!((file.uid, file.gid), (12, 34));
    assert_eq!(listing[&b"device"[..]].mode & 0o170_000, 0o060_000);
    // Without the key, fakeroot pretends nothing.
    let plain = fakeroot("unset FAKEROOTKEY; \"$MKDAXFS\" tree plain");
    assert_eq!(plain.status, 0, "{plain:?}");
}
