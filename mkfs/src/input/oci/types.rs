// SPDX-License-Identifier: GPL-2.0-only

//! The fields that matter of the descriptions of container images.

use crate::input::platform::Platform;
use daxfs_files::digest::is_hex;
use serde::Deserialize;
use std::collections::HashMap;

/// Annotations by name.
pub type Annotations = HashMap<String, String>;

/// Returns the kind of a digest such as `sha256:...` and its hexadecimal digits, which are safe in file names.
pub fn parse(digest: &str) -> Option<(&str, &str)> {
    let (kind, digits) = digest.split_once(':')?;
    let bytes = match kind {
        "sha256" => 32,
        "sha512" => 64,
        _ => return None,
    };
    is_hex(digits, bytes).then_some((kind, digits))
}

/// Describes a blob.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    platform: Option<Platform>,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

impl Descriptor {
    /// Returns the platform of the image, if the index says it.
    pub fn platform(&self) -> Option<&Platform> {
        let platform = self.platform.as_ref();
        platform.filter(|platform| platform.is_known())
    }

    /// Returns the value of an annotation.
    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Returns the tag of the image, which other images may have as well.
    pub fn tag(&self) -> Option<&str> {
        self.annotation("org.opencontainers.image.ref.name")
    }

    /// Returns the whole name of the image if containerd or docker wrote it, and its tag otherwise.
    pub fn name(&self) -> Option<&str> {
        let whole = self.annotation("io.containerd.image.name");
        whole.or_else(|| self.tag())
    }

    /// Returns true for a manifest of something about an image, such as its signature.
    pub fn is_attached(&self) -> bool {
        let kind = self.artifact_type.as_deref();
        kind.is_some_and(|kind| !is_config(kind))
            || self.annotation("vnd.docker.reference.type").is_some()
    }

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
                | "docker.image.rootfs.foreign.diff.tar"
                | "docker.image.rootfs.foreign.diff.tar.gzip"
        )
    }

    /// Returns what makes a directory of a layer that is not a tar archive.
    pub fn remedy(&self) -> &'static str {
        let is = |word| self.media_type.contains(word);
        if is("encrypted") {
            "decrypt it with skopeo copy --decryption-key"
        } else if is("erofs") {
            "make a directory of it with fsck.erofs --extract=DIRECTORY, and name the directory instead"
        } else if is("squashfs") {
            "make a directory of it with unsquashfs -d DIRECTORY, and name the directory instead"
        } else {
            "make a directory of the image with oras pull --oci-layout LAYOUT:NAME --output DIRECTORY, and name the directory instead"
        }
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

/// Returns true for the type of a container's configuration.
pub fn is_config(kind: &str) -> bool {
    matches!(
        kind,
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    )
}

/// An index of manifests. Programs in Go write an empty list as null.
#[derive(Deserialize)]
pub struct Index {
    manifests: Option<Vec<Descriptor>>,
}

impl Index {
    /// Returns the manifests, and the indices below this one.
    pub fn images(self) -> Vec<Descriptor> {
        let mut all = self.manifests.unwrap_or_default();
        all.retain(|descriptor| descriptor.is_index() || descriptor.is_manifest());
        // An image with attachments is still the only one.
        if !all.iter().all(Descriptor::is_attached) {
            all.retain(|descriptor| !descriptor.is_attached());
        }
        all
    }
}

/// A manifest.
#[derive(Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// Returns the layers, the lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }
}

/// The configuration of a container.
#[derive(Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub platform: Platform,
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Option<Vec<String>>,
}

impl Config {
    /// Returns the number of layers.
    pub fn layers(&self) -> usize {
        let layers = self.rootfs.as_ref().and_then(|it| it.diff_ids.as_ref());
        layers.map_or(0, Vec::len)
    }
}
