// SPDX-License-Identifier: GPL-2.0-only

//! Layers whose images are ready. `tests/readylayers` tests them with containerd itself.

mod commits;

use crate::{code, labels, lower, upper, Answer, Machine, Unpacked};
use daxfs_image::source::{Opened, Source};
use daxfs_signature::attach::{self, Signer};
use daxfs_signature::{Certificate, Key};
use daxfs_snapshotter::api::{Info, Labels, Mount, ViewSnapshotRequest};
use daxfs_snapshotter::record::State;
use daxfs_snapshotter::snapshotter::Snapshotter;
use daxfs_testing::certificate::Owner;
use daxfs_testing::{image_with, options};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tonic::Code;

/// Label with the chain ID.
const REF: &str = "containerd.io/snapshot.ref";

/// Return the chain ID whose digits are all `digit`.
fn chain_id(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// Check if a snapshot is one that containerd takes for a layer.
fn is_target(info: &Info, parent: &str, digit: &str) -> bool {
    info.parent == parent && info.labels.get(REF) == Some(&chain_id(digit))
}

/// Return the names of the snapshots that containerd would find for a layer.
async fn found(machine: &Machine, parent: &str, digit: &str) -> Vec<String> {
    let infos = machine.infos().await.unwrap().into_iter();
    infos
        .filter(|info| is_target(info, parent, digit))
        .map(|info| info.name)
        .collect()
}

/// Return the labels that containerd prepares a snapshot for a layer with.
fn for_layer(digit: &str) -> Labels {
    labels(&[(REF, &chain_id(digit)), ("containerd.io/snapshot/a", "b")])
}

/// Return the key of the snapshot that containerd unpacks the layer `digit` into, as its proxy plugins
/// get it: with the namespace and a number before it. `word` makes it unique.
fn key(word: &str, digit: &str) -> String {
    let unique = word.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("k8s.io/12/extract-123456789-{unique} {}", chain_id(digit))
}

/// Return the name of the ready image for the layer `digit`.
fn ready(place: &Path, digit: &str) -> PathBuf {
    let directory = Machine::config(place).ready.directory;
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    }
    directory.join(format!("{}.daxfs", digit.repeat(64)))
}

/// Make the image for the layer `digit`, with the label of the layer `label`.
fn make(place: &Path, digit: &str, label: &str) -> PathBuf {
    let source = place.join("source");
    let _ = fs::remove_dir_all(&source);
    fs::create_dir(&source).unwrap();
    fs::write(source.join(format!("ready {digit}")), "ready").unwrap();
    fs::write(source.join("large"), vec![7; 3 << 20]).unwrap();
    let mut options = options();
    options.label = label.repeat(64);
    options.sums = true;
    let image = ready(place, digit);
    let _ = fs::remove_file(&image);
    image_with(&source, &image, &options).unwrap();
    fs::set_permissions(&image, Permissions::from_mode(0o644)).unwrap();
    image
}

impl Machine {
    /// Prepare a snapshot to unpack the layer `digit` into.
    async fn unpack(&self, word: &str, parent: &str, digit: &str) -> Answer<Vec<Mount>> {
        let key = key(word, digit);
        self.prepare_with(&key, parent, for_layer(digit)).await
    }

    /// Check that the layer `digit` is not ready: it is unpacked, and committed under the name `name`.
    async fn unpacked(&self, name: &str, digit: &str) {
        let mounts = self.unpack(name, "", digit).await.expect(name);
        let dir = upper(&mounts).parent().unwrap().to_owned();
        assert!(!self.image(&dir).exists() && !dir.join("layer").exists());
        fs::write(upper(&mounts).join("file"), name).unwrap();
        self.commit(name, &key(name, digit)).await.unwrap();
        let mounts = self.prepare(&format!("on {name}"), name).await.unwrap();
        let layer = lower(&mounts).remove(0);
        assert_eq!(fs::read(layer.join("file")).unwrap(), name.as_bytes());
        assert!(!layer.join(format!("ready {digit}")).exists());
    }
}

#[tokio::test]
async fn ready_layers_are_not_unpacked() {
    let machine = Machine::new().await;
    let place = machine.place.path();
    let images = ["a", "b"].map(|digit| make(place, digit, digit));
    let mut parent = String::new();
    for digit in &["a", "b"] {
        let answer = machine.unpack("key", &parent, digit).await;
        assert_eq!(code(answer), Code::AlreadyExists);
        let found = found(&machine, &parent, digit).await;
        assert_eq!(found.len(), 1);
        let info = machine.stat(&found[0]).await.unwrap();
        assert_eq!(info.labels, for_layer(digit));
        assert_eq!(info.kind(), daxfs_snapshotter::api::Kind::Committed);
        // There is nothing but the mounted image.
        let dir = machine.directories().pop().unwrap();
        let names: Vec<_> = fs::read_dir(&dir).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // Both have the same large file.
        let usage = machine.usage(&found[0]).await.unwrap();
        assert_eq!(usage.size > 3 << 20, *digit == "a", "{usage:?}");
        parent = found[0].clone();
        assert_eq!(machine.memory.count(), 1);
    }
    let check = |mounts: &[Mount]| {
        for digit in ["b", "a"] {
            let file = lower(mounts)[0].join(format!("ready {digit}"));
            assert_eq!(fs::read(file).unwrap(), b"ready");
        }
    };
    check(&machine.prepare("container", &parent).await.unwrap());
    // It does not matter what becomes of the files now.
    for image in &images {
        fs::write(image, "gone").unwrap();
    }
    let machine = machine.restart().await;
    check(&machine.mounts("container").await.unwrap());
    for name in ["container", &parent] {
        machine.remove(name).await.unwrap();
    }
    assert_eq!(machine.directories().len(), 1);
}

/// containerd looks in all namespaces for a layer, and takes any with the label and the parent.
#[tokio::test]
async fn other_namespaces() {
    let machine = Machine::new().await;
    let place = machine.place.path();
    let image = make(place, "a", "a");
    for key in ["k8s.io/1/extract-1-x", "default/2/extract-2-y"] {
        let key = format!("{key} {}", chain_id("a"));
        let answer = machine.prepare_with(&key, "", for_layer("a"));
        assert_eq!(code(answer.await), Code::AlreadyExists);
        assert_eq!(machine.directories().len(), 1);
        assert_eq!(machine.memory.count(), 1);
    }
    // On top of another snapshot it is another one.
    machine.layer("base", "", |_| ()).await;
    let answer = machine.unpack("3", "base", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
    let again = found(&machine, "base", "a").await;
    assert_eq!(again.len(), 1);

    // A layer that was unpacked has the label as well. It is another image.
    make(place, "b", "c");
    let mounts = machine.unpack("4", "", "b").await.unwrap();
    fs::write(upper(&mounts).join("file"), "unpacked").unwrap();
    let key = key("4", "b");
    let answer = machine.commit_with("4/layer", &key, for_layer("b"));
    answer.await.unwrap();
    make(place, "b", "b");
    assert!(machine.unpack("5", "", "b").await.is_ok());
    assert_eq!(found(&machine, "", "b").await.len(), 2);
    // Without that one, the image is used.
    machine.remove("4/layer").await.unwrap();
    let answer = machine.unpack("6", "", "b").await;
    assert_eq!(code(answer), Code::AlreadyExists);

    // A newer image of a layer in use is not used either.
    let mut newer = options();
    newer.label = "a".repeat(64);
    newer.sums = true;
    fs::write(place.join("source/newer"), "newer").unwrap();
    image_with(&place.join("source"), &image, &newer).unwrap();
    assert!(machine.unpack("7", "", "a").await.is_ok());
}

/// Layers without a ready image are unpacked as before.
#[tokio::test]
async fn other_layers_are_unpacked() {
    let machine = Machine::new().await;
    let place = machine.place.path();
    machine.unpacked("no directory", "a").await;
    make(place, "b", "b");
    machine.unpacked("no file", "a").await;
    fs::write(ready(place, "a"), "no image").unwrap();
    machine.unpacked("no image", "a").await;
    make(place, "a", "b");
    machine.unpacked("label of another layer", "a").await;
    let image = make(place, "a", "a");
    fs::rename(&image, image.with_extension("other")).unwrap();
    symlink(image.with_extension("other"), &image).unwrap();
    machine.unpacked("symbolic link", "a").await;
    // The label must be a digest: it is part of a path.
    for wrong in [
        "sha256:../../ready/x".into(),
        "a".repeat(64),
        format!("sha256:{}", "A".repeat(64)),
        String::new(),
    ] {
        let key = format!("k8s.io/12/extract-1-x {wrong}");
        let answer = machine.prepare_with(&key, "", labels(&[(REF, &wrong)]));
        assert!(answer.await.is_ok());
    }
    // Views are not committed.
    let request = ViewSnapshotRequest {
        key: key("view", "a"),
        labels: for_layer("a"),
        ..Default::default()
    };
    make(place, "a", "a");
    assert!(machine.client.clone().view(request).await.is_ok());
}

/// Labels of containers come from users, such as annotations of pods in Kubernetes. Only keys are
/// containerd's own.
#[tokio::test]
async fn containers_are_not_layers() {
    let machine = Machine::new().await;
    make(machine.place.path(), "a", "a");
    let sandbox = "3f".repeat(32);
    for (number, name) in [
        sandbox.clone(),
        format!("extract-1-x {}", chain_id("b")),
        format!("extract-1-x {} {sandbox}", chain_id("a")),
        format!("extract-1-x {} {}", chain_id("b"), chain_id("a")),
        format!("extract-1-x {}/{sandbox}", chain_id("a")),
        format!("extract-{}", chain_id("a")),
        format!("extract {}", chain_id("a")),
        format!("x-extract-1-x {}", chain_id("a")),
        format!("extract-1-x {}", "a".repeat(64)),
    ]
    .iter()
    .enumerate()
    {
        let key = format!("k8s.io/{number}/{name}");
        let answer = machine.prepare_with(&key, "", for_layer("a")).await;
        assert!(upper(&answer.expect(name)).exists(), "{name}");
    }
    let none = found(&machine, "", "a").await;
    assert_eq!(none.len(), 9);
    for name in &none {
        let kind = machine.stat(name).await.unwrap().kind();
        assert_eq!(kind, daxfs_snapshotter::api::Kind::Active, "{name}");
    }
    assert_eq!(machine.memory.count(), 0);
    // On top of a layer it is the same.
    machine.layer("base", "", |_| ()).await;
    let key = format!("k8s.io/12/{sandbox}");
    let answer = machine.prepare_with(&key, "base", for_layer("a")).await;
    assert_eq!(lower(&answer.unwrap()).len(), 1);
    let answer = machine.unpack("x", "", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
}

/// Images need no sums: the images of the store have them.
#[test]
fn images_without_sums() {
    let place = tempfile::TempDir::new().unwrap();
    let image = make(place.path(), "a", "a");
    let mut options = options();
    options.label = "a".repeat(64);
    image_with(&place.path().join("source"), &image, &options).unwrap();
    assert!(Opened::open(&image).unwrap().superblock.sums().is_none());
    let config = Machine::config(place.path());
    let snapshotter = Snapshotter::open(&config, Box::new(Unpacked::default())).unwrap();
    let made = snapshotter.create(&key("x", "a"), "", State::Active, for_layer("a"));
    assert_eq!(made.unwrap_err().code(), Code::AlreadyExists);
}

/// A certificate that cannot be read is found at the start.
#[test]
fn unreadable_certificates() {
    let place = tempfile::TempDir::new().unwrap();
    let certificate = place.path().join("certificate");
    fs::write(&certificate, "no certificate").unwrap();
    let config = Machine::config(place.path());
    let file = place.path().join("config");
    let text = format!("[ready]\ncertificates = [ {certificate:?} ]\n");
    fs::write(&file, text).unwrap();
    for there in [true, false] {
        if !there {
            fs::remove_file(&certificate).unwrap();
        }
        let opened = Snapshotter::open(&config, Box::new(Unpacked::default()));
        let error = opened.err().expect("it starts").to_string();
        assert!(error.contains("/certificate"), "{error}");
        let mut checks = std::process::Command::new(env!("CARGO_BIN_EXE_daxfs-snapshotter"));
        checks.arg("--check").arg("--config").arg(&file);
        let said = checks.output().unwrap();
        let error = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{error}");
        assert!(error.contains("/certificate"), "{error}");
    }
}

/// Each byte of an image counts, also in its sums, and others must not be able to change it.
#[tokio::test]
async fn damaged_images_are_unpacked() {
    let machine = Machine::new().await;
    let place = machine.place.path();
    let image = make(place, "a", "a");
    let good = fs::read(&image).unwrap();
    let superblock = Opened::open(&image).unwrap().superblock;
    let sums = superblock.sums().unwrap().offset;
    for (what, at) in [
        ("superblock", 80),
        ("file", superblock.total_size - 5000),
        ("sums", sums),
        ("metadata", 4096 + 10),
    ] {
        let mut bad = good.clone();
        bad[at as usize] ^= 1;
        fs::write(&image, bad).unwrap();
        machine.unpacked(what, "a").await;
    }
    // The sums match the damaged bytes.
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(&good, 0).unwrap();
    let last = superblock.total_size - 5000;
    file.write_all_at(&[good[last as usize] ^ 1], last).unwrap();
    let opened = Opened::open(&image).unwrap();
    let bad = daxfs_reader::Image::new(&opened.source, &opened.superblock);
    let wrong = daxfs_check::digest::sums(&bad, &daxfs_check::Silent).unwrap();
    file.write_all_at(&wrong.concat(), sums).unwrap();
    machine.unpacked("file and sums", "a").await;
    fs::write(&image, &good[..good.len() - (1 << 20)]).unwrap();
    machine.unpacked("short", "a").await;
    fs::write(&image, &good).unwrap();
    let directory = image.parent().unwrap();
    for (path, mode, right) in [
        (directory, 0o777, 0o755),
        (directory, 0o775, 0o755),
        (&image, 0o664, 0o644),
        (&image, 0o646, 0o644),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let name = format!("{:?} {mode:o}", path.file_name());
        machine.unpacked(&name, "a").await;
        fs::set_permissions(path, Permissions::from_mode(right)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        for path in [directory, &image] {
            std::os::unix::fs::chown(path, Some(1234), None).unwrap();
            let name = format!("owner of {:?}", path.file_name());
            machine.unpacked(&name, "a").await;
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
    }
    // The directory is a symbolic link.
    let aside = directory.with_extension("aside");
    fs::rename(directory, &aside).unwrap();
    symlink(&aside, directory).unwrap();
    machine.unpacked("link", "a").await;
    fs::remove_file(directory).unwrap();
    fs::write(directory, "file").unwrap();
    machine.unpacked("no directory", "a").await;
    fs::remove_file(directory).unwrap();
    fs::rename(&aside, directory).unwrap();
    assert_eq!(
        code(machine.unpack("key", "", "a").await),
        Code::AlreadyExists
    );
}

/// With certificates only images count that an owner of one has signed.
#[tokio::test]
async fn unsigned_images_are_unpacked() {
    let machine = Machine::new().await;
    let image = make(machine.place.path(), "a", "a");
    let owners =
        ["owner", "other"].map(|name| Owner::new(name, None, "20000101000000Z", "20990101000000Z"));
    // Machine::config names the certificate if it is there.
    let certificate = machine.place.path().join("certificate");
    fs::write(certificate, &owners[0].certificate).unwrap();
    let machine = machine.restart().await;
    machine.unpacked("not signed", "a").await;
    for (owner, name) in [(&owners[1], "another owner"), (&owners[0], "owner")] {
        let signer = Signer {
            key: Key::parse(&owner.key).unwrap(),
            certificate: Certificate::parse(&owner.certificate).unwrap(),
            others: Vec::new(),
            expires: None,
        };
        let opened = Opened::open(&image).unwrap();
        let signed = signer.sign(&opened.superblock.sha256).unwrap();
        let file = File::options().write(true).open(&image).unwrap();
        attach::write::<Source>(&file, &opened.superblock, &signed, 4096).unwrap();
        if name != "owner" {
            machine.unpacked(name, "a").await;
        }
    }
    // A signature does not make an image another layer's.
    fs::copy(&image, ready(machine.place.path(), "b")).unwrap();
    machine.unpacked("signed for another layer", "b").await;
    // Nor does it make up for damage.
    let good = fs::read(&image).unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"x", 3 << 20).unwrap();
    machine.unpacked("signed and damaged", "a").await;
    fs::write(&image, good).unwrap();
    assert_eq!(
        code(machine.unpack("key", "", "a").await),
        Code::AlreadyExists
    );
}

/// A signature does not count after its certificate has expired.
#[tokio::test]
async fn expired_certificates() {
    let machine = Machine::new().await;
    let place = machine.place.path();
    let image = make(place, "a", "a");
    let owner = Owner::new("owner", None, "20000101000000Z", "20200101000000Z");
    fs::write(place.join("certificate"), &owner.certificate).unwrap();
    let (key, certificate) = (
        Key::parse(&owner.key),
        Certificate::parse(&owner.certificate),
    );
    let opened = Opened::open(&image).unwrap();
    // 2015.
    let sha256 = &opened.superblock.sha256;
    let signed = daxfs_signature::sign(
        sha256,
        &key.unwrap(),
        &certificate.unwrap(),
        &[],
        None,
        1_430_000_000,
    );
    let file = File::options().write(true).open(&image).unwrap();
    attach::write::<Source>(&file, &opened.superblock, &signed.unwrap(), 4096).unwrap();
    let machine = machine.restart().await;
    machine.unpacked("expired", "a").await;
}

/// The image does not fit into memory: the layer is unpacked, and then its image does not fit either.
#[tokio::test]
async fn no_memory() {
    let machine = Machine::new().await;
    make(machine.place.path(), "a", "a");
    machine.memory.set_limit(1 << 20);
    machine.unpacked("small", "a").await;
    machine.memory.set_limit(0);
    assert_eq!(
        code(machine.unpack("key", "", "a").await),
        Code::AlreadyExists
    );
}
