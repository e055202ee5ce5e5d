// SPDX-License-Identifier: GPL-2.0-only

//! `push` and `pull`.

mod layouts;

use crate::support::{self, chmod, is_root, who, Run};
use daxfs_testing::certificate::Owner;
use daxfs_testing::{image_with, options};
use serde_json::{json, Value};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An image, a layout beside it, and an empty directory `target`.
struct Place(support::Place);

impl std::ops::Deref for Place {
    type Target = support::Place;

    fn deref(&self) -> &support::Place {
        &self.0
    }
}

impl Place {
    fn new() -> Self {
        let place = support::fixture();
        place.shell("mkdir target");
        Place(place)
    }

    /// Make the image of files in the tree, with options.
    fn image(&self, options: &daxfs_writer::options::Options) {
        image_with(&self.path("source"), &self.path("image"), options).unwrap();
    }

    /// Push the image under `name`, and return the digest of the manifest.
    fn push(&self, name: &str, more: &str) -> String {
        let run = self.ok(format!("daxfs push oci:layout:{name} image {more}"));
        run.text().trim_end().into()
    }

    /// Pull the artifact `name` into the empty directory.
    fn pull(&self, name: &str, more: &str) -> Run {
        self.run(format!("daxfs pull oci:layout:{name} target {more}"))
    }

    /// Pull the artifact, without a message.
    #[track_caller]
    fn pulls(&self, name: &str, more: &str) -> Run {
        self.ok(format!("daxfs pull oci:layout:{name} target {more}"))
    }

    /// Fail to pull the artifact `name`, with `part` in the message. Nothing must be left. Return the message.
    #[track_caller]
    fn refused(&self, name: &str, more: &str, part: &str) -> String {
        let line = format!("daxfs pull 'oci:layout:{name}' target {more}");
        let told = self.fails(line, part);
        assert_eq!(self.names("target"), [""; 0]);
        let start = format!("daxfs: oci:layout:{name}: ");
        assert!(told.starts_with(&start), "{told}");
        told
    }

    /// Return the path of a blob, from the place.
    fn blob(&self, digest: &str) -> PathBuf {
        Path::new("layout/blobs").join(digest.replace(':', "/"))
    }

    fn json(&self, path: impl AsRef<Path>) -> Value {
        serde_json::from_slice(&self.read(path)).unwrap()
    }

    fn index(&self) -> Value {
        self.json("layout/index.json")
    }

    /// Return the number of manifests in the index.
    fn manifests(&self) -> usize {
        self.index()["manifests"].as_array().unwrap().len()
    }

    /// Return the first layer of the manifest `digest`.
    fn layer(&self, digest: &str) -> Value {
        self.json(self.blob(digest))["layers"][0].clone()
    }

    /// Publish another manifest under `name`: the manifest of `from`, changed by `change`.
    fn forge(&self, from: &str, name: &str, change: impl FnOnce(&mut Value)) {
        use daxfs_check::digest::hex;
        use sha2::{Digest, Sha256};
        let mut manifest = self.json(self.blob(from));
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        self.write(self.blob(&digest), &bytes);
        let mut index = self.index();
        index["manifests"].as_array_mut().unwrap().push(json!({
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": bytes.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }));
        self.write("layout/index.json", index.to_string());
    }

    /// Write the files of somebody with a key and a certificate.
    fn owner(&self, name: &str) {
        let owner = Owner::new(name, None, "20000101000000Z", "20990101000000Z");
        self.write(format!("{name}.key"), &owner.key);
        self.write(format!("{name}.cert"), &owner.certificate);
    }

    fn sign(&self, name: &str) {
        self.ok(format!(
            "daxfs sign --key {name}.key --cert {name}.cert image"
        ));
    }
}

#[test]
fn there_and_back() {
    let place = Place::new();
    let digest = support::digest(&place);
    let plain = place.push("plain", "");
    place.push("small", "--zstd");
    let original = place.read("image");
    for name in ["plain", "small"] {
        let run = place.pulls(name, &format!("--digest {digest}"));
        assert_eq!(run.text(), format!("{digest}  target/image\n"));
        assert!(place.read("target/image") == original);
        place.shell("rm target/image");
    }
    // The view of other programs.
    let manifest = place.json(place.blob(&plain));
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["artifactType"], "application/vnd.daxfs.image.v1");
    let empty = "application/vnd.oci.empty.v1+json";
    assert_eq!(manifest["config"]["mediaType"], empty);
    assert_eq!(manifest["config"]["data"], "e30=");
    let config = manifest["config"]["digest"].as_str().unwrap();
    assert_eq!(place.read(place.blob(config)), b"{}");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.daxfs.layer.v1");
    assert_eq!(layer["size"], original.len());
    let annotations = &layer["annotations"];
    assert_eq!(annotations["org.daxfs.image.digest"], *digest);
    assert_eq!(annotations["org.daxfs.image.label"], "a label");
    assert_eq!(annotations["org.opencontainers.image.title"], "image");
    let blob = layer["digest"].as_str().unwrap();
    assert!(place.read(place.blob(blob)) == original);
    assert_eq!(place.names("layout"), ["blobs", "index.json", "oci-layout"]);
    // The same image gives the same artifact, and a name belongs to one artifact.
    assert_eq!(place.push("plain", ""), plain);
    assert_eq!(place.manifests(), 2);
    // By digest, to a file.
    let run = place.ok(format!("daxfs pull oci:layout:{plain} target/file"));
    assert_eq!(run.text().trim_end(), digest);
    // In JSON, of which json.rs compares digest's with the schema.
    let pushed: Value = serde_json::from_str(&place.push("plain", "--json")).unwrap();
    crate::json::check("daxfs-push-1", &pushed);
    assert_eq!(pushed["manifest"], plain);
    let pulled = place.pull("plain", "--json").json();
    let json = place.ok("daxfs digest --json target/image").json();
    assert_eq!((&json, &json["sha256"]), (&pulled, &json!(digest)));
    // The file that exists is kept.
    place.shell("rm target/image; echo mine >target/file");
    place.mistakes(&format!(
        "daxfs pull oci:layout:{plain} target/file | 1 | target/file: exists; remove it"
    ));
}

#[test]
fn several_images_and_a_subject() {
    let place = Place::new();
    let subject = place.push("first", "");
    place.shell("cp image second.daxfs");
    let digest = place.push("both", "second.daxfs --subject first");
    let manifest = place.json(place.blob(&digest));
    assert_eq!(manifest["subject"]["digest"], *subject);
    let both = || {
        assert_eq!(place.pulls("both", "").text().lines().count(), 2);
        assert_eq!(place.names("target"), ["image", "second.daxfs"]);
    };
    both();
    // One of them exists: it stays if it is the same image.
    let inode = || place.path("target/second.daxfs").metadata().unwrap().ino();
    let before = inode();
    place.shell("rm target/image");
    both();
    assert_eq!(inode(), before);
    // It is something else: the other one does not appear.
    place.shell("rm target/image");
    let mut bytes = place.read("target/second.daxfs");
    bytes[5000] ^= 1;
    for other in [&bytes[..], b"mine"] {
        place.write("target/second.daxfs", other);
        place.mistakes("daxfs pull oci:layout:both target | 1 | second.daxfs: exists");
    }
    let why = "name an existing directory";
    place.fails("daxfs pull oci:layout:both /none/file", why);
}

/// Those who may not read the index of a layout cannot read the images in it.
#[test]
fn private_layouts() {
    let place = Place::new();
    place.push("one", "");
    let index = place.path("layout/index.json");
    chmod(&index, 0o600);
    if is_root() {
        std::os::unix::fs::chown(&index, Some(1000), Some(1001)).unwrap();
    }
    let before = who(&index);
    let manifest = place.push("two", "--zstd");
    assert_eq!(who(&index), before);
    let layer = place.layer(&manifest)["digest"].clone();
    for digest in [&manifest, layer.as_str().unwrap()] {
        assert_eq!(who(&place.path(place.blob(digest))), before, "{digest}");
    }
}

/// Each is refused, says why, and leaves nothing.
#[test]
fn damage() {
    let place = Place::new();
    let plain = place.push("plain", "");
    let small = place.push("small", "--zstd");
    for (name, manifest) in [("plain", &plain), ("small", &small)] {
        let layer = place.layer(manifest);
        let digest = layer["digest"].as_str().unwrap();
        let path = place.blob(digest);
        let whole = place.read(&path);
        let size = whole.len();
        // Each byte counts, also those after the image and in the frame.
        for at in [0, size / 2, size - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            place.write(&path, &bytes);
            let why = place.refused(name, "", "copy it again");
            assert!(why.contains(digest), "{why}");
        }
        place.write(&path, &whole[..size - 1]);
        let why = format!("ends at byte {} instead of {size}", size - 1);
        place.refused(name, "", &why);
        fs::remove_file(place.path(&path)).unwrap();
        place.refused(name, "", "has no blob sha256:");
        place.write(&path, &whole);
    }
    let path = place.blob(&plain);
    let manifest = place.read(&path);
    place.write(&path, [&manifest[1..], b" "].concat());
    place.refused("plain", "", "is damaged, it has the digest");
    place.write(&path, manifest);
    let other = format!("--digest {}", "0".repeat(64));
    place.refused("plain", &other, "it is another image");
    place.pulls("plain", "");
}

/// Manifests that say something else than the image, or what no file can be.
#[test]
fn forgeries() {
    let place = Place::new();
    let plain = place.push("plain", "");
    let small = place.push("small", "--zstd=1");
    let annotate = |from: &str, name: &str, value: &str, why: &str| {
        let index = place.read("layout/index.json");
        place.forge(from, "forged", |manifest| {
            manifest["layers"][0]["annotations"][name] = value.into();
        });
        place.refused("forged", "", why);
        place.write("layout/index.json", index);
    };
    let zeros = "0".repeat(64);
    for (from, name, value, why) in [
        (
            &plain,
            "daxfs.image.digest",
            &*zeros,
            "its annotation org.daxfs.image.digest says 000",
        ),
        (
            &plain,
            "daxfs.image.uuid",
            "x",
            "its annotation org.daxfs.image.uuid says x",
        ),
        (
            &plain,
            "daxfs.image.signature",
            "0 AAAA",
            "the signature of image differs from its annotation",
        ),
        (
            &small,
            "daxfs.image.size",
            "65536",
            "more than the 65536 bytes",
        ),
        (&small, "daxfs.image.size", "many", "has no number of bytes"),
        (
            &plain,
            "daxfs.image.label",
            "other",
            "has a label, its annotation",
        ),
        // More than the superblock allows is refused at once.
        (
            &small,
            "daxfs.image.size",
            "1099511627776",
            "its superblock says at most 4194304",
        ),
    ] {
        annotate(from, &format!("org.{name}"), value, why);
    }
    for text in ["AAAA", "-1 AAAA", "18446744073709551616 AAAA", "0 A", "0"] {
        annotate(
            &plain,
            "org.daxfs.image.signature",
            text,
            "malformed signature",
        );
    }
    for title in ["../image", "/image", "..", ".", "", "a\nb", ".profile"] {
        annotate(
            &plain,
            "org.opencontainers.image.title",
            title,
            "which cannot be used",
        );
    }
    place.forge(&plain, "type", |manifest| {
        manifest["artifactType"] = json!("text/x");
    });
    place.refused("type", "", "is of the type text/x, not");
    place.forge(&plain, "path", |manifest| {
        manifest["layers"][0]["digest"] = json!("sha256:../../oci-layout");
    });
    place.refused("path", "", "is not a SHA-256 digest");
    place.refused("none", "", "it has: plain, small");
    place.refused("plain", "--max-size 4K", "more than 4096 bytes");
    place.forge(&plain, "layers", |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 257].into();
    });
    place.refused("layers", "", "has more than 256 layers");
    // oras pushes fewer annotations.
    place.forge(&plain, "bare", |manifest| {
        let title = json!({ "org.opencontainers.image.title": "bare.daxfs" });
        manifest["layers"][0]["annotations"] = title;
    });
    place.pulls("bare", "");
    assert_eq!(place.names("target"), ["bare.daxfs"]);
}

#[test]
fn signatures() {
    let place = Place::new();
    place.owner("one");
    place.owner("other");
    let unsigned = place.push("unsigned", "");
    let why = "is not signed; sign it with daxfs sign";
    place.refused("unsigned", "--cert one.cert", why);
    place.sign("one");
    let signed = place.push("signed", "--zstd");
    place.refused("signed", "--cert other.cert", "signed by somebody else");
    place.pulls("signed", "--cert other.cert --cert one.cert");
    place.ok("cmp target/image image; daxfs verify --cert one.cert target/image; rm target/image");
    // Other programs write no annotations: then the signature in the image counts.
    place.forge(&signed, "bare", |manifest| {
        let annotations = &mut manifest["layers"][0]["annotations"];
        let annotations = annotations.as_object_mut().unwrap();
        annotations.remove("org.daxfs.image.signature");
    });
    place.refused("bare", "--cert other.cert", "signed by somebody else");
    place.pulls("bare", "--cert one.cert");
    place.shell("rm target/image");
    // The signature of another file does not make this one signed.
    let annotations = place.layer(&signed)["annotations"].clone();
    place.forge(&unsigned, "forged", |manifest| {
        let name = "org.daxfs.image.signature";
        manifest["layers"][0]["annotations"][name] = annotations[name].clone();
    });
    place.refused("forged", "--cert one.cert", "differs from its annotation");
}

/// A signal leaves nothing, neither in the target nor in the layout.
#[test]
fn interrupted() {
    let place = Place::new();
    place.shell("truncate -s 1G source/large");
    place.image(&options());
    place.push("large", "--zstd");
    let temporary = |name: &str| {
        let names = place.names(name);
        names.iter().any(|name| name.starts_with(".daxfs-"))
    };
    for (words, directory) in [
        (["pull", "oci:layout:large", "target/file"], "target"),
        (["push", "oci:layout:again", "image"], "layout"),
    ] {
        let mut command = place.command("daxfs");
        let mut child = command.args(words).stdout(Stdio::null()).spawn().unwrap();
        let limit = Instant::now() + Duration::from_secs(60);
        while !temporary(directory) {
            assert!(Instant::now() < limit && child.try_wait().unwrap().is_none());
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "{words:?}");
        assert!(!temporary(directory));
    }
    assert_eq!(place.names("target"), [""; 0]);
    assert_eq!(place.manifests(), 1);
    // The image has a hole of 1 GiB, and so has what arrives.
    place.ok("daxfs pull oci:layout:large target/file");
    let pulled = place.path("target/file").metadata().unwrap();
    assert!(
        pulled.len() > 1 << 30 && pulled.blocks() < 4096,
        "{pulled:?}"
    );
}

/// The file keeps its size, also if the sums end between multiples of 2 MiB.
#[test]
fn padding() {
    let place = Place::new();
    let mut options = options();
    options.sums = true;
    for padding in [2 << 20, 4096] {
        options.padding = padding;
        place.image(&options);
        assert_eq!(place.read("image").len() % padding as usize, 0);
        for more in ["", "--zstd"] {
            place.push("tiny", more);
            place.pulls("tiny", "");
            place.shell("cmp target/image image; rm target/image");
        }
    }
}

/// A limit of file sizes ends the program by its signal, or with an error where the signal is ignored. Nothing remains.
#[test]
fn file_limit() {
    let place = Place::new();
    place.push("one", "--zstd");
    for words in [
        "pull oci:layout:one target/file",
        "push oci:layout:two image",
    ] {
        let line = format!("ulimit -c 0; ulimit -f 8; exec daxfs {words}");
        place.fails(format!("trap '' XFSZ; {line}"), "File too large");
        let run = place.run(line);
        assert_eq!((run.status, run.stderr.as_str()), (-25, ""));
    }
    assert_eq!(place.names("target"), [""; 0]);
    assert_eq!(place.names("layout"), ["blobs", "index.json", "oci-layout"]);
}
