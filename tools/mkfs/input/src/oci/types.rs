// SPDX-License-Identifier: GPL-2.0-only

//! The fields that matter of the descriptions of container images.

use daxfs_check::digest::is_hex;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// Annotations by name.
pub type Annotations = HashMap<String, String>;

/// Selects one of several images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    pub(super) variant: Option<String>,
}

impl Default for Platform {
    /// Return Linux on this machine's processor, which has the name that Go gives it.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let words: Vec<_> = text.split('/').collect();
        match words[..] {
            [os, architecture, ref variant @ ..]
                if variant.len() < 2 && words.iter().all(|word| !word.is_empty()) =>
            {
                Ok(Platform {
                    os: os.into(),
                    architecture: architecture.into(),
                    variant: variant.first().map(|&variant| variant.into()),
                })
            }
            _ => Err("use OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Return true if an image for `other` is one for this platform.
    pub fn fits(&self, other: &Platform) -> bool {
        let variant = self.variant.is_none() || other.variant == self.variant;
        other.os == self.os && other.architecture == self.architecture && variant
    }
}

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
    pub layers: Vec<Descriptor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for wrong in ["", "linux", "linux/", "/arm", "a/b/c/d", "a/b/"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
