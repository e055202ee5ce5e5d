// SPDX-License-Identifier: GPL-2.0-only

//! Violates every rule that only the checker knows, one byte range at a time, in an otherwise valid
//! image.

use crate::damage::{checked, findings, position, violated, with, xattrs};
use daxfs_check::Finding;
use daxfs_reader::hash::name_hash;
use daxfs_reader::layout::{Dirent, Inode, Superblock, XattrEntry, XattrPrefix};
use daxfs_reader::Problem;
use daxfs_testing::builder::{ino, specimen, superblock, tables};
use daxfs_testing::reader::read_everything;
use std::mem::{offset_of, size_of};

const UNUSED: &str = "unused byte is not zero";
const FIELD: &str = "unused field of an inode is not zero";

#[test]
fn unused_space() {
    let sb = superblock(&specimen());
    let (file, names) = (sb.data.offset.get(), &sb.names);
    for at in [
        300,
        4095,
        names.offset.get() + names.length.get(),
        // After the last byte of a file, in its last block, and after the last file.
        file + 5000,
        file + 8191,
        file + sb.data.length.get(),
    ] {
        violated(&[(at, &[1])], UNUSED, at);
    }
    for at in [
        inode!(ino::FILE, parent),
        inode!(ino::EMPTY, data),
        inode!(ino::FIFO, data),
    ] {
        violated(&[(at, &[1])], FIELD, at);
    }
    let at = xattrs() + 8;
    let reserved = at + offset_of!(XattrEntry, reserved) as u64;
    let what = "unused field of an extended attribute is not zero";
    violated(&[(reserved, &[1])], what, at);
    let what = "label is not UTF-8 padded with NUL";
    violated(&[(sb!(label), b"\0x")], what, sb!(label));
    violated(&[(sb!(label), b"\xff")], what, sb!(label));
}

#[test]
fn owners() {
    for at in [inode!(ino::FILE, uid), inode!(ino::ROOT, gid)] {
        violated(&[(at, &[0xff; 4])], "invalid owner", at);
    }
}

#[test]
fn directories() {
    let at = dirent!("file", hash);
    let hash = name_hash(b"file") ^ 1;
    let what = "wrong hash in directory entry";
    violated(&[(at, &hash.to_le_bytes())], what, at);
    // Two swapped entries; neither can be found.
    let image = specimen();
    let first = superblock(&image).dirents.offset.get() as usize;
    let (a, b) = (
        &image[first + 64..first + 80],
        &image[first + 80..first + 96],
    );
    let swapped = with(&[(first as u64 + 64, b), (first as u64 + 80, a)]);
    let found = findings(&swapped);
    let what = |finding: &Finding| match finding {
        Finding::Rule { what, .. } => *what,
        Finding::Reader(_) => "",
    };
    assert!(found
        .iter()
        .any(|finding| what(finding) == "directory entries out of order"));
    // The other directory takes over the records of the first.
    let changes = [
        (inode!(ino::OTHER, size), &[16][..]),
        (inode!(ino::OTHER, data), &[7]),
    ];
    let found = findings(&with(&changes));
    assert!(
        found
            .iter()
            .any(|finding| what(finding) == "directories share entries"),
        "{found:?}"
    );
    for nlink in [inode!(ino::FILE, nlink), inode!(ino::ROOT, nlink)] {
        violated(&[(nlink, &[3])], "wrong link count", nlink);
    }
    // Both of the file's names lead to another file.
    let at = dirent!("fifo", ino);
    let changes = [
        (at, &[ino::EMPTY as u8][..]),
        (dirent!("fifo", file_type), &[8]),
    ];
    let inode = inode!(ino::FIFO, mode);
    violated(&changes, "inode is in no directory", inode);
}

#[test]
fn data() {
    let sb = superblock(&specimen());
    let at = inode!(ino::INNER, data);
    let data = sb.data.offset.get() + 4096;
    violated(&[(at, &data.to_le_bytes())], "files share data", at);
    // The same for a word: the file is not the original. Packed files have their own bytes, too.
    let packed = (sb!(incompat), &[1][..]);
    let flag = |ino| (inode!(ino, flags), &[1][..]);
    let inner = sb.data.offset.get() + 5000;
    let inner = inner.to_le_bytes();
    let content = (sb.data.offset.get() + 8192, &[0; 100][..]);
    let there = (sb.data.offset.get() + 5000, &[9; 100][..]);
    let mut changes = vec![packed, flag(ino::INNER), (at, &inner[..]), content, there];
    violated(&changes, "files share a block", at);
    changes.push(flag(ino::FILE));
    assert_eq!(findings(&with(&changes)), []);
    let overlap = (sb.data.offset.get() + 4999).to_le_bytes();
    changes[2].1 = &overlap;
    changes[4].0 -= 1;
    violated(&changes, "files share data", at);
}

#[test]
fn xattr_sets() {
    let set = xattrs();
    // The name is one byte shorter; that byte then belongs to nothing.
    let at = set + 8 + offset_of!(XattrEntry, name_len) as u64;
    let what = "set of extended attributes of another length";
    violated(&[(at, &[6])], what, set);
    // The reader rejects such a name on reading.
    let prefix = set + 8 + offset_of!(XattrEntry, prefix) as u64;
    for change in [(set + 16, &b"\0"[..]), (prefix, &[2])] {
        let errors = read_everything(&with(&[change]).as_slice());
        assert!(errors
            .iter()
            .any(|error| (error.problem, error.offset) == (Problem::Xattr, set + 16)));
        checked(&[change], "invalid name of an extended attribute", set + 8);
    }
    violated(&[(set + 4, &[0])], "empty set of extended attributes", set);
    // Linux counts a name's prefix.
    for (length, wrong) in [(250, 0), (251, 1)] {
        let mut builder = tables();
        let set = builder.xattr(XattrPrefix::User as u8, &vec![b'n'; length], b"");
        builder.inodes[ino::EMPTY as usize - 1].xattrs = set.into();
        let findings = findings(&builder.image());
        let is_name = |finding: &Finding| matches!(finding, Finding::Rule { what, .. } if *what == "invalid name of an extended attribute");
        assert_eq!(findings.len(), wrong, "{findings:?}");
        assert!(findings.iter().all(is_name), "{findings:?}");
    }
}
