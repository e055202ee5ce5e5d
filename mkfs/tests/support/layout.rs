// SPDX-License-Identifier: GPL-2.0-only

//! Writes OCI layouts.

use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the OCI media type of this kind.
pub fn oci(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// A layout under construction, in a directory that also contains the archives.
pub struct Layout {
    root: PathBuf,
    pub path: PathBuf,
}

impl Layout {
    /// Returns an empty layout, `layout` in the directory `root`.
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

    /// Adds a blob and returns its descriptor.
    pub fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = daxfs_files::digest::hex(&Sha256::digest(bytes));
        fs::write(self.path.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Adds a layer of the archive `tar`, compressed with `program` unless that is empty.
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

    /// Adds a manifest of `layers` and returns its descriptor.
    pub fn manifest(&self, layers: &[Value]) -> Value {
        let config = br#"{"os": "linux", "architecture": "riscv64"}"#;
        self.configured(&self.blob(&oci("config.v1+json"), config), layers)
    }

    /// Adds a manifest of `layers` with this configuration and returns its descriptor.
    pub fn configured(&self, config: &Value, layers: &[Value]) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci("manifest.v1+json"),
            "config": config,
            "layers": layers,
        });
        self.blob(&oci("manifest.v1+json"), manifest.to_string().as_bytes())
    }

    /// Adds an image of these archives, and returns the descriptor of its manifest.
    pub fn image(&self, tars: &[&str]) -> Value {
        let layers = tars.iter().map(|tar| self.layer(tar, ""));
        self.manifest(&layers.collect::<Vec<_>>())
    }

    /// Adds an index of `manifests` and returns its descriptor.
    pub fn nested(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.blob(&oci("index.v1+json"), index.to_string().as_bytes())
    }

    /// Returns the file with the blob of `descriptor`.
    pub fn file(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap();
        self.path.join("blobs/sha256").join(&digest[7..])
    }

    /// Writes the index of the whole layout.
    pub fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

/// Returns the descriptor with this name.
pub fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// Returns the descriptor for this platform, such as `arm/v7`.
pub fn platform(mut descriptor: Value, processor: &str) -> Value {
    let (architecture, variant) = processor.split_once('/').unwrap_or((processor, ""));
    descriptor["platform"] =
        json!({"os": "linux", "architecture": architecture, "variant": variant});
    descriptor
}
