// SPDX-License-Identifier: GPL-2.0-only

//! The commands' JSON matches the schema in the documentation.

use crate::support::{run, run_as, tree};
use daxfs_testing::{image_of, scratch};
use serde_json::{json, Value};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

const SCHEMA: &str = include_str!("../../../../Documentation/daxfs.schema.json");

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
    let directory = scratch();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("source")).unwrap();
    tree(&at("source"));
    fs::write(at("source").join(OsStr::from_bytes(b"odd\xff")), "x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    // Without it there is one member less.
    let _ = rustix::fs::lsetxattr(at("source/file"), "user.name", b"\xff", flags);
    image_of(&at("source"), &at("image")).unwrap();
    let image = at("image");
    let image = image.to_str().unwrap();
    let source = at("source");
    fs::write(at("source/file"), "other").unwrap();
    for (schema, arguments) in [
        ("daxfs-info-1", &["info", "--json", image][..]),
        ("daxfs-ls-1", &["ls", "--json", image]),
        ("daxfs-ls-1", &["ls", "-R", "--json", image]),
        ("daxfs-ls-1", &["ls", "-d", "--json", image, "/link"]),
        ("daxfs-stat-1", &["stat", "--json", image, "/file"]),
        ("daxfs-stat-1", &["stat", "--json", image, "/link"]),
        ("daxfs-dump-1", &["dump", image]),
        ("daxfs-dump-1", &["dump", "--sums", image]),
        ("daxfs-diff-1", &["diff", "--json", image, image]),
        (
            "daxfs-diff-1",
            &["diff", "--json", image, source.to_str().unwrap()],
        ),
        ("daxfs-fsck-1", &["fsck", "--json", image]),
        ("daxfs-digest-1", &["digest", "--json", image]),
        ("daxfs-map-1", &["map", "--json", image]),
        ("daxfs-share-1", &["share", "--json", image]),
        (
            "daxfs-share-1",
            &["share", "--json", "--hypervisor", "firecracker", image],
        ),
    ] {
        let run = run(arguments);
        assert_eq!(run.stderr, "", "{arguments:?}");
        check(schema, &run.json());
    }
    let disk = at("disk");
    let disk = disk.to_str().unwrap();
    for arguments in [
        &["catalog", "init", "--size", "8M", disk][..],
        &["catalog", "add", disk, "base", image],
    ] {
        assert_eq!(run(arguments).status, 0);
        let list = run(&["catalog", "list", "--json", disk]);
        check("daxfs-catalog-1", &list.json());
    }
    let differ = run(&["diff", "--json", image, source.to_str().unwrap()]).json();
    let differences = differ["differences"].as_array().unwrap();
    let found = differences.iter().any(|difference| {
        difference["path"] == "/file"
            && difference["aspect"] == "size"
            && difference["text"] == "size 10 and 5"
    });
    assert!(found, "{differ}");

    // Damaged images, and images without a superblock.
    let mut bytes = fs::read(image).unwrap();
    bytes[4096 + 4] ^= 1;
    fs::write(at("damaged"), &bytes).unwrap();
    fs::write(at("none"), vec![0; 8192]).unwrap();
    for name in ["damaged", "none"] {
        let run = run(&["fsck", "--json", at(name).to_str().unwrap()]);
        assert_eq!((run.status, run.stderr.as_str()), (4, ""));
        let report = run.json();
        check("daxfs-fsck-1", &report);
        assert_eq!(report["clean"], false);
        let violations = report["violations"].as_array().unwrap().len() as u64;
        assert!(violations > 0 && report["errors"] == violations);
    }
    assert_eq!(run_as("fsck.daxfs", &["--json", image]).status, 16);
}
