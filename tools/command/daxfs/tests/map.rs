// SPDX-License-Identifier: GPL-2.0-only

//! `map`: how the bytes of an image are used.

use crate::support::succeed;
use daxfs_testing::{image_with, options, scratch};
use daxfs_writer::options::Pack;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// Make a tree: a file that 2 MiB mappings cover but for a rest, two names for the same content, a
/// small and an empty file.
fn tree(at: &Path) {
    fs::create_dir(at).unwrap();
    fs::write(at.join("huge"), vec![1; 5 * MIB as usize + 1]).unwrap();
    fs::write(at.join("first"), vec![2; 10_000]).unwrap();
    fs::write(at.join("second"), vec![2; 10_000]).unwrap();
    fs::write(at.join("small"), "small").unwrap();
    fs::write(at.join("empty"), "").unwrap();
}

fn image(pack: Pack) -> (tempfile::TempDir, PathBuf) {
    let directory = scratch();
    let (source, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    tree(&source);
    let options = daxfs_writer::options::Options { pack, ..options() };
    image_with(&source, &image, &options).unwrap();
    (directory, image)
}

/// Return the number of bytes of a kind.
fn bytes(map: &Value, kind: &str) -> u64 {
    let runs = map["runs"].as_array().unwrap().iter();
    let runs = runs.filter(|run| run["kind"] == kind);
    runs.map(|run| run["length"].as_u64().unwrap()).sum()
}

#[test]
fn kinds() {
    let (_directory, image) = image(Pack::Never);
    let image = image.to_str().unwrap();
    let map = succeed(&["map", "--json", image]).json();
    assert_eq!(bytes(&map, "superblock"), 4096);
    assert_eq!(bytes(&map, "inodes"), 6 * 64);
    assert_eq!(bytes(&map, "dirents"), 5 * 16);
    assert_eq!(
        bytes(&map, "names"),
        "hugefirstsecondsmallempty".len() as u64
    );
    assert_eq!(bytes(&map, "huge"), 4 * MIB);
    assert_eq!(bytes(&map, "shared"), 10_000);
    assert_eq!(bytes(&map, "pages"), MIB + 1 + 5);
    assert_eq!(
        (&map["shared"]["files"], &map["shared"]["bytes"]),
        (&1.into(), &10_000.into())
    );
    assert_eq!(
        (&map["huge"]["files"], &map["huge"]["bytes"]),
        (&1.into(), &(4 * MIB).into())
    );
    // Every byte is there once, in order.
    let mut end = 0;
    for run in map["runs"].as_array().unwrap() {
        assert_eq!(run["offset"], end);
        end += run["length"].as_u64().unwrap();
    }
    assert_eq!(end, fs::metadata(image).unwrap().len());
    let classes = map["classes"].as_array().unwrap().iter();
    let files: Vec<_> = classes
        .map(|class| class["files"].as_u64().unwrap())
        .collect();
    assert_eq!(files, [1, 1, 2, 0, 1, 0, 0]);
}

#[test]
fn drawings() {
    let (_directory, image) = image(Pack::Never);
    let image = image.to_str().unwrap();
    let drawn = succeed(&["map", image]);
    let text = drawn.text();
    for part in [
        "8.0M, blocks of 4.0K, 6 inodes\n",
        "\n\nS", // in the first cell
        "####",
        "#   4.0M  50.0%",
        "  data in 2 MiB mappings\n",
        "2 MiB mappings cover 4.0M of 5.1M of data (80%) in 1 files, on memory aligned to 2 MiB.\n",
        "1 files use the data of another file, which saves 9.8K.\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn packed_files() {
    let (_directory, image) = image(Pack::Tails);
    let map = succeed(&["map", "--json", image.to_str().unwrap()]).json();
    assert!(bytes(&map, "packed") >= 5);
    assert!(map["packed"]["files"].as_u64().unwrap() >= 1);
}
