// SPDX-License-Identifier: GPL-2.0-only

//! Writes OCI layouts and archives as `docker save` writes them.

use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Return the media type of an OCI thing.
pub fn oci(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// A layout in the making, in a directory that has the archives, too.
pub struct Layout {
    root: PathBuf,
    pub path: PathBuf,
}

impl Layout {
    /// Return an empty layout, `layout` in the directory `root`.
    pub fn new(root: &Path) -> Self {
        let path = root.join("layout");
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        let version = r#"{"imageLayoutVersion": "1.0.0"}"#;
        fs::write(path.join("oci-layout"), version).unwrap();
        Layout {
            root: root.into(),
            path,
        }
    }

    /// Add a blob and return its descriptor.
    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.path.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Add a layer of the archive `tar`, compressed with `program` unless that is "".
    pub fn layer(&self, tar: &str, program: &str) -> Value {
        let tar = self.root.join(tar);
        match program {
            "" => self.blob(&oci("layer.v1.tar"), &fs::read(tar).unwrap()),
            program => {
                let packed = Command::new(program).arg("-qc").arg(tar).output().unwrap();
                assert!(packed.status.success());
                self.blob(&oci(&format!("layer.v1.tar+{program}")), &packed.stdout)
            }
        }
    }

    /// Add a manifest of `layers` and return its descriptor.
    pub fn manifest(&self, layers: &[Value]) -> Value {
        self.manifest_of(self.blob(&oci("config.v1+json"), b"{}"), layers)
    }

    /// Add the configuration of an image with these archives as layers, and return its descriptor.
    pub fn config(&self, tars: &[&str]) -> Value {
        self.config_of(tars, &json!({}))
    }

    /// Add such a configuration with the members of `more`.
    pub fn config_of(&self, tars: &[&str], more: &Value) -> Value {
        let digest = |tar| sha256(fs::read(self.root.join(tar)).unwrap());
        let digests = tars.iter().map(|tar| format!("sha256:{}", digest(tar)));
        let digests: Vec<_> = digests.collect();
        let mut config = json!({"rootfs": {"type": "layers", "diff_ids": digests}});
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        self.blob(&oci("config.v1+json"), config.to_string().as_bytes())
    }

    /// Add an image with these layers, compressed with the programs, and return the descriptor of
    /// its manifest.
    pub fn image(&self, layers: &[(&str, &str)]) -> Value {
        let tars: Vec<_> = layers.iter().map(|(tar, _)| *tar).collect();
        let layers = layers.iter().map(|(tar, program)| self.layer(tar, program));
        self.manifest_of(self.config(&tars), &layers.collect::<Vec<_>>())
    }

    /// Add a manifest of `config` and `layers` and return its descriptor.
    pub fn manifest_of(&self, config: Value, layers: &[Value]) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci("manifest.v1+json"),
            "config": config,
            "layers": layers,
        });
        self.blob(&oci("manifest.v1+json"), manifest.to_string().as_bytes())
    }

    /// Add an index of `manifests` and return its descriptor.
    pub fn nested(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.blob(&oci("index.v1+json"), index.to_string().as_bytes())
    }

    /// Write the index of the whole layout.
    pub fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

/// Return the descriptor with a name.
pub fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// Return the descriptor for a platform.
pub fn platform(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

/// Return the SHA-256 of a file, or of a text.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    daxfs_check::digest::hex(&Sha256::digest(bytes))
}

/// Write the archive `NAME.tar` in `root` with an image of `layers`, which are archives there, as `docker save` does,
/// and its parts to the directory `NAME`.
pub fn docker(root: &Path, name: &str, layers: &[&str], tag: &str) {
    let directory = root.join(name);
    let mut names = Vec::new();
    let mut digests: Vec<String> = Vec::new();
    for layer in layers {
        let digest = sha256(fs::read(root.join(layer)).unwrap());
        let name = format!("{:02}{}", names.len(), &digest[..8]);
        fs::create_dir_all(directory.join(&name)).unwrap();
        let file = directory.join(&name).join("layer.tar");
        match digests.iter().position(|other| other.ends_with(&digest)) {
            // As older versions did.
            Some(same) => {
                let target = format!("../{}", names[same]);
                std::os::unix::fs::symlink(target, &file).unwrap();
            }
            None => drop(fs::copy(root.join(layer), &file).unwrap()),
        }
        names.push(format!("{name}/layer.tar"));
        digests.push(format!("sha256:{digest}"));
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}});
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let script = format!("tar -cf {name}.tar -C {name} .");
    let mut command = Command::new("sh");
    let status = command.args(["-c", &script]).current_dir(root).status();
    assert!(status.unwrap().success());
}
