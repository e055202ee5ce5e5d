// SPDX-License-Identifier: GPL-2.0-only

//! A tree with one of everything that archives can store.

use super::{is_root, place, skip, Place};
use rustix::fs::{lsetxattr, XattrFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Features of an archive format.
#[derive(Clone, Copy, Default)]
pub struct Can {
    /// Nanoseconds.
    pub times: bool,
    /// Times before 1970, with nanoseconds.
    pub early: bool,
    /// Names of any length and of any bytes.
    pub names: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

/// Everything.
pub const ALL: Can = Can {
    times: true,
    early: true,
    names: true,
    xattrs: true,
};

const FILES: &str = r"
    mkdir -p dir/sub/deep 'empty dir' long/$(printf n%.0s {1..90}); : >empty
    printf one >dir/one; head -c 512 /dev/zero | tr '\0' '\7' >dir/block
    head -c 5000 /dev/zero | tr '\0' '\1' >dir/sub/more; (cd long/n*; printf split >prefix)
    truncate -s 1M 'only hole'; mkfifo -m 640 fifo; ln dir/one dir/sub/again; ln huge dir/huge
    ln -s dir/one link; ln -s /absolute/../nowhere dir/dangling";

const NAMES: &str = r"
    printf odd >$'odd\xff\n \\name=1'; long=$(printf l%.0s {1..255}); mkdir -p $long/$long
    printf long >$long/$long/$long; ln $long/$long/$long short
    ln -s $(printf t%.0s {1..500}) 'long target'";

const OWNERS: &str = "chown 1234:60000 dir/one; chown -h 5:6 link";

const MODES: &str = "chmod 3775 dir; chmod 4755 dir/block; chmod 600 empty; chmod 444 huge";

/// Creates the tree in the new directory `tree`.
pub fn make(place: &Place, can: Can) {
    place.shell("mkdir tree");
    let run = |script: &str| place.shell(format!("cd tree; {script}"));
    let huge: Vec<u8> = (0..(2 << 20) + 17u32).map(|n| (n / 3) as u8).collect();
    place.write("tree/huge", huge);
    let sparse = File::create(place.path("tree/sparse")).unwrap();
    let pieces = [(0, 1), (1 << 20, 2), ((1 << 20) + 4096 * 9, 3)];
    // More pieces than one header of the old format holds, and a hole at the end.
    let more = (10..60u64).map(|piece| ((piece << 16) + (2 << 20), piece as u8));
    for (offset, byte) in pieces.into_iter().chain(more) {
        sparse.write_all_at(&[byte; 4096], offset).unwrap();
    }
    sparse.set_len(9 << 20).unwrap();
    run(FILES);
    if can.names {
        run(NAMES);
    }
    if is_root() {
        if place
            .run("cd tree; mknod null c 1 3 && mknod disk b 259 70000")
            .status
            != 0
        {
            skip("devices cannot be made here");
        }
        run(OWNERS);
        if can.names {
            run("chown 3000000:4294967280 empty");
        }
    } else {
        skip("devices and other owners need root");
    }
    run(MODES);
    if can.xattrs {
        let binary: Vec<u8> = (0..=255).collect();
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let all = [
            ("dir/one", "user.text", &b"value"[..]),
            ("dir/one", "user.%=%3D", &binary),
            ("dir", "user.lines", b"\n=\n"),
            ("empty", "user.empty", b""),
            ("dir/block", "security.capability", capability),
        ];
        for (name, attribute, value) in &all[..if is_root() { 5 } else { 4 }] {
            let path = place.path("tree").join(name);
            if lsetxattr(path, *attribute, value, XattrFlags::empty()).is_err() {
                skip(&format!(
                    "the extended attribute {attribute} cannot be stored here"
                ));
            }
        }
    }
    // Every file gets a different time. Directories follow their files.
    let (early, nsec) = (
        if can.early {
            "$((n % 3 ? 1600000000 + n : -5 - n))"
        } else {
            "$((1600000000 + n))"
        },
        if can.times { ".123456789" } else { "" },
    );
    run(&format!(
        "n=0; find . -print0 | sort -zr | while read -rd '' file; do touch -hd @{early}{nsec} \"$file\"; n=$((n + 1)); done"
    ));
}

/// Returns a place with the fixture in `tree`, and its image.
pub fn imaged(can: Can) -> Place {
    let place = place("");
    make(&place, can);
    place.ok("mkdaxfs -q tree image");
    place
}
