// SPDX-License-Identifier: GPL-2.0-only

//! Images preserve all files: extreme sizes, times and names, and every file type.

use crate::support::{is_root, place, skip, Place};
use daxfs_reader::Content;
use daxfs_testing::builder::access_list;
use daxfs_testing::listing::{of_directory, What};
use daxfs_testing::{assert_same, inodes_of};
use rustix::fs::{
    fsetxattr, lsetxattr, mkdirat, mknodat, openat, FileType, Mode, OFlags, XattrFlags, CWD,
};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, FileExt, MetadataExt};

/// Builds `image` from `tree` and compares the two.
#[track_caller]
fn round_trip(place: &Place) {
    place.ok("mkdaxfs -q tree image");
    assert_same(&place.listing("image"), &of_directory(&place.path("tree")));
}

#[test]
fn names_of_every_byte_and_length() {
    let place = place("mkdir tree");
    let tree = place.path("tree");
    for byte in (1..=255u8).filter(|&byte| byte != b'/') {
        fs::write(tree.join(OsStr::from_bytes(&[byte, b'_'])), [byte]).unwrap();
        fs::write(tree.join(OsStr::from_bytes(&[byte; 255])), [byte]).unwrap();
    }
    for length in 1..=255 {
        fs::write(tree.join("n".repeat(length)), "").unwrap();
    }
    symlink("t".repeat(4095), tree.join("longest target")).unwrap();
    round_trip(&place);
}

/// A path far longer than `PATH_MAX`.
#[test]
fn deep_tree() {
    let place = place("mkdir tree");
    let name = "d".repeat(200);
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = openat(CWD, place.path("tree"), directory_flags, Mode::empty()).unwrap();
    let mut attributes = 0;
    for depth in 1..=60u8 {
        mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &name, directory_flags, Mode::empty()).unwrap();
        let create = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&at, "file", create, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, &[depth]).unwrap();
        attributes +=
            u32::from(fsetxattr(&file, "user.depth", &[depth], XattrFlags::empty()).is_ok());
    }
    place.ok("mkdaxfs -q tree image");
    let listing = place.listing("image");
    let mut path = Vec::new();
    let mut found = 0;
    for depth in 1..=60u8 {
        path.extend_from_slice(name.as_bytes());
        path.push(b'/');
        let entry = &listing[&[path.as_slice(), b"file"].concat()];
        assert_eq!(entry.content, What::Bytes(vec![depth]));
        if let Some(value) = entry.xattrs.get(&b"user.depth"[..]) {
            assert_eq!(*value, [depth]);
            found += 1;
        }
    }
    assert_eq!(found, attributes);
    drop(at);
    // On some systems, removing temporary directories fails at this depth.
    place.shell("rm -rf tree");
}

/// Times before 1970 and after 2106, set-id and other permissions, devices and owners.
#[test]
fn times_modes_and_special_files() {
    let place = place(
        "mkdir tree; cd tree; mkfifo -m 640 fifo; mkdir -m 3777 sticky
         for mode in 4755 2755 1644 7777 600; do : >$mode; chmod $mode $mode; done
         for time in -2147483648 -1 0 2147483647 2147483648 4294967295 4294967296 8589934592; do
             touch -d @$time even$time; touch -d @$time.999999999 odd$time
         done",
    );
    let socket = place.path("tree/socket");
    mknodat(CWD, socket, FileType::Socket, Mode::from_raw_mode(0o777), 0).unwrap();
    if is_root() {
        place.shell("cd tree; ln -s fifo link; chown -h 12345:4294967294 link; chown 65534:1 fifo");
        for device in ["null c 1 3", "largest b 4095 1048575", "whiteout c 0 0"] {
            if place.run(format!("mknod tree/{device}")).status != 0 {
                skip(device);
            }
        }
    } else {
        skip("devices and other owners need root");
    }
    round_trip(&place);
}

#[test]
fn hard_links() {
    // A name outside the tree does not count.
    let place = place(
        "mkdir -p tree/a/b; cd tree; printf x >one; ln one a/two; ln one a/b/three
         ln -s one link; ln -P link a/link; printf x >alone; ln alone ../outside",
    );
    round_trip(&place);
    let listing = place.listing("image");
    let links = ["one", "link", "alone", "a", ""].map(|name| listing[name.as_bytes()].nlink);
    assert_eq!(links, [3, 2, 1, 3, 3]);
}

#[test]
fn extended_attributes() {
    let place = place("mkdir -p tree/dir; touch tree/file{0..19}; ln -s x tree/link");
    let set = |path: &str, name: &str, value: &[u8]| {
        let path = place.path("tree").join(path);
        if let Err(error) = lsetxattr(path, name, value, XattrFlags::empty()) {
            skip(&format!("{name}: {error}"));
        }
    };
    let long = format!("user.{}", "n".repeat(250));
    let mut names = vec!["user.comment", &long];
    if is_root() {
        names.extend(["trusted.overlay.opaque", "security.test"]);
        set("link", "trusted.link", b"value");
    } else {
        skip("trusted and security attributes need root");
    }
    for path in ["dir", "file1", "file2", "file3", ""] {
        names.iter().for_each(|name| set(path, name, &[0xff, 0, 1]));
    }
    set("file3", "user.large", &[b'v'; 3000]);
    set("file4", "user.empty", b"");
    // u::rw-, u:1:rw-, g::r--, m::rw-, o::---
    let all = u32::MAX;
    let list = access_list(&[
        (1, 6, all),
        (2, 6, 1),
        (4, 4, all),
        (16, 6, all),
        (32, 0, all),
    ]);
    set("file5", "system.posix_acl_access", &list);
    set("dir", "system.posix_acl_default", &list);
    round_trip(&place);
    // The sets shared by three files are stored once.
    let inodes = inodes_of(&place.path("image")).1;
    let mut sets: Vec<u64> = inodes.iter().map(|inode| inode.xattrs).collect();
    sets.retain(|&set| set != 0);
    let all = sets.len();
    sets.sort_unstable();
    sets.dedup();
    assert!(all == 0 || all - sets.len() >= 2, "{sets:?}");
}

/// A file of more than 4 GiB with holes keeps its holes.
#[test]
fn sparse_and_large_files() {
    let place = place("mkdir tree");
    let size = (4u64 << 30) + 12_345_679;
    let sparse = File::create(place.path("tree/sparse")).unwrap();
    sparse.set_len(size).unwrap();
    sparse.write_all_at(b"middle", size / 2 + 12345).unwrap();
    sparse.write_all_at(b"end", size - 3).unwrap();
    place.ok("mkdaxfs -q tree image");
    let metadata = place.path("image").metadata().unwrap();
    assert!(
        metadata.len() > size && metadata.blocks() * 512 < 10 << 20,
        "{metadata:?}"
    );

    let file = File::open(place.path("image")).unwrap();
    let inode = &inodes_of(&place.path("image")).1[1];
    let Content::Regular { data } = inode.content else {
        panic!("no file");
    };
    assert!(inode.size == size && inode.is_huge());
    let mut bytes = [0; 8];
    let middle = (size / 2 + 12344, b"\0middle\0");
    for (at, expected) in [middle, (size - 5, b"\0\0end\0\0\0"), (0, &[0; 8])] {
        file.read_exact_at(&mut bytes, data + at).unwrap();
        assert_eq!(&bytes, expected);
    }
}

/// The same tree gives the same bytes, even with a single thread. library/packing.rs tests copies
/// of a tree in another order.
#[test]
fn reproducible() {
    let place = place("mkdir -p tree/dir{0..16}");
    for number in 0..400 {
        let content = vec![number as u8; number * 97];
        place.write(format!("tree/dir{}/file{number}", number % 17), content);
    }
    place.write("tree/huge", vec![3; 7 << 20]);
    place.ok("mkdaxfs tree image; RAYON_NUM_THREADS=1 mkdaxfs -q tree alone");
    place.same("alone", "image");
}
