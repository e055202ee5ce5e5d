// SPDX-License-Identifier: GPL-2.0-only

//! Images of stores in OCI layouts. tests/registry transfers them through a registry.

use crate::store::versions;
use crate::support::{available, certificate, skip, Place, DECADES};
use mkdaxfs::input::Platform;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

const BLOBS: &str = "layout/blobs/sha256";

/// Creates a store with two versions, the second one signed, and a layout with both.
fn exported() -> Place {
    let place = versions();
    place.shell("for n in 1 2; do daxfs store add store base-$n v$n; done");
    if available("openssl") {
        place.shell(certificate("owner", "owner", DECADES));
        place.shell("daxfs sign --key owner.key --cert owner.pem store/images/base-2.daxfs");
    }
    place.shell("for n in 1 2; do daxfs store export store base-$n oci:layout; done");
    place
}

/// Returns a description from the layout.
fn description(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).unwrap()
}

/// Returns the file with the blob of `descriptor`.
fn file(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    format!("{BLOBS}/{}", digest.strip_prefix("sha256:").unwrap())
}

/// Returns the manifest of the layout's image number `index`.
fn manifest(place: &Place, index: usize) -> Value {
    let images = description(place, "layout/index.json");
    description(place, &file(&images["manifests"][index]))
}

/// Returns the blobs of the last image: the image and its packs.
fn parts(place: &Place) -> Vec<String> {
    let manifest = manifest(place, 1);
    manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(file)
        .collect()
}

/// Replaces the last image's manifest.
fn replace(place: &Place, manifest: &Value) {
    let text = manifest.to_string();
    let digest = Sha256::digest(&text);
    let digest = daxfs_files::digest::hex(&digest);
    place.write(format!("{BLOBS}/{digest}"), &text);
    let mut index = description(place, "layout/index.json");
    index["manifests"][1]["digest"] = json!(format!("sha256:{digest}"));
    index["manifests"][1]["size"] = json!(text.len());
    place.write("layout/index.json", index.to_string());
}

/// Fails to add the last image to a store, which stays empty.
#[track_caller]
fn refused(place: &Place, part: &str) -> String {
    let said = place.fails("daxfs store add new base-2 oci:layout:base-2", part);
    for directory in ["new/images", "new/packs"] {
        assert_eq!(place.names(directory), [""; 0]);
    }
    said
}

#[test]
fn there_and_back() {
    let place = versions();
    place.shell("for n in 1 2; do daxfs store add store base-$n v$n; done");
    // The image, two packs, the manifest and the configuration. The second one adds its version,
    // and contains the large and the small file.
    place.steps(
        "daxfs store export store",
        "base-1 oci:layout | 0 | base-1: 5 blobs (3.0M) are new, 0 (0) were present
        base-2 oci:layout | 0 | base-2: 4 blobs (",
    );
    let before = place.names(BLOBS);
    place.steps(
        "daxfs store export store",
        "base-2 oci:layout | 0 | base-2: 0 blobs (0) are new, 6 (
        base-2 oci:layout:latest | 0 | latest: 0 blobs (0) are new",
    );
    assert_eq!((place.names(BLOBS), before.len()), (before.clone(), 9));
    assert_eq!(place.names("layout"), ["blobs", "index.json", "oci-layout"]);
    for name in &before {
        let content = place.read(format!("{BLOBS}/{name}"));
        assert_eq!(&daxfs_files::digest::hex(&Sha256::digest(content)), name);
    }
    // Other programs add more to the index.
    let mut index = description(&place, "layout/index.json");
    let names = || index["manifests"].as_array().unwrap().iter();
    let names = names().map(|it| &it["annotations"]["org.opencontainers.image.ref.name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["base-1", "base-2", "latest"]);
    index["annotations"] = json!({ "a": "b" });
    place.write("layout/index.json", index.to_string());

    let digest = index["manifests"][1]["digest"].as_str().unwrap();
    place.steps(
        "daxfs store",
        &format!(
            "add other base-1 oci:layout:base-1 | 0 | base-1: 3 objects (2.9M) are new, 0 (0) were present; 2 packs
            add other base-2 oci:layout:latest | 0 | base-2: 1 objects (2) are new, 3 (2.9M) were present; 3 packs
            add -a other by-digest oci:layout:{digest} | 0 | by-digest: 0 objects
            verify other | 0 | 3 images, 3 packs, 4 objects: 0 problems
            list other | 0 | by-digest  active
            add other base-1 oci:layout:base-1 | 1 | base-1: is in the store"
        ),
    );
    place.ok("diff -r store/packs other/packs; for n in 1 2; do cmp {store,other}/images/base-$n.daxfs; done");
    // The packs that only this image needs are freed. A new image takes over another one's name.
    place.steps(
        "daxfs store",
        "remove other base-2
        remove other by-digest
        gc other | 0 | removed 1 packs, 0 unfinished
        export store base-1 oci:layout:latest | 0 | latest: 0 blobs
        add other again oci:layout:base-1 | 0 | again: 0 objects
        add other now oci:layout:latest",
    );
    let index = description(&place, "layout/index.json");
    assert_eq!(index["annotations"], json!({ "a": "b" }));
    place.ok(
        "cmp {store/images/base-1,other/images/again}.daxfs && cmp other/images/{now,again}.daxfs",
    );
}

#[test]
fn signatures() {
    if !available("openssl") {
        return skip("needs openssl");
    }
    let place = exported();
    place.ok("daxfs store add other base-2 oci:layout:base-2");
    place.same("other/images/base-2.daxfs", "store/images/base-2.daxfs");
    place.ok("daxfs verify --cert owner.pem other/images/base-2.daxfs");
    // The unsigned image is a different blob.
    place.steps(
        "daxfs store",
        "add store unsigned v2
        export store unsigned oci:layout | 0 | unsigned: 3 blobs (",
    );
}

#[test]
fn damage() {
    let place = exported();
    let parts = parts(&place);
    for part in &parts {
        let content = place.read(part);
        let mut damaged = content.clone();
        damaged[content.len() / 2] ^= 1;
        place.write(part, &damaged);
        refused(&place, &format!("{part}: does not have its digest sha256:"));
        // The size does not reveal it.
        place.prints("daxfs store export store base-2 oci:layout", ": 0 blobs");
        place.write(part, &damaged[..100]);
        let said = refused(&place, &format!("{part}: has 100 bytes instead of "));
        assert!(said.contains("remove this file, and copy the image to the layout again"));
        place.ok(format!("rm {part}"));
        let name = part.strip_prefix("layout/").unwrap();
        let why = "it is not a complete OCI image layout. Copy the image to it again";
        refused(&place, &format!("layout: has no '{name}'; {why}"));
        place.prints("daxfs store export store base-2 oci:layout", ": 1 blobs (");
        assert!(place.read(part) == content);
    }
    // Packs that the store has are not read.
    place.ok("daxfs store add some base-1 oci:layout:base-1");
    let large = parts[1..].iter().max_by_key(|part| place.read(part).len());
    place.ok(format!("rm {}", large.unwrap()));
    let add = "daxfs store add some base-2 oci:layout:base-2";
    place.prints(add, "1 objects (2) are new");
    // A damaged pack in the store is replaced.
    place.ok("daxfs store export store base-2 oci:layout; daxfs store remove some base-2");
    place.ok("mv store/packs good; cp -r some/packs store/packs; for pack in some/packs/*; do echo >$pack; done");
    let run = place.says(add, 0, "; it is replaced\n");
    let replaced = run.stderr.matches("; it is replaced\n").count();
    assert_eq!(replaced, 3, "{run:?}");
    let line = "diff -r good some/packs; daxfs store verify some";
    place.prints(line, ": 0 problems");
    // No damaged pack is published.
    let pack = place.names("store/packs").remove(0);
    place.ok(format!(
        "rm -r layout; cp good/* store/packs; rm store/packs/{pack}"
    ));
    let export = "daxfs store export store base-2 oci:layout";
    let why = format!("base-2: needs pack {}, which is missing", &pack[..64]);
    place.fails(export, &why);
    let mut content = place.read(format!("good/{pack}"));
    *content.last_mut().unwrap() ^= 1;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    place.write(format!("store/packs/{pack}"), &content);
    place.fails(export, &format!("store/packs/{pack}: "));
    assert!(!place.exists("layout/index.json"));
}

/// Manifests that do not match their blobs.
#[test]
fn wrong_manifests() {
    let place = exported();
    let good = manifest(&place, 1);
    let layers = good["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let (mut changed, mut layers) = (good.clone(), layers.clone());
        change(&mut layers);
        changed["layers"] = json!(layers);
        replace(&place, &changed);
    };
    with(&|layers| layers.swap(1, 2));
    refused(&place, ": is not the pack ");
    with(&|layers| layers[1] = layers[0].clone());
    refused(&place, ": is not the pack ");
    with(&|layers| _ = layers.pop());
    refused(
        &place,
        "needs 3 packs, and its manifest has 2; export it again",
    );
    with(&|layers| layers.push(layers[1].clone()));
    refused(&place, "needs 3 packs, and its manifest has 4");
    with(&|layers| layers[1]["digest"] = json!("sha256:../../../index.json"));
    refused(
        &place,
        "'sha256:../../../index.json', which is not a SHA-256",
    );
    for size in [1, 1 << 62, u64::MAX] {
        with(&|layers| layers[1]["size"] = json!(size));
        refused(&place, &format!(" bytes instead of {size}; "));
    }
    // Not a byte of it is copied.
    place.shell("ln -s /dev/zero layout/blobs/sha256/$(printf '%064d' 0)");
    with(&|layers| layers[1]["digest"] = json!(format!("sha256:{:064}", 0)));
    refused(&place, "is not a regular file");
    with(&|layers| {
        layers[0] = {
            let mut pack = layers[1].clone();
            pack["mediaType"] = layers[0]["mediaType"].clone();
            pack
        }
    });
    refused(&place, "needs 0 packs, and its manifest has 3");
    // Not an image of a store.
    with(&|layers| layers.rotate_left(1));
    let kind = "has a layer of the type application/vnd.daxfs.pack.v1, which is not a tar archive; add it to a store with";
    refused(&place, kind);
    let bad = serde_json::from_str("{\"layers\":null}").unwrap();
    replace(&place, &bad);
    refused(&place, "is not understood");
    replace(&place, &good);
    place.ok("daxfs store add new base-2 oci:layout:base-2");
}

#[test]
fn mistakes() {
    let place = exported();
    place.shell("mkdir full co:lon; echo >full/file; truncate -s 16M memory; daxfs store init -f memory; tar -C layout -cf layout.tar .; cp -r layout bad; echo [] >bad/index.json; cp -r layout rot; rm rot/blobs/sha256/$(sed 's/.*sha256:\\([0-9a-f]*\\).*/\\1/' rot/index.json)");
    place.mistakes(
        "daxfs store export store none oci:l | 1 | none: no such image in the store
         daxfs store export none base-1 oci:l | 1 | none: does not exist; check the path
         daxfs store export store base-1 l | 1 | l: is not an OCI layout; name one as oci:DIR
         daxfs store export store base-1 oci: | 1 | oci:: is not an OCI layout
         daxfs store export store base-1 oci::x | 1 | oci::x: is not an OCI layout
         daxfs store export store base-1 oci:layout: | 1 | oci:layout:: is not an OCI layout
         daxfs store export store base-1 oci:full | 1 | full: is neither an OCI layout nor an empty directory
         daxfs store export store base-1 oci:store | 1 | store: is neither an OCI layout nor
         daxfs store export store base-1 oci:layout.tar | 1 | layout.tar
         daxfs store export store base-1 oci:bad | 1 | bad/index.json: is not understood
         daxfs store export memory base-1 oci:l | 1 | memory: is not a directory; export
         daxfs store export store base-1 oci:co:lon | 1 | co:lon: has a colon
         flock layout daxfs store export --no-wait store base-1 oci:layout | 1 | layout: another process exports to this layout
         daxfs store add store x oci:layout | 1 | layout: has several images; name one after a colon: base-1, base-2
         daxfs store add store x oci:layout:v3 | 1 | layout: has no image called 'v3'; it has: base-1, base-2
         daxfs store add store x oci:layout.tar:base-1 | 1 | from a layout in a directory
         daxfs store add store x oci:layout:base-1 v1 | 1 | add it to a store with daxfs store add, alone
         daxfs store add --exclude a store x oci:layout:base-1 | 1 | --exclude: is for files
         daxfs store add --platform linux/s390x store x oci:layout:base-1 | 1 | layout: has no image for linux/s390x
         daxfs store add store ../x oci:layout:base-1 | 1 | ../x: is not a name for an image
         daxfs store add memory x oci:layout:base-1 | 1 | oci:layout:base-1: is an image of a store; add it to one in a directory
         daxfs store add memory x oci:bad | 1 | bad: index.json is not understood
         daxfs store add memory x oci:rot:base-2 | 1 | rot: has no 'blobs/sha256/
         daxfs store add store x oci:bad | 1 | bad: index.json is not understood",
    );
}

/// An image with the configuration of the container image from which it was made.
#[test]
fn for_containers() {
    let place = versions();
    let here = Platform::here().to_string();
    place.shell(format!("mkdir -p {BLOBS}; tar -C v1 -cf layer.tar ."));
    let blob = |kind: &str, content: &[u8]| {
        let digest = daxfs_files::digest::hex(&Sha256::digest(content));
        place.write(format!("{BLOBS}/{digest}"), content);
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": content.len() })
    };
    let layer = blob("layer.v1.tar", &place.read("layer.tar"));
    let config = json!({
        "os": "linux",
        "architecture": here.strip_prefix("linux/").unwrap(),
        "config": { "Cmd": ["sh"] },
        "history": [{ "created_by": "hand" }],
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let manifest = json!({
        "schemaVersion": 2,
        "config": blob("config.v1+json", config.to_string().as_bytes()),
        "layers": [layer],
    });
    let mut ordinary = blob("manifest.v1+json", manifest.to_string().as_bytes());
    ordinary["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let index = json!({ "schemaVersion": 2, "manifests": [ordinary] });
    place.write("layout/index.json", index.to_string());
    place.write("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");

    // Its layers contain the files that mkdaxfs extracts from them.
    place.ok("daxfs store add store base-1 oci:layout:1; daxfs store add store plain layer.tar");
    place.same("store/images/plain.daxfs", "store/images/base-1.daxfs");
    // The second time changes nothing.
    for new in ["5 blobs (", "0 blobs ("] {
        let export = "daxfs store export --container 1 store base-1 oci:layout:1-daxfs";
        place.prints(export, &format!("1-daxfs: {new}"));
        let index = description(&place, "layout/index.json");
        let names = index["manifests"].as_array().unwrap().iter();
        let names = names.map(|it| &it["annotations"]["org.opencontainers.image.ref.name"]);
        assert_eq!(names.collect::<Vec<_>>(), ["1", "1-daxfs"]);
        let ours = description(&place, &file(&index["manifests"][1]));
        let config = description(&place, &file(&ours["config"]));
        assert_eq!(config["config"], json!({ "Cmd": ["sh"] }));
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([ours["layers"][0]["digest"]])
        );
        let packs = ours["layers"].as_array().unwrap()[1..].iter();
        let packs: Vec<&str> = packs.map(|pack| pack["digest"].as_str().unwrap()).collect();
        assert_eq!(
            ours["layers"][0]["annotations"]["org.daxfs.packs"],
            packs.join(",")
        );
    }
    place.ok("daxfs store add other by-name oci:layout:1-daxfs");
    place.same("other/images/by-name.daxfs", "store/images/base-1.daxfs");
    place.ok(
        "daxfs store add new ordinary oci:layout:1; daxfs store export store base-1 oci:layout",
    );
    place.mistakes(
        "daxfs store export --container none store base-1 oci:layout | 1 | layout: has no image called 'none'
         daxfs store export --container base-1 store base-1 oci:layout:x | 1 | layout: base-1 is an image for daxfs
         daxfs store export --container 1 store base-1 oci:layout:1 | 1 | 1: is the name of the container image
         daxfs store export --container 1 store base-1 oci:none | 1 | none: is not an OCI layout with a container image
         daxfs store export --container 1-daxfs store base-1 oci:layout:x | 1 | 1-daxfs is an image for daxfs
         daxfs store export --container 1 --platform linux/none store base-1 oci:layout:x | 1 | has no image for linux/none
         daxfs store export --platform linux/amd64 store base-1 oci:layout | 2 | --container",
    );
}

/// A killed export leaves no image, and the next one removes its files.
#[test]
fn remains() {
    let place = versions();
    place.shell("daxfs store add store base-1 v1; mkdir -p layout/blobs/sha256; echo >layout/blobs/sha256/.mkdaxfs-x.tmp");
    place.fails(
        "daxfs store add new base-1 oci:layout:base-1",
        "has no 'oci-layout'",
    );
    place.shell(
        "echo >layout/.mkdaxfs-x.tmp; echo >other; ln -s ../other layout/oci-layout; echo {} >index; ln -s ../index layout/index.json",
    );
    place.ok("daxfs store export store base-1 oci:layout:registry.example/base:1");
    assert_eq!(place.names(BLOBS).len(), 5);
    assert_eq!(place.names("layout"), ["blobs", "index.json", "oci-layout"]);
    // Links of the layout are replaced, not followed.
    place.ok("[ $(cat index) = {} ] && [ -z $(cat other) ]");
    place.ok("daxfs store add new base-1 oci:layout");
    place.ok("daxfs store add new by-end oci:layout:base:1");
}
