// SPDX-License-Identifier: GPL-2.0-only

//! Other stores' images that are applied to snapshots. tests/published pulls them from a registry.

use crate::applied::{apply, blob_of, names, store, write};
use crate::{lower, refused, refused_for, says, Machine};
use daxfs_files::{Output, Silent};
use daxfs_snapshotter::api::Descriptor;
use daxfs_store::{Store, IMAGE, PACKS};
use mkdaxfs::input::{read, Input, Options, PULL};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tonic::Code;

/// Adds an image of these files, by name and content, and its packs to containerd's content store.
/// Returns their descriptors.
fn image(machine: &Machine, files: &[(&str, &str)]) -> (Descriptor, Vec<Descriptor>) {
    let place = tempfile::TempDir::new().unwrap();
    let (tree, layout) = (place.path().join("tree"), place.path().join("layout"));
    write(&tree, files);
    let options = Options::new(place.path());
    let tree = read(&[Input::Directory(tree)], &options).unwrap();
    let from = Store::create(&place.path().join("store")).unwrap();
    let create = |path: &Path| Output::create(path);
    from.add("image", tree, &create, &Silent).unwrap();
    from.export("image", &layout, "image", None, &create, &Silent)
        .unwrap();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        std::fs::read(layout.join("blobs/sha256").join(&digest[7..])).unwrap()
    };
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let mut stored = layers
        .iter()
        .map(|layer| store(machine, layer["mediaType"].as_str().unwrap(), &blob(layer)));
    let mut image = stored.next().unwrap();
    let packs: Vec<Descriptor> = stored.collect();
    annotate(&mut image, &packs);
    (image, packs)
}

/// Annotates the image's descriptor with its packs.
fn annotate(image: &mut Descriptor, packs: &[Descriptor]) {
    let digests: Vec<&str> = packs.iter().map(|pack| &*pack.digest).collect();
    image.annotations.insert(PACKS.into(), digests.join(","));
}

/// Checks that the store is empty.
fn nothing_left(machine: &Machine) {
    for inner in ["packs", "images"] {
        let inner = machine.place.path().join("root/store").join(inner);
        assert_eq!(names(&inner), [].into(), "{}", inner.display());
    }
}

/// An image is a container's only layer, and others are stacked on it. An empty image has no packs.
#[tokio::test]
async fn images() {
    let machine = Machine::new().await;
    for (files, packs) in [
        (&[("dir/file", "text"), ("empty", "")][..], 1),
        (&[("empty", "")], 0),
    ] {
        let (image, found) = image(&machine, files);
        assert_eq!(found.len(), packs);
        let mounts = machine.prepare("key", "").await.unwrap();
        let applied = apply(&machine, &image, &mounts).await.unwrap();
        assert_eq!(
            (&applied.digest, applied.size, &*applied.media_type),
            (&image.digest, image.size, IMAGE)
        );
        assert_eq!(
            machine.usage("key").await.unwrap().inodes,
            2 * packs as i64 + 2
        );
        machine.commit("base", "key").await.unwrap();
        let mounts = machine.prepare("key", "base").await.unwrap();
        refused(
            apply(&machine, &image, &mounts).await,
            Code::FailedPrecondition,
        );
        std::fs::write(crate::upper(&mounts).join("new"), "").unwrap();
        machine.commit("change", "key").await.unwrap();
        let mounts = machine.prepare("container", "change").await.unwrap();
        let found = names(&lower(&mounts));
        assert!(
            found.contains("new") && found.contains("empty") && found.len() == 2 + 2 * packs,
            "{found:?}"
        );
        for name in ["container", "change", "base"] {
            machine.remove(name).await.unwrap();
        }
        nothing_left(&machine);
    }
}

/// containerd fetches packs while the image is applied.
#[tokio::test(flavor = "multi_thread")]
async fn packs_come_late() {
    let machine = Machine::new().await;
    let (image, packs) = image(&machine, &[("file", "text")]);
    let mounts = machine.prepare("key", "").await.unwrap();
    let (pack, away) = (
        blob_of(&machine, &packs[0]),
        machine.place.path().join("away"),
    );
    std::fs::rename(&pack, &away).unwrap();
    let late = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::rename(&away, &pack).unwrap();
    };
    // No client waits for an abandoned call, so its snapshot is available to another one.
    let early = tokio::time::timeout(Duration::from_millis(500), apply(&machine, &image, &mounts));
    early.await.unwrap_err();
    let (applied, ()) = tokio::join!(apply(&machine, &image, &mounts), late());
    applied.unwrap();
    machine.commit("layer", "key").await.unwrap();
    // The last one never arrives.
    std::fs::rename(&pack, &away).unwrap();
    let blobs = std::fs::File::open(pack.parent().unwrap()).unwrap();
    let earlier = std::time::SystemTime::now() - Duration::from_secs(61);
    blobs.set_modified(earlier).unwrap();
    let mounts = machine.prepare("key", "").await.unwrap();
    let answer = apply(&machine, &image, &mounts).await;
    let pack = &packs[0].digest[7..];
    says("late", answer, Code::FailedPrecondition, pack);
}

/// Blobs that do not belong together are refused, and leave nothing.
#[tokio::test]
async fn wrong() {
    let machine = Machine::new().await;
    let (good, packs) = image(&machine, &[("file", "text")]);
    let (_, other) = image(&machine, &[("file", "other")]);
    let mounts = machine.prepare("key", "").await.unwrap();
    let with = |packs: &[Descriptor]| {
        let mut image = good.clone();
        annotate(&mut image, packs);
        image
    };
    let pack = blob_of(&machine, &packs[0]);
    let mut damaged = std::fs::read(&pack).unwrap();
    damaged[5000] ^= 1;
    std::fs::write(&pack, damaged).unwrap();
    let unknown = Descriptor {
        annotations: Default::default(),
        ..good.clone()
    };
    let as_image = Descriptor {
        digest: packs[0].digest.clone(),
        ..good.clone()
    };
    let odd = Descriptor {
        digest: "sha256:../../x".into(),
        ..packs[0].clone()
    };
    for (case, image, code) in [
        ("another pack", with(&other), Code::FailedPrecondition),
        ("no pack", with(&[]), Code::FailedPrecondition),
        ("a pack as image", as_image, Code::FailedPrecondition),
        ("a damaged pack", with(&packs), Code::FailedPrecondition),
        ("no annotation", unknown, Code::Unimplemented),
        ("no digest", with(&[odd]), Code::FailedPrecondition),
    ] {
        refused_for(case, apply(&machine, &image, &mounts).await, code);
        nothing_left(&machine);
    }
    let error = apply(&machine, &with(&packs), &mounts).await.unwrap_err();
    assert!(error.message().ends_with(PULL), "{error}");
}
