// SPDX-License-Identifier: GPL-2.0-only

//! Access control lists in archives, treated as by setxattr(2), including its refusals.

use crate::support::{place, Place};
use daxfs_check::{check, Finding};
use daxfs_reader::layout;
use daxfs_testing::builder::{access_list as list, seal, superblock};
use daxfs_testing::feed::{member, records};
use daxfs_testing::listing::Entry;
use std::mem::size_of;
use std::ops::ControlFlow;

const NOBODY: u32 = u32::MAX;
const PREFIX: &str = "SCHILY.xattr.system.posix_acl_access";

/// Returns a place with an archive of a file `x` with one record in its extended header.
fn packed(kind: u8, mode: u32, key: &str, value: &[u8]) -> Place {
    let place = place("");
    let header = member(b"PaxHeader", b'x', b"", 0o644, &records(&[(key, value)]));
    let file = member(b"x", kind, b"", mode, b"");
    place.write("tar", [header, file, vec![0; 1024]].concat());
    place
}

/// Builds an image of such an archive, and returns the file's entry.
fn made(kind: u8, mode: u32, key: &str, value: &[u8]) -> Entry {
    let place = packed(kind, mode, key, value);
    place.ok("mkdaxfs -q tar image");
    place.listing("image").remove(&b"x"[..]).unwrap()
}

/// Checks that such an archive is refused, with `part` in the message.
#[track_caller]
fn refused(kind: u8, key: &str, value: &[u8], part: &str) {
    let place = packed(kind, 0o740, key, value);
    let told = place.fails("mkdaxfs tar image", part);
    assert!(told.contains(": 'x' ") && !place.exists("image"), "{told}");
}

/// bsdtar stores a mode next to the list; the list takes precedence.
#[test]
fn permissions_are_those_of_the_list() {
    let text = b"user::rwx,group::r--,user:5:rwx:5,mask::---,other::---";
    let found = made(b'0', 0o4740, "SCHILY.acl.access", text);
    assert_eq!(found.mode, 0o104_700);
    let expected = list(&[
        (1, 7, NOBODY),
        (2, 7, 5),
        (4, 4, NOBODY),
        (16, 0, NOBODY),
        (32, 0, NOBODY),
    ]);
    assert_eq!(found.xattrs[&b"system.posix_acl_access"[..]], expected);
    assert_eq!(made(b'0', 0o777, PREFIX, &expected).mode, 0o100_700);
    // A list that permission bits can express is stored as permission bits.
    let text = b"user::rw-,group::r--,other::---";
    let found = made(b'0', 0o777, "SCHILY.acl.access", text);
    assert_eq!((found.mode, found.xattrs.len()), (0o100_640, 0));
    // A default list does not matter here.
    let text = b"user::---,group::---,other::---";
    let found = made(b'5', 0o755, "SCHILY.acl.default", text);
    assert_eq!((found.mode, found.xattrs.len()), (0o040_755, 1));
    // A list without entries does not count.
    let empty = 2_u32.to_le_bytes();
    let found = made(b'0', 0o640, "SCHILY.xattr.system.posix_acl_default", &empty);
    assert_eq!((found.mode, found.xattrs.len()), (0o100_640, 0));
}

#[test]
fn lists_that_linux_refuses() {
    let plain = list(&[(1, 7, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)]);
    let named = [(1, 7, NOBODY), (2, 7, 5), (4, 4, NOBODY), (32, 0, NOBODY)];
    let linux = "has an access control list that Linux refuses: ";
    for (value, why) in [
        (&b"garbage"[..], "it has no version 2"),
        (&plain[..20], "entries for user, group or other are missing"),
        (&plain[..21], "its length is wrong"),
        (&list(&[(1, 9, NOBODY)]), "an entry has unknown permissions"),
        (&list(&named), "it names users or groups and has no mask"),
    ] {
        refused(b'0', PREFIX, value, &format!("{linux}{why}"));
    }
    refused(b'0', "SCHILY.acl.access", b"user::rwx,group::r--", linux);
    let why = "is not a directory and has a default access control list";
    refused(b'0', "SCHILY.xattr.system.posix_acl_default", &plain, why);
    let why = "has the extended attribute 'user.a\\0b' with a NUL in its name";
    refused(b'0', "SCHILY.xattr.user.a\0b", b"value", why);
    let why = "is a symlink with an access control list";
    let masked = list(&[named[0], named[2], (16, 0, NOBODY), named[3]]);
    refused(b'2', PREFIX, &masked, why);
}

/// Returns fsck's findings in an image modified by `change`.
fn findings(change: impl Fn(&mut [u8], usize, usize)) -> Vec<&'static str> {
    let text = b"user::rwx,group::r--,user:5:rwx:5,mask::---,other::---";
    let place = packed(b'0', 0, "SCHILY.acl.access", text);
    place.ok("mkdaxfs -q tar image");
    let mut bytes = place.read("image");
    let record = superblock(&bytes);
    let mode = 0o100_700_u16.to_le_bytes();
    let inodes = record.inodes.offset.get() as usize;
    let inode = (inodes..).step_by(size_of::<layout::Inode>());
    let inode = inode.take(2).find(|&at| bytes[at..at + 2] == mode).unwrap();
    let entry = record.xattrs.offset.get() as usize + size_of::<layout::XattrSet>();
    change(&mut bytes, inode, entry);
    seal(&mut bytes);
    let mut rules = Vec::new();
    check(&&bytes[..], &mut |finding| {
        if let Finding::Rule { what, .. } = finding {
            rules.push(what);
        }
        ControlFlow::Continue(())
    });
    rules
}

#[test]
fn fsck_finds_lists_that_are_wrong() {
    assert_eq!(findings(|_, _, _| ()), [""; 0]);
    let mode = findings(|bytes, inode, _| bytes[inode] |= 0o70);
    assert_eq!(mode, ["permissions differ from the access control list"]);
    let version = findings(|bytes, _, entry| bytes[entry + 8] = 1);
    assert_eq!(version, ["invalid access control list"]);
    let default = findings(|bytes, _, entry| bytes[entry + 5] = 3);
    assert_eq!(
        default,
        ["default access control list of a file that is not a directory"]
    );
}
