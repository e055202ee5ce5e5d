// SPDX-License-Identifier: GPL-2.0-only

//! Image stores, and layers under their chain IDs. `tests/imagestore` runs podman with a store.

use crate::support::layout::{docker, named, Layout};
use crate::support::{mkdaxfs, run, shell};
use daxfs_check::digest::hex;
use daxfs_reader::Superblock;
use daxfs_testing::listing::{Listing, What};
use daxfs_testing::listing_of;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Three layers: files, a removal, other files.
const LAYERS: &str = r#"
    mkdir -p one/dir two/dir three
    echo 1 >one/dir/old; echo 1 >one/kept; >two/dir/.wh.old; echo 2 >two/new; echo 3 >three/other
    for name in one two three; do tar --sort=name --mtime=@1 --owner=0 --group=0 -C $name -cf $name.tar .; done
"#;

/// Return the SHA-256 of a file, or of a text.
fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// Two images that share the lowest layer, and their archives.
fn layout(at: &Path) -> (Layout, [PathBuf; 3]) {
    shell(at, LAYERS);
    let tars = ["one.tar", "two.tar", "three.tar"].map(|name| at.join(name));
    let layout = Layout::new(&at.join("layout"));
    let [one, two, three] = &tars;
    let manifests = [
        named(layout.image(&[(one, ""), (two, "gzip")]), "first"),
        named(
            layout.image(&[(one, "gzip"), (three, "")]),
            "example.org/second:2",
        ),
    ];
    layout.index(&manifests);
    (layout, tars)
}

#[test]
fn chain_ids() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (layout, [one, two, _]) = layout(at);
    docker(&at.join("saved.tar"), &[one.clone(), two.clone()], "a/b:1");
    let (one, two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    let first = sha256(&one);
    let second = sha256(format!("sha256:{first} sha256:{}", sha256(&two)));
    let wanted = BTreeSet::from([format!("{first}.daxfs"), format!("{second}.daxfs")]);
    for input in [
        format!("oci:{}:first", layout.0.display()),
        format!("docker:{}", at.join("saved.tar").display()),
    ] {
        let images = at.join("images");
        let run = run(mkdaxfs()
            .args(["-q", "--layers=chain-id", &input])
            .arg(&images));
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        let names = images.read_dir().unwrap();
        let names: BTreeSet<String> = names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, wanted);
        // Its own chain ID is in each image.
        for id in [&first, &second] {
            let image = fs::read(images.join(format!("{id}.daxfs"))).unwrap();
            let superblock = Superblock::load(&&image[..]).unwrap();
            assert_eq!(superblock.label, id.as_bytes());
        }
        let upper = listing_of(&images.join(format!("{second}.daxfs")));
        assert_eq!(upper[&b"dir/old"[..]].content, What::Device(0, 0));
        fs::remove_dir_all(&images).unwrap();
        let words = ["-q", "--layers=chain-id", "--label=mine", &input];
        let run = self::run(mkdaxfs().args(words).arg(&images));
        let wants = "mkdaxfs: --label: cannot be used with --layers=chain-id";
        assert!(run.status == 1 && run.stderr.starts_with(wants), "{run:?}");
        assert!(!images.exists());
        // No other image may have such a label.
        let image = at.join("image");
        let words = ["-q", &format!("--label={first}"), &input];
        let run = self::run(mkdaxfs().args(words).arg(&image));
        let wants = "mkdaxfs: --label: is the chain ID of a layer";
        assert!(run.status == 1 && run.stderr.starts_with(wants), "{run:?}");
        assert!(!image.exists());
        let upper_case = format!("--label={}", first.to_uppercase());
        let run = self::run(mkdaxfs().args(["-q", &upper_case, &input]).arg(&image));
        assert_eq!(run.status, 0, "{run:?}");
        fs::remove_file(&image).unwrap();
    }
}

/// Return a file of a store in JSON.
fn json(store: &Listing, path: &str) -> Value {
    match &store[path.as_bytes()].content {
        What::Bytes(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn stores() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (layout, tars) = layout(at);
    let image = at.join("store");
    let path = layout.0.display();
    let inputs = [
        format!("oci:{path}:first"),
        format!("oci:{path}:example.org/second:2"),
    ];
    let made = run(mkdaxfs()
        .args(["-q", "--image-store"])
        .args(&inputs)
        .arg(&image));
    assert_eq!((made.status, made.stderr.as_str()), (0, ""));
    let store: Listing = listing_of(&image);
    let [one, two, three] = tars.map(|tar| sha256(fs::read(tar).unwrap()));
    let above = |id: &str| sha256(format!("{one}+{id}"));
    let (two, three) = (above(&two), above(&three));
    // Each layer is there once.
    let layers: BTreeSet<Vec<u8>> = store
        .keys()
        .filter(|name| name.ends_with(b"/diff"))
        .cloned()
        .collect();
    let wanted = [&one, &two, &three].map(|id| format!("overlay/{id}/diff").into_bytes());
    assert_eq!(layers, BTreeSet::from(wanted));
    let removed = format!("overlay/{two}/diff/dir/old");
    assert_eq!(store[removed.as_bytes()].content, What::Device(0, 0));
    assert!(store.contains_key(format!("overlay/{one}/diff/dir/old").as_bytes()));
    assert!(!store.contains_key(format!("overlay/{one}/lower").as_bytes()));
    assert!(store.contains_key(format!("overlay/{three}/lower").as_bytes()));
    let layers = json(&store, "overlay-layers/layers.json");
    let parent = |id: &str| {
        let mut layers = layers.as_array().unwrap().iter();
        layers.find(|layer| layer["id"] == *id).unwrap()["parent"].clone()
    };
    assert_eq!((parent(&two), parent(&one)), (one.into(), Value::Null));
    let images = json(&store, "overlay-images/images.json");
    let images = images.as_array().unwrap().iter();
    let images: BTreeSet<(String, &str)> = images
        .map(|image| {
            (
                image["names"][0].to_string(),
                image["layer"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        (r#""localhost/layout:first""#.into(), two.as_str()),
        (r#""example.org/second:2""#.into(), three.as_str()),
    ];
    assert_eq!(images, BTreeSet::from(wanted));
}

/// Inputs that cannot become a store.
#[test]
fn refusals() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (layout, [one, two, _]) = layout(at);
    let refused = |input: &str| -> String {
        let image = at.join("image");
        let run = run(mkdaxfs().args(["-q", "--image-store", input]).arg(&image));
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(!image.exists());
        run.stderr
    };
    docker(&at.join("saved.tar"), &[one.clone()], "a/b:1");
    let why = refused(&format!("docker:{}", at.join("saved.tar").display()));
    assert!(
        why.contains("is not written oci:PATH; skopeo copies"),
        "{why}"
    );
    // The configuration has the digest of another archive.
    let config = layout.config(&[&two]);
    layout.index(&[layout.manifest_of(config, &[layout.layer(&one, "")])]);
    let why = refused(&format!("oci:{}", layout.0.display()));
    assert!(why.contains("does not have its digest"), "{why}");
    let config = layout.config(&[&one, &two]);
    layout.index(&[layout.manifest_of(config, &[layout.layer(&one, "")])]);
    let why = refused(&format!("oci:{}", layout.0.display()));
    assert!(why.contains("has 1 layers and 2 digests for them"), "{why}");
    for other in [
        "--layers",
        "--all-root",
        "--mode=0",
        "--mtime=0",
        "--map-uid=0:1",
    ] {
        let both = Command::new(env!("CARGO_BIN_EXE_mkdaxfs"))
            .args(["--image-store", other, "oci:a", "b"])
            .output();
        assert_eq!(both.unwrap().status.code(), Some(2), "{other}");
    }
}

/// An image's annotations must not make the whole store unreadable, or take another image's name.
#[test]
fn what_images_say() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (layout, [one, two, _]) = layout(at);
    let path = layout.0.display();
    let of = |tar: &PathBuf, more: Value| {
        layout.manifest_of(layout.config_of(&[tar], &more), &[layout.layer(tar, "")])
    };
    let mut evil = named(of(&one, json!({})), "example.org/evil:1");
    evil["annotations"]["io.containerd.image.name"] = "example.org/good:1".into();
    layout.index(&[
        evil,
        named(
            of(&two, json!({"created": "yesterday"})),
            "example.org/good:1",
        ),
        named(
            of(&two, json!({"created": "2026-01-01T00:00:00Z"})),
            "a.b/C",
        ),
    ]);
    let image = at.join("image");
    let make = |names: &[&str]| {
        let inputs = names.iter().map(|name| format!("oci:{path}:{name}"));
        let _ = fs::remove_file(&image);
        run(mkdaxfs()
            .args(["-q", "--image-store"])
            .args(inputs)
            .arg(&image))
    };
    let images = || json(&listing_of(&image), "overlay-images/images.json");
    // The name that was typed.
    let made = make(&["example.org/evil:1", "example.org/good:1"]);
    assert_eq!(made.status, 0, "{made:?}");
    let why = "was made at 'yesterday', which is not a time of RFC 3339";
    assert!(made.stderr.contains(why), "{made:?}");
    let found = images();
    let found = found.as_array().unwrap().iter();
    let found: BTreeSet<_> = found
        .map(|image| (image["names"].to_string(), image["created"].to_string()))
        .collect();
    let epoch = r#""1970-01-01T00:00:00Z""#.to_string();
    let wanted = ["evil", "good"].map(|name| format!(r#"["example.org/{name}:1"]"#));
    assert_eq!(found, wanted.map(|name| (name, epoch.clone())).into());
    // By a digest the layout chooses the name.
    let index: Value =
        serde_json::from_slice(&fs::read(layout.0.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let made = make(&[digest]);
    let why = "the image is called example.org/good:1 in the store";
    assert!(made.stderr.contains(why), "{made:?}");
    let made = make(&["example.org/good:1", digest]);
    assert_eq!(made.status, 1);
    let why = format!("{digest}: is called example.org/good:1 as {path}:example.org/good:1 is");
    assert!(made.stderr.contains(&why), "{made:?}");
    let made = make(&["a.b/C"]);
    assert!(
        made.stderr.contains("has no name that podman understands"),
        "{made:?}"
    );
    assert_eq!(images()[0]["names"], json!([]));
}
