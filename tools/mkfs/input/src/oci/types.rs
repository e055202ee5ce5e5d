// SPDX-License-Identifier: GPL-2.0-only

//! The fields that matter of the descriptions of container images.

use crate::platform::Platform;
use daxfs_check::digest::is_hex;
use serde::Deserialize;
use std::collections::HashMap;

/// Annotations by name.
pub type Annotations = HashMap<String, String>;

/// Return the hexadecimal digits of a digest such as `sha256:...`, which are safe in file names.
pub fn digits(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:");
    digits.filter(|digits| is_hex(digits, 32))
}

/// Describes a blob.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    pub annotations: Option<Annotations>,
}

impl Descriptor {
    /// Return true for an archive with the changes of a layer.
    pub fn is_layer(&self) -> bool {
        let kind = self.media_type.strip_prefix("application/vnd.");
        matches!(
            kind.unwrap_or_default(),
            "oci.image.layer.v1.tar"
                | "oci.image.layer.v1.tar+gzip"
                | "oci.image.layer.v1.tar+zstd"
                | "oci.image.layer.nondistributable.v1.tar"
                | "oci.image.layer.nondistributable.v1.tar+gzip"
                | "oci.image.layer.nondistributable.v1.tar+zstd"
                | "docker.image.rootfs.diff.tar"
                | "docker.image.rootfs.diff.tar.gzip"
                | "docker.image.rootfs.diff.tar.zstd"
                | "docker.image.rootfs.foreign.diff.tar.gzip"
        )
    }

    /// Return true for an index.
    pub fn is_index(&self) -> bool {
        matches!(
            &*self.media_type,
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// Return true for a manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(
            &*self.media_type,
            "application/vnd.oci.image.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v2+json"
        )
    }
}

/// An index of manifests.
#[derive(Deserialize)]
pub struct Index {
    pub manifests: Vec<Descriptor>,
}

/// A manifest.
#[derive(Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}
