// SPDX-License-Identifier: GPL-2.0-only

//! Access control lists in archives: what setxattr(2) would make of them, or refuse.

use crate::support::{place, Place};
use daxfs_check::{check, Finding};
use daxfs_reader::layout;
use daxfs_testing::builder::{access_list as list, seal, superblock};
use daxfs_testing::listing::Entry;
use std::mem::size_of;
use std::ops::ControlFlow;

/// Return a header of the ustar format.
fn header(name: &str, kind: u8, mode: u32, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    for field in [108, 116] {
        header[field..field + 8].copy_from_slice(b"0000000\0");
    }
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Return an archive of one member with one record in its extended header.
fn archive(name: &str, kind: u8, mode: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    let record = [length.to_string().as_bytes(), &rest].concat();
    let mut bytes = header("PaxHeader", b'x', 0o644, record.len());
    bytes.extend(&record);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(header(name, kind, mode, 0));
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

const NOBODY: u32 = u32::MAX;
const PREFIX: &[u8] = b"SCHILY.xattr.system.posix_acl_access";

/// Return a place with an archive of such a file `x`.
fn packed(kind: u8, mode: u32, key: &[u8], value: &[u8]) -> Place {
    let place = place("");
    place.write("tar", archive("x", kind, mode, key, value));
    place
}

/// Make an image of such an archive, and return the file's entry.
fn made(kind: u8, mode: u32, key: &[u8], value: &[u8]) -> Entry {
    let place = packed(kind, mode, key, value);
    place.ok("mkdaxfs -q tar image");
    place.listing("image").remove(&b"x"[..]).unwrap()
}

/// Check that such an archive is refused, with `part` in the message.
#[track_caller]
fn refused(key: &[u8], value: &[u8], part: &str) {
    let place = packed(b'0', 0o740, key, value);
    let told = place.fails("mkdaxfs tar image", part);
    assert!(told.contains(": 'x' ") && !place.exists("image"), "{told}");
}

/// bsdtar stores a mode besides the list; the list takes precedence.
#[test]
fn permissions_are_those_of_the_list() {
    let text = b"user::rwx,group::r--,user:5:rwx:5,mask::---,other::---";
    let found = made(b'0', 0o4740, b"SCHILY.acl.access", text);
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
    let found = made(
        b'0',
        0o777,
        b"SCHILY.acl.access",
        b"user::rw-,group::r--,other::---",
    );
    assert_eq!((found.mode, found.xattrs.len()), (0o100_640, 0));
    // A default list is for others.
    let found = made(
        b'5',
        0o755,
        b"SCHILY.acl.default",
        b"user::---,group::---,other::---",
    );
    assert_eq!((found.mode, found.xattrs.len()), (0o040_755, 1));
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
        refused(PREFIX, value, &format!("{linux}{why}"));
    }
    refused(b"SCHILY.acl.access", b"user::rwx,group::r--", linux);
    let why = "is not a directory and has a default access control list";
    refused(b"SCHILY.xattr.system.posix_acl_default", &plain, why);
    let why = "has the extended attribute 'user.a\\x00b', whose name has a NUL";
    refused(b"SCHILY.xattr.user.a\0b", b"value", why);
}

/// Return what fsck finds in an image that `change` has modified.
fn findings(change: impl Fn(&mut [u8], usize, usize)) -> Vec<&'static str> {
    let text = b"user::rwx,group::r--,user:5:rwx:5,mask::---,other::---";
    let place = packed(b'0', 0, b"SCHILY.acl.access", text);
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
