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
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }
}

/// A text that is not a [`Platform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64")]
pub struct PlatformError;

impl std::str::FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
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
            _ => Err(PlatformError),
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

/// A digest of a kind that is supported, such as `sha256:...`. Its parts are safe in file names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(String);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match is_digest(&text) {
            true => Ok(Digest(text)),
            false => Err(format!("'{text}' is not a SHA-256 digest")),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Digest {
    /// Return the whole text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Return the hexadecimal digits.
    pub fn digits(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

/// Return true if `reference` is a digest, not a name.
pub fn is_digest(reference: &str) -> bool {
    let digits = reference.strip_prefix("sha256:");
    digits.is_some_and(|digits| is_hex(digits, 32))
}

/// Describes a blob.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub platform: Option<Platform>,
    pub annotations: Option<Annotations>,
}

impl Descriptor {
    /// Return true for an archive with the changes of a layer.
    pub fn is_layer(&self) -> bool {
        let kind = self.media_type.strip_prefix("application/vnd.");
        let kind = kind.unwrap_or_default();
        match kind.strip_prefix("oci.image.layer.") {
            Some(kind) => matches!(
                kind.strip_prefix("nondistributable.").unwrap_or(kind),
                "v1.tar" | "v1.tar+gzip" | "v1.tar+zstd"
            ),
            None => matches!(
                kind.strip_prefix("docker.image.rootfs.")
                    .unwrap_or_default(),
                "diff.tar" | "diff.tar.gzip" | "diff.tar.zstd" | "foreign.diff.tar.gzip"
            ),
        }
    }

    /// Return true for an index.
    pub fn is_index(&self) -> bool {
        self.is("index.v1", "distribution.manifest.list.v2")
    }

    /// Return true for a manifest.
    pub fn is_manifest(&self) -> bool {
        self.is("manifest.v1", "distribution.manifest.v2")
    }

    /// Return true if the type is one of these, OCI's and Docker's.
    fn is(&self, oci: &str, docker: &str) -> bool {
        let kind = self.media_type.strip_prefix("application/vnd.");
        let kind = kind
            .and_then(|kind| kind.strip_suffix("+json"))
            .unwrap_or_default();
        kind.strip_prefix("oci.image.") == Some(oci) || kind.strip_prefix("docker.") == Some(docker)
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
