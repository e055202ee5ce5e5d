// SPDX-License-Identifier: GPL-2.0-only

//! Pins the bytes of one image: a change of the format or of any order must update them, and makes
//! it explicit that new images differ from old ones.

use daxfs_files::{Output, Silent};
use daxfs_testing::spec::{create, Item, Kind};
use mkdaxfs::input::scan;
use mkdaxfs::writer::make;
use mkdaxfs::writer::options::{Options, Tails};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Options dedupe and tails; digest and UUID.
const EXPECTED: [(bool, Tails, &str); 4] = [
    (false, Tails::None, "2a45d502753834c5c72fa7c4e8a3abf71c2a683ffd89435e6f07c5ec75f3a8c4 5221b8ff-6fe2-87d5-9ae0-da89f03b2027"),
    (true, Tails::None, "462d619ec233e49ccb84286f0acd5e49da11f4366db07e14ff8c716a51421708 5a1fdc23-18f9-85c7-b0a5-f50431b095f6"),
    (true, Tails::Small, "f1b85005902eb9c8031d4e51d73ac4530f2551e85fa08b555a2387cb8a06a05b b5411132-fc68-83cd-86db-ab19f1e09840"),
    (true, Tails::All, "7ae8421f93df60448b0c353161a25cccc08ee93854d6b3686330152bbae9aefa 7b456979-d5ce-821b-bce0-024a655321ac"),
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

/// Returns the SHA-256 of an image as Documentation/format.rst defines it.
fn defined_digest(mut image: Vec<u8>) -> [u8; 32] {
    image[220..256].fill(0);
    let pieces = image.chunks(2 << 20).map(Sha256::digest);
    Sha256::digest(pieces.collect::<Vec<_>>().concat()).into()
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
    let scratch = daxfs_testing::scratch();
    let mut tree = scan::scan(&root, None, |warning| panic!("{warning}")).unwrap();
    // The test may run as any user.
    for node in &mut tree.nodes {
        node.attributes.uid = 1000;
        node.attributes.gid = 100;
    }
    for (dedupe, tails, expected) in EXPECTED {
        let options = Options {
            dedupe,
            tails,
            ..daxfs_testing::options()
        };
        let path = scratch.path().join("image");
        let output = Output::create(&path).unwrap();
        let summary = make(&tree, &options, &output, &Silent).unwrap();
        let digest = daxfs_files::digest::hex(&summary.digest);
        assert_eq!(format!("{digest} {}", summary.uuid), expected);

        output.commit(&Silent).unwrap();
        let mut image = std::fs::read(&path).unwrap();
        assert!(image.len() > 4 << 20, "the image is of one piece");
        assert_eq!(image[220..252], summary.digest);
        assert_eq!(defined_digest(image.clone()), summary.digest);
        image[56..72].fill(0);
        let start = defined_digest(image)[..16].try_into().unwrap();
        assert_eq!(uuid::Uuid::new_v8(start), summary.uuid);
    }
}
