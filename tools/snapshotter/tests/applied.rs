// SPDX-License-Identifier: GPL-2.0-only

//! Layers that are applied to snapshots as archives.

use crate::{lower, refused, refused_for, says, upper, Answer, Machine};
use daxfs_files::digest::hex;
use daxfs_snapshotter::api::{ApplyRequest, Descriptor, Mount};
use daxfs_testing::feed::member;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::Code;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Writes files to the directory `dir`, by name and content.
pub fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Returns a layer with these files, as in containerd: its descriptor, and the archive's SHA-256.
fn layer(machine: &Machine, kind: &str, files: &[(&str, &str)]) -> (Descriptor, String) {
    let place = tempfile::TempDir::new().unwrap();
    write(place.path(), files);
    let tar = |options: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(options).arg("-C").arg(place.path()).arg(".");
        let tar = tar.output().unwrap();
        assert!(tar.status.success());
        tar.stdout
    };
    let archive = tar(&["--sort=name", "--mtime=@1", "-c"]);
    let sum = hex(&Sha256::digest(&archive));
    let blob = match kind {
        GZIP => tar(&["--sort=name", "--mtime=@1", "-cz"]),
        ZSTD => tar(&["--sort=name", "--mtime=@1", "--zstd", "-c"]),
        _ => archive,
    };
    (store(machine, kind, &blob), sum)
}

/// Adds a blob to containerd's content store.
pub fn store(machine: &Machine, kind: &str, blob: &[u8]) -> Descriptor {
    let sha256 = hex(&Sha256::digest(blob));
    let descriptor = Descriptor {
        media_type: kind.into(),
        digest: format!("sha256:{sha256}"),
        size: blob.len() as i64,
        annotations: Default::default(),
    };
    let path = blob_of(machine, &descriptor);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, blob).unwrap();
    descriptor
}

/// Returns the file of a blob in containerd's content store.
pub fn blob_of(machine: &Machine, descriptor: &Descriptor) -> PathBuf {
    let blobs = "containerd/io.containerd.content.v1.content/blobs/sha256";
    machine
        .place
        .path()
        .join(blobs)
        .join(&descriptor.digest[7..])
}

pub async fn apply(machine: &Machine, layer: &Descriptor, mounts: &[Mount]) -> Answer<Descriptor> {
    let request = ApplyRequest {
        diff: Some(layer.clone()),
        mounts: mounts.to_vec(),
        ..Default::default()
    };
    let answer = machine.differ.clone().apply(request).await?;
    Ok(answer.into_inner().applied.unwrap())
}

/// Returns the names below `dir`.
pub fn names(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let below = names(&path).into_iter();
            let name = path.file_name().unwrap().to_str().unwrap();
            found.extend(below.map(|below| format!("{name}/{below}")));
        }
        found.insert(path.file_name().unwrap().to_str().unwrap().into());
    }
    found
}

/// Compressed and plain layers give the files that containerd would unpack, even across restarts.
#[tokio::test]
async fn layers() {
    let mut machine = Machine::new().await;
    let base = [("gone", "a"), ("dir/old", "b"), ("kept", "c")];
    let change = [(".wh.gone", ""), ("dir/.wh..wh..opq", ""), ("dir/new", "d")];
    let mut parent = String::new();
    for (name, kind, files, inodes) in [("base", GZIP, base, 5), ("change", TAR, change, 3)] {
        let (blob, sum) = layer(&machine, kind, &files);
        let mounts = machine.prepare("key", &parent).await.unwrap();
        let applied = apply(&machine, &blob, &mounts).await.unwrap();
        assert_eq!(applied.digest, format!("sha256:{sum}"));
        assert_eq!((&*applied.media_type, applied.size % 512), (TAR, 0));
        assert_eq!(names(&upper(&mounts)), BTreeSet::new());
        assert_eq!(machine.usage("key").await.unwrap().inodes, inodes);
        refused(machine.mounts("key").await, Code::FailedPrecondition);
        machine = machine.restart().await;
        machine.commit(name, "key").await.unwrap();
        assert!(!upper(&mounts).exists());
        parent = name.into();
    }
    let mounts = machine.prepare("container", "change").await.unwrap();
    let expected = ["dir", "dir/new", "kept"].map(String::from);
    assert_eq!(names(&lower(&mounts)), expected.into());
    // Not 0700, the mode of the archives' roots.
    let root = upper(&mounts).metadata().unwrap();
    assert_eq!(root.permissions().mode() & 0o7777, 0o755);
    assert_eq!(machine.memory.count(), 1);
    for name in ["container", "change", "base"] {
        machine.remove(name).await.unwrap();
    }
    assert_eq!(
        names(&machine.place.path().join("root/store/packs")),
        BTreeSet::new()
    );
}

/// Layers without files, with bytes after their end (part of their SHA-256), or replacing files.
#[tokio::test]
async fn odd_layers() {
    let machine = Machine::new().await;
    let (zstd, zstd_sum) = layer(&machine, ZSTD, &[]);
    let zstd = std::fs::read(blob_of(&machine, &zstd)).unwrap();
    let (plain, _) = layer(&machine, TAR, &[("file", "text")]);
    let archive = std::fs::read(blob_of(&machine, &plain)).unwrap();
    let longer = [&archive[..], &b"more".repeat(100_000)].concat();
    let tar = |members: &[Vec<u8>]| [members.concat(), vec![0; 1024]].concat();
    let directory = member(b"d/", b'5', b"", 0o755, b"");
    let inside = member(b"d/x", b'0', b"", 0o644, b"1");
    let over = tar(&[directory.clone(), inside.clone()]);
    let twice = tar(&[directory, inside, member(b"d", b'2', b"v", 0o777, b"")]);
    let sum = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let mut parent = String::new();
    for (name, kind, blob, sum, files) in [
        ("empty", TAR, &b""[..], sum(b""), 0),
        ("end", TAR, &[0; 1024], sum(&[0; 1024]), 0),
        ("zstd", ZSTD, &zstd, zstd_sum, 0),
        ("longer", TAR, &longer, sum(&longer), 1),
        ("twice", TAR, &twice, sum(&twice), 2),
        ("over a link", TAR, &over, sum(&over), 3),
    ] {
        let mounts = machine.prepare("key", &parent).await.unwrap();
        let blob = store(&machine, kind, blob);
        let applied = apply(&machine, &blob, &mounts).await.unwrap();
        assert_eq!(applied.digest, format!("sha256:{sum}"), "{name}");
        machine.commit(name, "key").await.unwrap();
        let mounts = machine.view("view", name).await.unwrap();
        assert_eq!(names(Path::new(&mounts[0].source)).len(), files, "{name}");
        machine.remove("view").await.unwrap();
        parent = name.into();
    }
}

/// Layers of unknown types are left to the next differ.
#[tokio::test]
async fn left_to_others() {
    let machine = Machine::new().await;
    let (good, _) = layer(&machine, GZIP, &[("file", "text")]);
    let mounts = machine.prepare("key", "").await.unwrap();
    let other = |kind: &str, digest: &str| Descriptor {
        media_type: kind.into(),
        digest: digest.into(),
        ..good.clone()
    };
    for (kind, digest) in [
        (
            "application/vnd.oci.image.layer.v1.tar+encrypted",
            &*good.digest,
        ),
        ("application/vnd.erofs.layer.v1", &good.digest),
        (GZIP, "sha256:0123"),
        (GZIP, "sha256:../../../../../../etc/passwd"),
        (GZIP, ""),
    ] {
        let answer = apply(&machine, &other(kind, digest), &mounts).await;
        refused_for(digest, answer, Code::Unimplemented);
    }
    refused(apply(&machine, &good, &[]).await, Code::Unimplemented);
    let elsewhere = Mount {
        source: "/etc".into(),
        ..mounts[0].clone()
    };
    refused(
        apply(&machine, &good, &[elsewhere]).await,
        Code::Unimplemented,
    );
    // The snapshot already has files.
    std::fs::write(upper(&mounts).join("file"), "other").unwrap();
    refused(apply(&machine, &good, &mounts).await, Code::Unimplemented);
    machine.commit("layer", "key").await.unwrap();
}

/// A damaged archive leaves nothing, and a snapshot accepts only one layer.
#[tokio::test]
async fn failures() {
    let machine = Machine::new().await;
    let (good, _) = layer(&machine, GZIP, &[("file", &"text".repeat(5000))]);
    let mounts = machine.prepare("key", "").await.unwrap();
    let whole = std::fs::read(blob_of(&machine, &good)).unwrap();
    let damaged = store(&machine, GZIP, &whole[..whole.len() - 20]);
    for part in ["end too early", &damaged.digest[7..]] {
        let answer = apply(&machine, &damaged, &mounts).await;
        says("damaged", answer, Code::FailedPrecondition, part);
    }
    apply(&machine, &good, &mounts).await.unwrap();
    refused(
        apply(&machine, &good, &mounts).await,
        Code::FailedPrecondition,
    );
    // Files besides the layer would be lost.
    std::fs::write(upper(&mounts).join("late"), "").unwrap();
    refused(
        machine.commit("layer", "key").await,
        Code::FailedPrecondition,
    );
    machine.remove("key").await.unwrap();
    for inner in ["packs", "images"] {
        let inner = machine.place.path().join("root/store").join(inner);
        assert_eq!(names(&inner), BTreeSet::new());
    }
}

/// One of several concurrent calls for a snapshot applies its layer, and the others leave it alone.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_same_time() {
    let machine = Machine::new().await;
    let (good, _) = layer(&machine, GZIP, &[("file", &"text".repeat(50000))]);
    let mounts = machine.prepare("key", "").await.unwrap();
    let call = || apply(&machine, &good, &mounts);
    let (first, second, third) = tokio::join!(call(), call(), call());
    let answers = [first, second, third];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let failed = answers.into_iter().filter(Result::is_err);
    failed.for_each(|answer| refused(answer, Code::FailedPrecondition));
    machine.commit("layer", "key").await.unwrap();
    let mounts = machine.prepare("container", "layer").await.unwrap();
    assert_eq!(names(&lower(&mounts)), ["file".to_owned()].into());
}
