// SPDX-License-Identifier: GPL-2.0-only

//! `push` and `pull`.

mod layouts;

use crate::support::{fail, fixture, run, succeed, Fixture, DAXFS};
use daxfs_testing::certificate::Owner;
use daxfs_testing::{image_with, options};
use serde_json::{json, Value};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An image, a layout beside it, and an empty directory.
struct Place {
    fixture: Fixture,
    layout: PathBuf,
    target: PathBuf,
}

impl Place {
    fn new() -> Self {
        let fixture = fixture();
        let (layout, target) = (
            fixture.directory.path().join("layout"),
            fixture.directory.path().join("target"),
        );
        fs::create_dir(&target).unwrap();
        Place {
            fixture,
            layout,
            target,
        }
    }

    fn reference(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.layout.display())
    }

    /// Push the image under `name`, and return the digest of the manifest.
    fn push(&self, name: &str, more: &[&str]) -> String {
        let (image, reference) = (self.fixture.image.to_str().unwrap(), self.reference(name));
        let words = [&["push", reference.as_str(), image], more].concat();
        succeed(&words).text().trim_end().into()
    }

    /// Pull the artifact `name` into the empty directory.
    fn pull(&self, name: &str, more: &[&str]) -> crate::support::Run {
        let reference = self.reference(name);
        let words = ["pull", &reference, self.target.to_str().unwrap()];
        run(&[&words, more].concat())
    }

    /// Fail to pull the artifact `name`. Nothing must be left. Return the message after the
    /// reference.
    fn refused(&self, name: &str, more: &[&str]) -> String {
        let run = self.pull(name, more);
        assert_eq!((run.status, run.text()), (1, ""), "{run:?}");
        assert_eq!(names(&self.target), [""; 0]);
        let start = format!("daxfs: {}: ", self.reference(name));
        run.stderr.strip_prefix(&start).expect(&run.stderr).into()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }

    fn json(&self, path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn index(&self) -> Value {
        self.json(&self.layout.join("index.json"))
    }

    /// Publish another manifest under `name`: the manifest of `from`, changed by `change`.
    fn forge(&self, from: &str, name: &str, change: impl FnOnce(&mut Value)) {
        use daxfs_check::digest::hex;
        use sha2::{Digest, Sha256};
        let mut manifest = self.json(&self.blob(from));
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        fs::write(self.blob(&digest), &bytes).unwrap();
        let mut index = self.index();
        index["manifests"].as_array_mut().unwrap().push(json!({
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": bytes.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }));
        fs::write(self.layout.join("index.json"), index.to_string()).unwrap();
    }
}

/// Return the sorted names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn there_and_back() {
    let place = Place::new();
    let plain = place.push("plain", &[]);
    place.push("small", &["--zstd"]);
    let original = fs::read(&place.fixture.image).unwrap();
    for name in ["plain", "small"] {
        let run = place.pull(name, &["--digest", &place.fixture.digest]);
        let path = place.target.join("image");
        let line = format!("{}  {}\n", place.fixture.digest, path.display());
        assert_eq!((run.text(), run.stderr.as_str()), (line.as_str(), ""));
        assert!(fs::read(&path).unwrap() == original);
        fs::remove_file(path).unwrap();
    }
    // The view of other programs.
    let manifest = place.json(&place.blob(&plain));
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["artifactType"], "application/vnd.daxfs.image.v1");
    let empty = "application/vnd.oci.empty.v1+json";
    assert_eq!(manifest["config"]["mediaType"], empty);
    assert_eq!(manifest["config"]["data"], "e30=");
    let config = manifest["config"]["digest"].as_str().unwrap();
    assert_eq!(fs::read(place.blob(config)).unwrap(), b"{}");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.daxfs.layer.v1");
    assert_eq!(layer["size"], original.len());
    let annotations = &layer["annotations"];
    assert_eq!(annotations["org.daxfs.image.digest"], *place.fixture.digest);
    assert_eq!(annotations["org.daxfs.image.label"], "a label");
    assert_eq!(annotations["org.opencontainers.image.title"], "image");
    let blob = layer["digest"].as_str().unwrap();
    assert!(fs::read(place.blob(blob)).unwrap() == original);
    assert_eq!(names(&place.layout), ["blobs", "index.json", "oci-layout"]);
    // The same image gives the same artifact, and a name belongs to one artifact.
    assert_eq!(place.push("plain", &[]), plain);
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 2);
    // By digest, to a file.
    let file = place.target.join("file");
    let reference = place.reference(&plain);
    let run = succeed(&["pull", &reference, file.to_str().unwrap()]);
    assert_eq!(run.text().trim_end(), place.fixture.digest);
    // In JSON, of which json.rs compares digest's with the schema.
    let pushed = place.push("plain", &["--json"]);
    let pushed: Value = serde_json::from_str(&pushed).unwrap();
    crate::json::check("daxfs-push-1", &pushed);
    assert_eq!(pushed["manifest"], plain);
    let image = place.target.join("image");
    let pulled = place.pull("plain", &["--json"]).json();
    let digest = succeed(&["digest", "--json", image.to_str().unwrap()]).json();
    assert_eq!(
        (&digest, &digest["sha256"]),
        (&pulled, &json!(place.fixture.digest))
    );
    fs::remove_file(image).unwrap();
    // The file that exists is kept.
    fs::write(&file, "mine").unwrap();
    let why = fail(&["pull", &reference, file.to_str().unwrap()], 1);
    assert!(why.contains("target/file: exists; remove it"), "{why}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn several_images_and_a_subject() {
    let place = Place::new();
    let subject = place.push("first", &[]);
    let second = place.fixture.directory.path().join("second.daxfs");
    fs::copy(&place.fixture.image, &second).unwrap();
    let digest = place.push("both", &[second.to_str().unwrap(), "--subject", "first"]);
    assert_eq!(
        place.json(&place.blob(&digest))["subject"]["digest"],
        *subject
    );
    let run = place.pull("both", &[]);
    assert_eq!((run.status, run.text().lines().count()), (0, 2), "{run:?}");
    assert_eq!(names(&place.target), ["image", "second.daxfs"]);
    // One of them exists: it stays if it is the same image.
    let kept = place.target.join("second.daxfs");
    let inode = fs::metadata(&kept).unwrap().ino();
    fs::remove_file(place.target.join("image")).unwrap();
    let run = place.pull("both", &[]);
    assert_eq!((run.status, run.text().lines().count()), (0, 2), "{run:?}");
    assert_eq!(names(&place.target), ["image", "second.daxfs"]);
    assert_eq!(fs::metadata(&kept).unwrap().ino(), inode);
    // It is something else: the other one does not appear.
    fs::remove_file(place.target.join("image")).unwrap();
    let mut bytes = fs::read(&kept).unwrap();
    bytes[5000] ^= 1;
    for other in [&bytes[..], b"mine"] {
        fs::write(&kept, other).unwrap();
        let run = place.pull("both", &[]);
        assert!(run.stderr.contains("second.daxfs: exists"), "{run:?}");
        assert_eq!(names(&place.target), ["second.daxfs"]);
        assert!(fs::read(&kept).unwrap() == other);
    }
    let reference = place.reference("both");
    let why = fail(&["pull", &reference, "/none/file"], 1);
    assert!(why.contains("name an existing directory"), "{why}");
}

/// Those who may not read the index of a layout cannot read the images in it.
#[test]
fn private_layouts() {
    let place = Place::new();
    place.push("one", &[]);
    let index = place.layout.join("index.json");
    fs::set_permissions(&index, fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&index, Some(1000), Some(1001)).unwrap();
    }
    let who = |path: &Path| {
        let found = path.metadata().unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    let before = who(&index);
    let manifest = place.push("two", &["--zstd"]);
    assert_eq!(who(&index), before);
    let layer = place.json(&place.blob(&manifest))["layers"][0]["digest"].clone();
    for digest in [&manifest, layer.as_str().unwrap()] {
        assert_eq!(who(&place.blob(digest)), before, "{digest}");
    }
}

/// Each is refused, says why, and leaves nothing.
#[test]
fn damage() {
    let place = Place::new();
    let plain = place.push("plain", &[]);
    let small = place.push("small", &["--zstd"]);
    let layer = |manifest: &str| -> (String, PathBuf) {
        let manifest = place.json(&place.blob(manifest));
        let digest = manifest["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .to_string();
        let path = place.blob(&digest);
        (digest, path)
    };
    for (name, manifest) in [("plain", &plain), ("small", &small)] {
        let (digest, path) = layer(manifest);
        let whole = fs::read(&path).unwrap();
        // Each byte counts, also those after the image and in the frame.
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let why = place.refused(name, &[]);
            assert!(
                why.contains(&digest) && why.contains("copy it again"),
                "{why}"
            );
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let why = place.refused(name, &[]);
        let ends = format!(
            "ends at byte {} instead of {}",
            whole.len() - 1,
            whole.len()
        );
        assert!(why.contains(&ends), "{why}");
        fs::remove_file(&path).unwrap();
        assert!(place.refused(name, &[]).contains("has no blob sha256:"));
        fs::write(&path, &whole).unwrap();
    }
    let path = place.blob(&plain);
    let manifest = fs::read(&path).unwrap();
    fs::write(&path, [&manifest[1..], b" "].concat()).unwrap();
    assert!(place
        .refused("plain", &[])
        .contains("is damaged, it has the digest"));
    fs::write(&path, manifest).unwrap();
    let other = "0".repeat(64);
    let why = place.refused("plain", &["--digest", &other]);
    assert!(why.contains("it is another image"), "{why}");
    assert_eq!(place.pull("plain", &[]).status, 0);
}

/// Manifests that say something else than the image, or what no file can be.
#[test]
fn forgeries() {
    let place = Place::new();
    let plain = place.push("plain", &[]);
    let small = place.push("small", &["--zstd=1"]);
    let annotate = |from: &str, name: &str, value: &str| -> String {
        place.forge(from, "forged", |manifest| {
            let annotations = &mut manifest["layers"][0]["annotations"];
            annotations[name] = value.into();
        });
        let why = place.refused("forged", &[]);
        let mut index = place.index();
        index["manifests"].as_array_mut().unwrap().pop();
        fs::write(place.layout.join("index.json"), index.to_string()).unwrap();
        why
    };
    let why = annotate(&plain, "org.daxfs.image.digest", &"0".repeat(64));
    assert!(
        why.contains("its annotation org.daxfs.image.digest says 000"),
        "{why}"
    );
    let why = annotate(&plain, "org.daxfs.image.uuid", "x");
    assert!(
        why.contains("its annotation org.daxfs.image.uuid says x"),
        "{why}"
    );
    let why = annotate(&plain, "org.daxfs.image.signature", "0 AAAA");
    assert!(
        why.contains("the signature of image differs from its annotation"),
        "{why}"
    );
    for text in ["AAAA", "-1 AAAA", "18446744073709551616 AAAA", "0 A", "0"] {
        let why = annotate(&plain, "org.daxfs.image.signature", text);
        assert!(why.contains("malformed signature"), "{text}: {why}");
    }
    let why = annotate(&small, "org.daxfs.image.size", "65536");
    assert!(why.contains("more than the 65536 bytes"), "{why}");
    let why = annotate(&small, "org.daxfs.image.size", "many");
    assert!(why.contains("has no number of bytes"), "{why}");
    let why = annotate(&plain, "org.daxfs.image.label", "other");
    assert!(why.contains("has a label, its annotation"), "{why}");
    // More than the superblock allows is refused at once.
    let why = annotate(&small, "org.daxfs.image.size", "1099511627776");
    assert!(why.contains("its superblock says at most 4194304"), "{why}");
    for title in ["../image", "/image", "..", ".", "", "a\nb", ".profile"] {
        let why = annotate(&plain, "org.opencontainers.image.title", title);
        assert!(why.contains("which cannot be used"), "{why}");
    }
    place.forge(&plain, "type", |manifest| {
        manifest["artifactType"] = json!("text/x")
    });
    assert!(place
        .refused("type", &[])
        .contains("is of the type text/x, not"));
    place.forge(&plain, "path", |manifest| {
        manifest["layers"][0]["digest"] = json!("sha256:../../oci-layout");
    });
    assert!(place
        .refused("path", &[])
        .contains("is not a SHA-256 digest"));
    assert!(place.refused("none", &[]).contains("it has: plain, small"));
    let why = place.refused("plain", &["--max-size", "4K"]);
    assert!(why.contains("more than 4096 bytes"), "{why}");
    place.forge(&plain, "layers", |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 257].into();
    });
    let why = place.refused("layers", &[]);
    assert!(why.contains("has more than 256 layers"), "{why}");
    // oras pushes fewer annotations.
    place.forge(&plain, "bare", |manifest| {
        let title = json!({ "org.opencontainers.image.title": "bare.daxfs" });
        manifest["layers"][0]["annotations"] = title;
    });
    assert_eq!(place.pull("bare", &[]).stderr, "");
    assert_eq!(names(&place.target), ["bare.daxfs"]);
}

#[test]
fn signatures() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = place.fixture.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let owner = |name: &str| Owner::new(name, None, "20000101000000Z", "20990101000000Z");
    let (one, other) = (owner("one"), owner("other"));
    let key = write("key", &one.key);
    let cert = write("cert", &one.certificate);
    let wrong = write("wrong", &other.certificate);
    let unsigned = place.push("unsigned", &[]);
    let why = place.refused("unsigned", &["--cert", &cert]);
    assert!(
        why.contains("is not signed; sign it with daxfs sign"),
        "{why}"
    );
    let image = place.fixture.image.to_str().unwrap();
    succeed(&["sign", "--key", &key, "--cert", &cert, image]);
    let signed = place.push("signed", &["--zstd"]);
    let why = place.refused("signed", &["--cert", &wrong]);
    assert!(why.contains("signed by somebody else"), "{why}");
    assert_eq!(
        place
            .pull("signed", &["--cert", &wrong, "--cert", &cert])
            .stderr,
        ""
    );
    let pulled = place.target.join("image");
    assert!(fs::read(&pulled).unwrap() == fs::read(image).unwrap());
    succeed(&["verify", "--cert", &cert, pulled.to_str().unwrap()]);
    fs::remove_file(pulled).unwrap();
    // Other programs write no annotations: then the signature in the image counts.
    place.forge(&signed, "bare", |manifest| {
        let annotations = &mut manifest["layers"][0]["annotations"];
        annotations
            .as_object_mut()
            .unwrap()
            .remove("org.daxfs.image.signature");
    });
    let why = place.refused("bare", &["--cert", &wrong]);
    assert!(why.contains("signed by somebody else"), "{why}");
    assert_eq!(place.pull("bare", &["--cert", &cert]).stderr, "");
    fs::remove_file(place.target.join("image")).unwrap();
    // The signature of another file does not make this one signed.
    let signature = place.json(&place.blob(&signed))["layers"][0]["annotations"]
        ["org.daxfs.image.signature"]
        .clone();
    place.forge(&unsigned, "forged", |manifest| {
        manifest["layers"][0]["annotations"]["org.daxfs.image.signature"] = signature;
    });
    let why = place.refused("forged", &["--cert", &cert]);
    assert!(why.contains("differs from its annotation"), "{why}");
}

/// A signal leaves nothing, neither in the target nor in the layout.
#[test]
fn interrupted() {
    let place = Place::new();
    let source = place.fixture.directory.path().join("large");
    fs::create_dir(&source).unwrap();
    let file = fs::File::create(source.join("file")).unwrap();
    file.set_len(1 << 30).unwrap();
    image_with(&source, &place.fixture.image, &options()).unwrap();
    place.push("large", &["--zstd"]);
    let reference = place.reference("large");
    let file = place.target.join("file");
    let temporary = |directory: &Path| {
        let names = names(directory);
        names.into_iter().any(|name| name.starts_with(".daxfs-"))
    };
    let image = place.fixture.image.to_str().unwrap();
    let again = place.reference("again");
    let file = file.to_str().unwrap();
    for (words, directory) in [
        (["pull", &reference, file], &place.target),
        (["push", &again, image], &place.layout),
    ] {
        let mut child = Command::new(DAXFS)
            .args(words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(60);
        while !temporary(directory) {
            assert!(Instant::now() < limit && child.try_wait().unwrap().is_none());
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "{words:?} was not interrupted: {status}"
        );
        assert!(!temporary(directory));
    }
    assert_eq!(names(&place.target), [""; 0]);
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 1);
    // The image has a hole of 1 GiB, and so has what arrives.
    succeed(&["pull", &reference, file]);
    let pulled = fs::metadata(file).unwrap();
    assert!(
        pulled.len() > 1 << 30 && pulled.blocks() < 4096,
        "{pulled:?}"
    );
}

/// The file keeps its size, also if the sums end between multiples of 2 MiB.
#[test]
fn padding() {
    let place = Place::new();
    let source = place.fixture.directory.path().join("tiny");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text").unwrap();
    let mut options = options();
    options.sums = true;
    for padding in [2 << 20, 4096] {
        options.padding = padding;
        image_with(&source, &place.fixture.image, &options).unwrap();
        let original = fs::read(&place.fixture.image).unwrap();
        assert_eq!(original.len() % padding as usize, 0);
        for more in [&[][..], &["--zstd"]] {
            place.push("tiny", more);
            assert_eq!(place.pull("tiny", &[]).stderr, "");
            let path = place.target.join("image");
            assert!(fs::read(&path).unwrap() == original);
            fs::remove_file(path).unwrap();
        }
    }
}

/// A limit of file sizes ends the program by its signal, or with an error where the signal is ignored. Nothing remains.
#[test]
fn file_limit() {
    let place = Place::new();
    place.push("one", &["--zstd"]);
    let target = place.target.join("file");
    let image = place.fixture.image.to_str().unwrap();
    for words in [
        ["pull", &place.reference("one"), target.to_str().unwrap()],
        ["push", &place.reference("two"), image],
    ] {
        for (trap, code, signal) in [("", None, Some(25)), ("trap '' XFSZ; ", Some(1), None)] {
            let script = format!("{trap}ulimit -c 0; ulimit -f 8; exec \"$@\"");
            let run = Command::new("bash")
                .args(["-c", &script, "bash", DAXFS])
                .args(words)
                .output()
                .unwrap();
            let stderr = String::from_utf8(run.stderr).unwrap();
            assert_eq!(
                (run.status.code(), run.status.signal()),
                (code, signal),
                "{stderr}"
            );
            assert_eq!(
                stderr.contains("File too large"),
                signal.is_none(),
                "{stderr}"
            );
        }
    }
    assert_eq!(names(&place.target), [""; 0]);
    assert_eq!(names(&place.layout), ["blobs", "index.json", "oci-layout"]);
}
