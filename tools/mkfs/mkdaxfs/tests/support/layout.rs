// SPDX-License-Identifier: GPL-2.0-only

//! Writes OCI layouts and archives as `docker save` writes them.

use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Return the media type of an OCI thing.
pub fn oci(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// A layout in the making.
pub struct Layout(pub PathBuf);

impl Layout {
    /// Return an empty layout at `path`.
    pub fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(
            path.join("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )
        .unwrap();
        Layout(path.into())
    }

    /// Add a blob and return its descriptor.
    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = daxfs_check::digest::hex(&Sha256::digest(bytes));
        fs::write(self.0.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Add a layer of the archive `tar`, compressed with `program` unless that is "".
    pub fn layer(&self, tar: &Path, program: &str) -> Value {
        match program {
            "" => self.blob(&oci("layer.v1.tar"), &fs::read(tar).unwrap()),
            program => self.blob(
                &oci(&format!("layer.v1.tar+{program}")),
                &compress(tar, program),
            ),
        }
    }

    /// Add a manifest of `layers` and return its descriptor.
    pub fn manifest(&self, layers: &[Value]) -> Value {
        self.manifest_of(self.blob(&oci("config.v1+json"), b"{}"), layers)
    }

    /// Add the configuration of an image with these archives as layers, and return its descriptor.
    pub fn config(&self, tars: &[&PathBuf]) -> Value {
        self.config_of(tars, &json!({}))
    }

    /// Add such a configuration with the members of `more`.
    pub fn config_of(&self, tars: &[&PathBuf], more: &Value) -> Value {
        let digest =
            |tar: &&PathBuf| daxfs_check::digest::hex(&Sha256::digest(fs::read(tar).unwrap()));
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
    pub fn image(&self, layers: &[(&PathBuf, &str)]) -> Value {
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
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
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

/// Compresses a file.
pub fn compress(path: &Path, program: &str) -> Vec<u8> {
    let input = fs::File::open(path).unwrap();
    let output = Command::new(program)
        .arg("-c")
        .stdin(input)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Write the archive `path` with an image of `layers`, which are archives, as `docker save` does.
pub fn docker(path: &Path, layers: &[PathBuf], tag: &str) {
    let directory = path.with_extension("parts");
    fs::create_dir_all(&directory).unwrap();
    let mut names = Vec::new();
    let mut digests: Vec<String> = Vec::new();
    for layer in layers {
        let digest = daxfs_check::digest::hex(&Sha256::digest(fs::read(layer).unwrap()));
        let name = format!("{:02}{}", names.len(), &digest[..8]);
        fs::create_dir_all(directory.join(&name)).unwrap();
        let file = directory.join(&name).join("layer.tar");
        match digests.iter().position(|other| other.ends_with(&digest)) {
            // As older versions did.
            Some(same) => {
                let target = format!("../{}", names[same]);
                std::os::unix::fs::symlink(target, &file).unwrap();
            }
            None => drop(fs::copy(layer, &file).unwrap()),
        }
        names.push(format!("{name}/layer.tar"));
        digests.push(format!("sha256:{digest}"));
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}});
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let status = Command::new("tar")
        .arg("-cf")
        .arg(path)
        .arg("-C")
        .arg(&directory)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
}
