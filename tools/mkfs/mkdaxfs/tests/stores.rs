// SPDX-License-Identifier: GPL-2.0-only

//! Image stores, and layers under their chain IDs. `tests/imagestore` runs podman with a store.

use crate::support::layout::{docker, named, sha256, Layout};
use crate::support::{place, Place};
use daxfs_testing::builder::superblock;
use daxfs_testing::listing::{Listing, What};
use serde_json::{json, Value};
use std::collections::BTreeSet;

/// Three layers: files, a removal, other files.
const LAYERS: &str = r#"
    mkdir -p one/dir two/dir three
    echo 1 >one/dir/old; echo 1 >one/kept; >two/dir/.wh.old; echo 2 >two/new; echo 3 >three/other
    for name in one two three; do tar --sort=name --mtime=@1 --owner=0 --group=0 -C $name -cf $name.tar .; done
"#;

/// Return two images that share the lowest layer, and their archives.
fn layout() -> (Place, Layout) {
    let place = place(LAYERS);
    let layout = Layout::new(&place.path(""));
    let first = layout.image(&[("one.tar", ""), ("two.tar", "gzip")]);
    let second = layout.image(&[("one.tar", "gzip"), ("three.tar", "")]);
    layout.index(&[named(first, "first"), named(second, "example.org/second:2")]);
    (place, layout)
}

#[test]
fn chain_ids() {
    let (place, _layout) = layout();
    docker(&place.path(""), "saved", &["one.tar", "two.tar"], "a/b:1");
    let first = sha256(place.read("one.tar"));
    let second = sha256(place.read("two.tar"));
    let second = sha256(format!("sha256:{first} sha256:{second}"));
    let mut wanted = [&first, &second].map(|id| format!("{id}.daxfs"));
    wanted.sort();
    for input in ["oci:layout:first", "docker:saved.tar"] {
        place.ok(format!(
            "rm -rf images; mkdaxfs -q --layers=chain-id {input} images"
        ));
        assert_eq!(place.names("images"), wanted);
        // Its own chain ID is in each image.
        for id in [&first, &second] {
            let image = place.read(format!("images/{id}.daxfs"));
            assert_eq!(superblock(&image).label, id.as_bytes());
        }
        let upper = place.listing(&format!("images/{second}.daxfs"));
        assert_eq!(upper[&b"dir/old"[..]].content, What::Device(0, 0));
        // No other image may have such a label.
        place.mistakes(&format!(
            "mkdaxfs --layers=chain-id --label=mine {input} new | 1 | mkdaxfs: --label: cannot be used with --layers=chain-id
             mkdaxfs --label={first} {input} new | 1 | mkdaxfs: --label: is the chain ID of a layer"
        ));
        place.ok(format!(
            "mkdaxfs -q --label={} {input} image",
            first.to_uppercase()
        ));
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
    let (place, _layout) = layout();
    place.ok("mkdaxfs -q --image-store oci:layout:first oci:layout:example.org/second:2 store");
    let store = place.listing("store");
    let [one, two, three] = ["one.tar", "two.tar", "three.tar"].map(|tar| sha256(place.read(tar)));
    let [two, three] = [two, three].map(|id| sha256(format!("{one}+{id}")));
    // Each layer is there once.
    let layers = store
        .keys()
        .filter(|name| name.ends_with(b"/diff"))
        .cloned();
    let wanted = [&one, &two, &three].map(|id| format!("overlay/{id}/diff").into_bytes());
    assert_eq!(BTreeSet::from_iter(layers), BTreeSet::from(wanted));
    let removed = format!("overlay/{two}/diff/dir/old");
    assert_eq!(store[removed.as_bytes()].content, What::Device(0, 0));
    for (path, there) in [
        (format!("overlay/{one}/diff/dir/old"), true),
        (format!("overlay/{one}/lower"), false),
        (format!("overlay/{three}/lower"), true),
    ] {
        assert_eq!(store.contains_key(path.as_bytes()), there, "{path}");
    }
    let layers = json(&store, "overlay-layers/layers.json");
    let parent = |id: &str| {
        let mut layers = layers.as_array().unwrap().iter();
        layers.find(|layer| layer["id"] == *id).unwrap()["parent"].clone()
    };
    assert_eq!((parent(&two), parent(&one)), (one.into(), Value::Null));
    let images = json(&store, "overlay-images/images.json");
    let images = images.as_array().unwrap().iter();
    let images = images.map(|image| (image["names"].to_string(), image["layer"].to_string()));
    let wanted = [
        (
            r#"["localhost/layout:first"]"#.into(),
            json!(two).to_string(),
        ),
        (
            r#"["example.org/second:2"]"#.into(),
            json!(three).to_string(),
        ),
    ];
    assert_eq!(BTreeSet::from_iter(images), BTreeSet::from(wanted));
    docker(&place.path(""), "saved", &["one.tar"], "a/b:1");
    let why = "is not written oci:PATH; skopeo copies";
    place.fails("mkdaxfs -q --image-store docker:saved.tar new", why);
}

/// An image's annotations must not make the whole store unreadable, or take another image's name.
#[test]
fn what_images_say() {
    let (place, layout) = layout();
    let of = |tar: &str, more: Value| {
        layout.manifest_of(layout.config_of(&[tar], &more), &[layout.layer(tar, "")])
    };
    let mut evil = named(of("one.tar", json!({})), "example.org/evil:1");
    evil["annotations"]["io.containerd.image.name"] = "example.org/good:1".into();
    let digest = evil["digest"].as_str().unwrap().to_string();
    let odd = of("two.tar", json!({"created": "yesterday"}));
    let right = of("two.tar", json!({"created": "2026-01-01T00:00:00Z"}));
    layout.index(&[
        evil,
        named(odd, "example.org/good:1"),
        named(right, "a.b/C"),
    ]);
    let make = |names: &[&str]| {
        let inputs = names.iter().map(|name| format!("oci:layout:{name} "));
        let inputs: String = inputs.collect();
        place.run(format!(
            "rm -f image; mkdaxfs -q --image-store {inputs} image"
        ))
    };
    let images = || json(&place.listing("image"), "overlay-images/images.json");
    // The name that was typed.
    let made = make(&["example.org/evil:1", "example.org/good:1"]);
    let why = "was made at 'yesterday', which is not a time of RFC 3339";
    assert!(made.status == 0 && made.stderr.contains(why), "{made:?}");
    let found = images();
    let found = found.as_array().unwrap().iter();
    let found = found.map(|image| (image["names"].to_string(), image["created"].to_string()));
    let epoch = r#""1970-01-01T00:00:00Z""#.to_string();
    let wanted = ["evil", "good"].map(|name| format!(r#"["example.org/{name}:1"]"#));
    let wanted = wanted.map(|name| (name, epoch.clone()));
    assert_eq!(BTreeSet::from_iter(found), wanted.into());
    // By a digest the layout chooses the name.
    let made = make(&[&digest]);
    let why = "the image is called example.org/good:1 in the store";
    assert!(made.stderr.contains(why), "{made:?}");
    let made = make(&["example.org/good:1", &digest]);
    let why = format!("{digest}: is called example.org/good:1 as layout:example.org/good:1 is");
    assert!(made.status == 1 && made.stderr.contains(&why), "{made:?}");
    let made = make(&["a.b/C"]);
    let why = "has no name that podman understands";
    assert!(made.stderr.contains(why), "{made:?}");
    assert_eq!(images()[0]["names"], json!([]));
}
