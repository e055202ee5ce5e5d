// SPDX-License-Identifier: GPL-2.0-only

//! The manifest of an artifact.
//!
//! Artifacts follow the OCI image specification 1.1 and have the empty configuration. Each image is a
//! layer: the bytes of the image with its sums and its signature, compressed or not.
//! Documentation/containers.rst lists the types and annotations.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Type of the artifact.
pub const ARTIFACT: &str = "application/vnd.daxfs.image.v1";

/// Type of a layer: the bytes of an image.
pub const LAYER: &str = "application/vnd.daxfs.layer.v1";

/// Type of a layer that is compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.daxfs.layer.v1+zstd";

/// Type of manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Type of the configuration that says nothing.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The configuration that says nothing.
pub const EMPTY_CONTENT: &[u8] = b"{}";

/// Annotation of a manifest in an index: its name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Annotation of a layer: the name of the file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Annotation of a layer: the SHA-256 of the image, as the mount option `digest=` takes it.
pub const DIGEST: &str = "org.daxfs.image.digest";

/// Annotation of a layer: the UUID of the image.
pub const UUID: &str = "org.daxfs.image.uuid";

/// Annotation of a layer: the label of the image, if it has one.
pub const LABEL: &str = "org.daxfs.image.label";

/// Annotation of a layer: the number of its bytes when it is not compressed.
pub const SIZE: &str = "org.daxfs.image.size";

/// Annotation of a layer: the signature of the image, if it is signed.
pub const SIGNATURE: &str = "org.daxfs.image.signature";

/// Describes a blob: its type, digest and size.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The content in base64, if it is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: String, size: u64) -> Self {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            data: None,
            annotations: BTreeMap::new(),
        }
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

/// The manifest of an artifact.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
}
