// SPDX-License-Identifier: GPL-2.0-only

//! The index of a layout: names, digests, and several programs.

use super::Place;
use crate::support::{fail, succeed, DAXFS};
use daxfs_testing::certificate::Owner;
use daxfs_testing::{image_with, options};
use serde_json::{json, Value};
use std::fs;
use std::process::{Command, Stdio};

/// A digest selects the manifest that has it, whatever others are called.
#[test]
fn digests_are_no_names() {
    let place = Place::new();
    let good = place.push("good", &[]);
    place.forge(&good, &good.clone(), |manifest| {
        manifest["layers"][0]["annotations"]["org.daxfs.image.uuid"] = "evil".into();
    });
    assert_eq!(place.pull(&good, &[]).stderr, "");
    fs::remove_file(place.target.join("image")).unwrap();
    // The good one is gone: the other one does not take its place.
    let mut index = place.index();
    index["manifests"].as_array_mut().unwrap().remove(0);
    fs::write(place.layout.join("index.json"), index.to_string()).unwrap();
    assert!(place
        .refused(&good, &[])
        .contains("the layout has no 'sha256:"));
    let image = place.fixture.image.to_str().unwrap();
    let why = fail(&["push", &place.reference(&good), image], 1);
    assert!(why.contains("has a digest as its name"), "{why}");
}

#[test]
fn damaged_indices() {
    let place = Place::new();
    place.push("one", &[]);
    let image = place.fixture.image.to_str().unwrap();
    let nameless = format!("oci:{}", place.layout.display());
    for index in ["[]", "\"x\"", "1", "{}", "{\"manifests\":1}", "null", ""] {
        let path = place.layout.join("index.json");
        fs::write(&path, index).unwrap();
        for reference in [&place.reference("two"), &nameless] {
            let why = fail(&["push", reference, image], 1);
            assert!(why.contains("index.json"), "{index}: {why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), index);
        }
    }
}

/// Names that a push must not take away.
#[test]
fn names_stay() {
    let place = Place::new();
    let digest = place.push("one", &[]);
    let image = place.fixture.image.to_str().unwrap();
    let nameless = format!("oci:{}", place.layout.display());
    for _ in 0..2 {
        assert_eq!(succeed(&["push", &nameless, image]).text().trim(), digest);
        assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 2);
    }
    // Both entries are of one artifact.
    for reference in [nameless, place.reference("one"), place.reference(&digest)] {
        let file = place.target.join("file");
        succeed(&["pull", &reference, file.to_str().unwrap()]);
        fs::remove_file(file).unwrap();
    }
    // An image of a container is not replaced, and neither is what cannot be read.
    place.forge(&digest, "app", |manifest| {
        manifest["artifactType"] = Value::Null;
    });
    let before = place.index();
    let app = place.reference("app");
    let why = fail(&["push", &app, image], 1);
    assert!(why.contains("replace it with --force"), "{why}");
    assert_eq!(place.index(), before);
    succeed(&["push", "--force", &app, image]);
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 3);
    succeed(&["push", &app, image]);
}

/// Pushes at the same time, the first ones into a layout that does not exist, all succeed.
#[test]
fn pushes_together() {
    for _ in 0..5 {
        let place = Place::new();
        let image = place.fixture.image.to_str().unwrap();
        let names = ["a", "b", "c", "d"];
        let children = names.map(|name| {
            let mut command = Command::new(DAXFS);
            command.args(["push", &place.reference(name), image]);
            command.stdout(Stdio::null()).spawn().unwrap()
        });
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 4);
    }
}

/// A layout that somebody else has locked: push says so, and a signal ends it.
#[test]
fn locked() {
    use rustix::fs::{flock, FlockOperation};
    use std::io::{BufRead, BufReader};
    let place = Place::new();
    place.push("one", &[]);
    let directory = fs::File::open(&place.layout).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    let mut child = Command::new(DAXFS)
        .args(["push", &place.reference("two")])
        .arg(&place.fixture.image)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for another program"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn layouts_of_others() {
    let place = Place::new();
    // Members that daxfs does not know, and manifests of others, stay.
    place.push("one", &[]);
    let mut index = place.index();
    index["annotations"] = json!({ "other": "kept" });
    fs::write(place.layout.join("index.json"), index.to_string()).unwrap();
    // Two names of one artifact would be no choice.
    place.push("two", &["--zstd"]);
    assert_eq!(place.index()["annotations"]["other"], "kept");
    let why = place.refused("", &[]);
    assert!(why.contains("has no name after the colon"), "{why}");
    let several = format!("oci:{}", place.layout.display());
    let why = fail(&["pull", &several, "/none"], 1);
    assert!(why.contains("by its digest if need be: one, two"), "{why}");
    // A directory with other files is not made a layout.
    let image = place.fixture.image.to_str().unwrap();
    let source = place.fixture.directory.path().join("source");
    let reference = format!("oci:{}:1", source.display());
    let why = fail(&["push", &reference, image], 1);
    assert!(why.contains("is neither empty nor an OCI layout"), "{why}");
    let why = fail(&["push", "docker://example.org/a:1", image], 1);
    assert!(why.contains("skopeo copies artifacts"), "{why}");
    // A damaged image is not pushed.
    let mut bytes = fs::read(image).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(image, bytes).unwrap();
    let why = fail(&["push", &place.reference("three"), image], 1);
    assert!(why.contains("the superblock says"), "{why}");
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 2);
}

/// An image that was signed again is the same image: two signatures with an ECDSA key are different.
#[test]
fn signed_again() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = place.fixture.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let owners = ["one", "other"].map(|name| {
        let owner = Owner::new(name, None, "20000101000000Z", "20990101000000Z");
        let key = write(&format!("{name}.key"), &owner.key);
        (key, write(&format!("{name}.cert"), &owner.certificate))
    });
    let [(key, cert), (other_key, other_cert)] = &owners;
    let image = place.fixture.image.to_str().unwrap();
    let pulled = place.target.join("image");
    let mut signed = Vec::new();
    for name in ["first", "second"] {
        succeed(&["sign", "--key", key, "--cert", cert, image]);
        place.push(name, &[]);
        signed.push(fs::read(image).unwrap());
        let run = place.pull(name, &["--cert", cert]);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        // The file that was there before stays.
        assert!(fs::read(&pulled).unwrap() == signed[0]);
    }
    assert!(signed[0] != signed[1]);
    assert_eq!(place.pull("second", &[]).status, 0);
    // Its own signature counts, not the pulled image's.
    succeed(&["sign", "--key", other_key, "--cert", other_cert, image]);
    fs::copy(image, &pulled).unwrap();
    let run = place.pull("first", &["--cert", cert]);
    assert!(run.stderr.contains("target/image: exists"), "{run:?}");
    let both = ["--cert", cert, "--cert", other_cert];
    assert_eq!(place.pull("first", &both).status, 0);
    // So does each byte of it.
    let mut bytes = signed[0].clone();
    bytes[5000] ^= 1;
    fs::write(&pulled, &bytes).unwrap();
    let run = place.pull("second", &["--cert", cert]);
    assert!(run.stderr.contains("target/image: exists"), "{run:?}");
    assert!(fs::read(&pulled).unwrap() == bytes);
}

/// The title of a layer may be the chain ID of another: the label decides.
#[test]
fn names_of_layers() {
    let place = Place::new();
    let id = "5c".repeat(32);
    let source = place.fixture.directory.path().join("files of a layer");
    fs::create_dir(&source).unwrap();
    let mut labeled = options();
    labeled.label = id.clone();
    for (name, wanted) in [("wrong", false), ("right", true)] {
        let image = place.fixture.directory.path().join(format!("{id}.daxfs"));
        match wanted {
            true => _ = image_with(&source, &image, &labeled).unwrap(),
            false => _ = fs::copy(&place.fixture.image, &image).unwrap(),
        }
        let reference = place.reference(name);
        succeed(&["push", &reference, image.to_str().unwrap()]);
    }
    let said = place.refused("wrong", &[]);
    let wants = format!("has the label 'a label', so it is not the image of the layer {id};");
    assert!(said.contains(&wants), "{said}");
    assert_eq!(place.pull("right", &[]).status, 0);
    // A file that is there already is compared as well.
    let path = place.target.join(format!("{id}.daxfs"));
    assert_eq!(place.pull("right", &[]).status, 0);
    fs::copy(&place.fixture.image, &path).unwrap();
    assert_ne!(place.pull("wrong", &[]).status, 0);
    // Other names may have any label.
    let other = place.fixture.directory.path().join("other");
    let reference = place.reference("wrong");
    succeed(&["pull", &reference, other.to_str().unwrap()]);
}
