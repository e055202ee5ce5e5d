// SPDX-License-Identifier: GPL-2.0-only

//! The example in Documentation/format.rst matches the output.

use daxfs_files::{Output, Silent};
use daxfs_testing::spec::{create, Item, Kind};
use mkdaxfs::input::scan;
use mkdaxfs::writer::make;
use std::collections::BTreeMap;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Documentation/format.rst");

fn item(kind: Kind, mode: u32) -> Item {
    Item {
        kind,
        mode,
        mtime: (1_700_000_000, 0),
        xattrs: BTreeMap::new(),
    }
}

/// Returns the offset and the bytes of a line in xxd(1)'s format.
fn dumped(line: &str) -> Option<(usize, Vec<u8>)> {
    let (offset, rest) = line.strip_prefix("    ")?.split_once(": ")?;
    let offset = usize::from_str_radix(offset, 16)
        .ok()
        .filter(|_| offset.len() == 8)?;
    let digits = rest.split("  ").next()?.replace(' ', "");
    let bytes = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    Some((offset, bytes.collect::<Result<_, _>>().ok()?))
}

#[test]
fn example_is_true() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let content = b"Hello, memory!\n".to_vec();
    let link = item(Kind::Symlink(b"../greeting".to_vec()), 0o777);
    let bin = Kind::Directory(BTreeMap::from([(b"hi".to_vec(), link)]));
    let tree = Kind::Directory(BTreeMap::from([
        (
            b"greeting".to_vec(),
            item(Kind::File(0, content, 15), 0o644),
        ),
        (b"bin".to_vec(), item(bin, 0o755)),
    ]));
    let source = tempfile::tempdir().unwrap();
    create(&item(tree, 0o755), &source.path().join("hello"), false);
    let scratch = daxfs_testing::scratch();
    let path = scratch.path().join("hello.daxfs");
    let output = Output::create(&path).unwrap();
    let mut tree = scan::scan(&source.path().join("hello"), None, |warning| {
        panic!("{warning}")
    })
    .unwrap();
    for node in &mut tree.nodes {
        node.attributes.uid = 0;
        node.attributes.gid = 0;
        // A security module may have labelled the files.
        node.attributes.xattrs = 0;
    }
    let mut options = daxfs_testing::options();
    options.label = "example".into();
    make(&tree, &options, &output, &Silent).unwrap();
    output.commit(&Silent).unwrap();

    let mut image = std::fs::read(&path).unwrap();
    let mut lines = 0;
    for (offset, bytes) in text.lines().filter_map(dumped) {
        assert_eq!(image[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        image[offset..offset + bytes.len()].fill(0);
        lines += 1;
    }
    assert!(
        lines > 20 && image.iter().all(|&byte| byte == 0),
        "the dump leaves something out"
    );
}
