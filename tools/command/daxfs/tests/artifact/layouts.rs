// SPDX-License-Identifier: GPL-2.0-only

//! The index of a layout: names, digests, and several programs.

use super::Place;
use daxfs_testing::{image_with, options};
use serde_json::{json, Value};
use std::fs;
use std::process::Stdio;

/// A digest selects the manifest that has it, whatever others are called.
#[test]
fn digests_are_no_names() {
    let place = Place::new();
    let good = place.push("good", "");
    place.forge(&good, &good, |manifest| {
        manifest["layers"][0]["annotations"]["org.daxfs.image.uuid"] = "evil".into();
    });
    place.pulls(&good, "");
    place.shell("rm target/image");
    // The good one is gone: the other one does not take its place.
    let mut index = place.index();
    index["manifests"].as_array_mut().unwrap().remove(0);
    place.write("layout/index.json", index.to_string());
    place.refused(&good, "", "the layout has no 'sha256:");
    let line = format!("daxfs push oci:layout:{good} image");
    place.fails(line, "has a digest as its name");
}

#[test]
fn damaged_indices() {
    let place = Place::new();
    place.push("one", "");
    for index in ["[]", "\"x\"", "1", "{}", "{\"manifests\":1}", "null", ""] {
        place.write("layout/index.json", index);
        place.mistakes(
            "daxfs push oci:layout:two image | 1 | index.json
             daxfs push oci:layout image | 1 | index.json",
        );
    }
}

/// Names that a push must not take away.
#[test]
fn names_stay() {
    let place = Place::new();
    let digest = place.push("one", "");
    for _ in 0..2 {
        let found = place.ok("daxfs push oci:layout image");
        assert_eq!((found.text().trim(), place.manifests()), (&*digest, 2));
    }
    // Both entries are of one artifact.
    for name in ["", ":one", &format!(":{digest}")] {
        place.ok(format!(
            "daxfs pull oci:layout{name} target/file; rm target/file"
        ));
    }
    // An image of a container is not replaced, and neither is what cannot be read.
    place.forge(&digest, "app", |manifest| {
        manifest["artifactType"] = Value::Null;
    });
    let before = place.index();
    let push = "daxfs push oci:layout:app image";
    place.fails(push, "replace it with --force");
    assert_eq!(place.index(), before);
    place.ok(format!("{push} --force"));
    assert_eq!(place.manifests(), 3);
    place.ok(push);
}

/// Pushes at the same time, the first ones into a layout that does not exist, all succeed.
#[test]
fn pushes_together() {
    for _ in 0..5 {
        let place = Place::new();
        place.shell(
            "for name in a b c d; do daxfs push oci:layout:$name image & pids+=\" $!\"; done
             for pid in $pids; do wait $pid; done",
        );
        assert_eq!(place.manifests(), 4);
    }
}

/// A layout that somebody else has locked: push says so, and a signal ends it.
#[test]
fn locked() {
    use rustix::fs::{flock, FlockOperation};
    use std::io::{BufRead, BufReader};
    let place = Place::new();
    place.push("one", "");
    let directory = fs::File::open(place.path("layout")).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    let mut command = place.command("daxfs");
    command.args(["push", "oci:layout:two", "image"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for another program"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(place.manifests(), 1);
}

#[test]
fn layouts_of_others() {
    let place = Place::new();
    // Members that daxfs does not know, and manifests of others, stay.
    place.push("one", "");
    let mut index = place.index();
    index["annotations"] = json!({ "other": "kept" });
    place.write("layout/index.json", index.to_string());
    // Two names of one artifact would be no choice.
    place.push("two", "--zstd");
    assert_eq!(place.index()["annotations"]["other"], "kept");
    place.mistakes(
        "daxfs pull oci:layout: target | 1 | has no name after the colon
         daxfs pull oci:layout /none | 1 | by its digest if need be: one, two
         # A directory with other files is not made a layout.
         daxfs push oci:source:1 image | 1 | is neither empty nor an OCI layout
         daxfs push docker://example.org/a:1 image | 1 | skopeo copies artifacts",
    );
    // A damaged image is not pushed.
    let mut bytes = place.read("image");
    *bytes.last_mut().unwrap() ^= 1;
    place.write("image", bytes);
    place.fails("daxfs push oci:layout:three image", "the superblock says");
    assert_eq!(place.manifests(), 2);
}

/// An image that was signed again is the same image: two signatures with an ECDSA key are different.
#[test]
fn signed_again() {
    let place = Place::new();
    place.owner("one");
    place.owner("other");
    let mut signed = Vec::new();
    for name in ["first", "second"] {
        place.sign("one");
        place.push(name, "");
        signed.push(place.read("image"));
        place.pulls(name, "--cert one.cert");
        // The file that was there before stays.
        assert!(place.read("target/image") == signed[0]);
    }
    assert!(signed[0] != signed[1]);
    place.pulls("second", "");
    // Its own signature counts, not the pulled image's.
    place.sign("other");
    place.shell("cp image target/image");
    let first = "daxfs pull oci:layout:first target --cert one.cert";
    place.mistakes(&format!("{first} | 1 | target/image: exists"));
    place.ok(format!("{first} --cert other.cert"));
    // So does each byte of it.
    let mut bytes = signed[0].clone();
    bytes[5000] ^= 1;
    place.write("target/image", &bytes);
    let second = "daxfs pull oci:layout:second target --cert one.cert";
    place.mistakes(&format!("{second} | 1 | target/image: exists"));
}

/// The title of a layer may be the chain ID of another: the label decides.
#[test]
fn names_of_layers() {
    let place = Place::new();
    let id = "5c".repeat(32);
    let mut labeled = options();
    labeled.label = id.clone();
    place.shell(format!(
        "cp image {id}.daxfs; daxfs push oci:layout:wrong {id}.daxfs"
    ));
    image_with(
        &place.path("source"),
        &place.path(format!("{id}.daxfs")),
        &labeled,
    )
    .unwrap();
    place.shell(format!("daxfs push oci:layout:right {id}.daxfs"));
    let why = format!("has the label 'a label', so it is not the image of the layer {id};");
    place.refused("wrong", "", &why);
    // A file that is there already is compared as well.
    place.pulls("right", "");
    place.pulls("right", "");
    place.shell(format!("cp image target/{id}.daxfs"));
    assert_ne!(place.pull("wrong", "").status, 0);
    // Other names may have any label.
    place.ok("daxfs pull oci:layout:wrong other");
}
