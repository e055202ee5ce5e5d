// SPDX-License-Identifier: GPL-2.0-only

//! The commands' JSON matches the schema in the documentation.

use crate::support::fixture;
use daxfs_testing::image_of;
use serde_json::{json, Value};

const SCHEMA: &str = include_str!("../../../Documentation/daxfs.schema.json");

/// Check that `value` is valid, and that it names `schema`.
pub fn check(schema: &str, value: &Value) {
    assert_eq!(value["schema"], schema, "{value}");
    let all: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&all).unwrap();
    assert!(validator.is_valid(value), "{value}");
    // A member that nothing describes is an error.
    let mut more = value.clone();
    more["surprise"] = json!(1);
    assert!(!validator.is_valid(&more), "{schema}");
}

#[test]
fn every_command() {
    let place = fixture();
    place.shell("printf x >source/$'odd\\xff'");
    let flags = rustix::fs::XattrFlags::empty();
    // Without it there is one member less.
    let _ = rustix::fs::lsetxattr(place.path("source/file"), "user.name", b"\xff", flags);
    image_of(&place.path("source"), &place.path("image")).unwrap();
    for (schema, line) in [
        ("daxfs-info-1", "daxfs info --json image"),
        ("daxfs-dump-1", "daxfs dump image"),
        ("daxfs-dump-1", "daxfs dump --sums image"),
        (
            "daxfs-catalog-1",
            "daxfs catalog init --size 8M disk; daxfs catalog list --json disk",
        ),
        (
            "daxfs-catalog-1",
            "daxfs catalog add disk base - <image; daxfs catalog list --json disk",
        ),
    ] {
        println!("{line}");
        check(schema, &place.ok(line).json());
    }
}
