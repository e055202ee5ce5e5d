// SPDX-License-Identifier: GPL-2.0-only

//! `map`: how the bytes of an image are used.

use crate::support::{place, Place};
use daxfs_testing::{image_with, options};
use daxfs_writer::options::Pack;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Return an image of a file that 2 MiB mappings cover but for a rest, two names for the same content,
/// a small and an empty file.
fn image(pack: Pack) -> Place {
    let place = place("mkdir tree; printf small >tree/small; : >tree/empty");
    place.write("tree/huge", vec![1; 5 * MIB as usize + 1]);
    place.write("tree/first", vec![2; 10_000]);
    place.write("tree/second", vec![2; 10_000]);
    let options = daxfs_writer::options::Options { pack, ..options() };
    image_with(&place.path("tree"), &place.path("image"), &options).unwrap();
    place
}

/// Return the number of bytes of a kind.
fn bytes(map: &Value, kind: &str) -> u64 {
    let runs = map["runs"].as_array().unwrap().iter();
    let runs = runs.filter(|run| run["kind"] == kind);
    runs.map(|run| run["length"].as_u64().unwrap()).sum()
}

#[test]
fn kinds() {
    let place = image(Pack::Never);
    let map = place.ok("daxfs map --json image").json();
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
    assert_eq!(end as usize, place.read("image").len());
    let classes = map["classes"].as_array().unwrap().iter();
    let files: Vec<_> = classes
        .map(|class| class["files"].as_u64().unwrap())
        .collect();
    assert_eq!(files, [1, 1, 2, 0, 1, 0, 0]);
}

#[test]
fn drawings() {
    let drawn = image(Pack::Never).ok("daxfs map image");
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
    let map = image(Pack::Tails).ok("daxfs map --json image").json();
    assert!(bytes(&map, "packed") >= 5);
    assert!(map["packed"]["files"].as_u64().unwrap() >= 1);
}
