// SPDX-License-Identifier: GPL-2.0

//! The bytes of one image are pinned: who changes the format or the order of things must change them here,
//! and knows that images made before and after differ.

use crate::common;
use crate::common::spec::{create, Item, Kind};
use daxfs::write::Options;
use daxfs::{make, scan, Output, Silent};
use std::collections::BTreeMap;

/// Whether files that are alike are stored once, whether small ones are packed; digest and UUID.
const EXPECTED: [(bool, bool, &str, &str); 3] = [
    (
        false,
        false,
        "46080bc0f1bafc0ee0484a777a0162a717687050d71b39c0643d31e28abf3687",
        "ce5c252b-d9ea-84ee-ba3c-1aa5ef5d7f00",
    ),
    (
        true,
        false,
        "b4085516990ae13303bf615cb1cdd2814fda5aa2206e036cb4f138e2fcd5eb7c",
        "d74bcfa7-d73a-82d0-b388-d9264c915ced",
    ),
    (
        true,
        true,
        "c50c2044c039ff20454b3d3684be65e460a4f7217e0652c5cc95dd49ed21968a",
        "b63fd054-04d1-83e7-9aad-93c27fadd291",
    ),
];

fn item(kind: Kind) -> Item {
    Item {
        kind,
        mode: 0o644,
        mtime: (1_700_000_000, 123_456_789),
        xattrs: BTreeMap::new(),
    }
}

fn directory(entries: Vec<(&[u8], Item)>) -> Item {
    let entries = entries
        .into_iter()
        .map(|(name, item)| (name.to_vec(), item))
        .collect();
    let mut item = item(Kind::Directory(entries));
    item.mode = 0o755;
    item
}

fn file(size: usize) -> Item {
    let bytes: Vec<u8> = (0..size).map(|n| (n * n / 7) as u8).collect();
    item(Kind::File(0, bytes, size as u64))
}

#[test]
fn digest_is_pinned() {
    let mut old = file(4096);
    old.mtime = (-1, 999_999_999);
    old.mode = 0o4755;
    let mut late = file(4097);
    late.mtime = (1 << 32, 1);
    late.xattrs.insert(b"user.one".to_vec(), b"1".to_vec());
    late.xattrs.insert(b"user.two".to_vec(), vec![0; 100]);
    let mut shared = file(1);
    shared.xattrs = late.xattrs.clone();
    let many: Vec<Vec<u8>> = (0..300).map(|n| format!("many{n}").into_bytes()).collect();
    let many = many
        .iter()
        .map(|name| (name.as_slice(), file(name.len())))
        .collect();
    let tree = directory(vec![
        (b"empty", file(0)),
        (b"old", old),
        (b"late", late),
        (b"shared", shared),
        (b"huge", file(3 << 20)),
        (
            b"sparse",
            item(Kind::File(5 << 20, b"end".to_vec(), (5 << 20) + 3)),
        ),
        (b"again", item(Kind::HardLink(0))),
        (b"link", item(Kind::Symlink(b"dir/many7".to_vec()))),
        (b"\xff\x01 odd", item(Kind::Fifo)),
        (b"socket", item(Kind::Socket)),
        (b"dir", directory(many)),
        (b"none", directory(vec![])),
    ]);
    let source = tempfile::tempdir().unwrap();
    let root = source.path().join("tree");
    if !create(&tree, &root, false) {
        println!("SKIP: the file system stores no user xattrs");
        return;
    }
    let scratch = common::scratch();
    let mut tree = scan::scan(&root, None, |warning| panic!("{warning}")).unwrap();
    // The test may run as anybody.
    for node in &mut tree.nodes {
        node.attributes.uid = 1000;
        node.attributes.gid = 100;
    }
    for (dedupe, pack, digest, uuid) in EXPECTED {
        let options = Options {
            dedupe,
            pack,
            ..common::options()
        };
        let output = Output::create(&scratch.path().join("image")).unwrap();
        let summary = make(&tree, &options, &output, &Silent).unwrap();
        let found = (
            daxfs::digest::hex(&summary.digest),
            summary.uuid.to_string(),
        );
        assert_eq!((found.0.as_str(), found.1.as_str()), (digest, uuid));
    }
}
