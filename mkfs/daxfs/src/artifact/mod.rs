// SPDX-License-Identifier: GPL-2.0-only

//! `push` and `pull`: images as artifacts in an OCI image layout.
//!
//! The manifest is that of an artifact as in the OCI image specification 1.1, with the empty
//! configuration. Each image is a layer: the bytes of the image with its sums and its signature,
//! compressed or not. Documentation/containers.rst lists the types and annotations.

mod blob;
mod layout;
mod pull;
mod push;

use crate::error::{Error, Result};
use crate::text::{is_control, shown};
use daxfs_command::signals::Interrupt;
pub use pull::pull;
pub use push::push;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Type of the artifact.
const ARTIFACT: &str = "application/vnd.daxfs.image.v1";

/// Type of a layer: the bytes of an image.
const LAYER: &str = "application/vnd.daxfs.layer.v1";

/// Type of a layer that is compressed with zstd.
const LAYER_ZSTD: &str = "application/vnd.daxfs.layer.v1+zstd";

/// Type of manifests.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Type of the configuration that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The configuration that says nothing.
const EMPTY_CONTENT: &[u8] = b"{}";

/// Annotation of a manifest in an index: its name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Annotation of a layer: the name of the file.
const TITLE: &str = "org.opencontainers.image.title";

/// Annotation of a layer: the SHA-256 of the image, as the mount option `digest=` takes it.
const DIGEST: &str = "org.daxfs.image.digest";

/// Annotation of a layer: the UUID of the image.
const UUID: &str = "org.daxfs.image.uuid";

/// Annotation of a layer: the label of the image, if it has one.
const LABEL: &str = "org.daxfs.image.label";

/// Annotation of a layer: the number of its bytes when it is not compressed.
const SIZE: &str = "org.daxfs.image.size";

/// Annotation of a layer: the signature of the image, if it is signed.
const SIGNATURE: &str = "org.daxfs.image.signature";

/// Where an artifact is: `oci:DIRECTORY[:NAME]`.
pub struct Reference {
    /// The argument, as messages show it.
    text: String,
    /// The image layout.
    directory: PathBuf,
    /// A name or a digest.
    name: Option<String>,
}

impl Reference {
    /// Parse an argument. The name starts after the first colon, as for skopeo.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn parse(argument: &OsStr) -> Result<Self> {
        let text = shown(argument.as_bytes());
        let refuse = |why: &'static str| Err(Error::refused(&text, why));
        let Some(rest) = argument.as_bytes().strip_prefix(b"oci:") else {
            return refuse(
                "is no artifact in an OCI layout; write oci:DIRECTORY:NAME \
                 (skopeo copies artifacts between that and a registry)",
            );
        };
        let mut parts = rest.splitn(2, |&byte| byte == b':');
        let directory = parts.next().unwrap_or_default();
        if directory.is_empty() {
            return refuse("has no directory; write oci:DIRECTORY:NAME");
        }
        let name = match parts.next().map(std::str::from_utf8) {
            None => None,
            Some(Ok(name)) if !name.is_empty() && !name.contains(is_control) => Some(name.into()),
            Some(_) => return refuse("has no name after the colon; write oci:DIRECTORY:NAME"),
        };
        Ok(Reference {
            directory: OsStr::from_bytes(directory).into(),
            name,
            text,
        })
    }

    /// Create an error about the artifact.
    fn refuse(&self, why: impl Into<String>) -> Error {
        Error::refused(&self.text, why.into())
    }
}

/// Handle the signals that end a program.
fn handle_signals() -> Result<Interrupt> {
    Interrupt::new().map_err(|error| Error::system("", "cannot handle signals", "", error))
}

/// Describes a blob: its type, digest and size.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// The content in base64, if it is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn new(media_type: &str, digest: String, size: u64) -> Self {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            data: None,
            annotations: BTreeMap::new(),
        }
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

/// The manifest of an artifact.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
}

#[cfg(test)]
mod tests {
    use super::Reference;
    use std::ffi::OsStr;

    #[test]
    fn references() {
        let parse = |text: &str| Reference::parse(OsStr::new(text));
        let named = parse("oci:dir/layout:example.org:5000/name:tag").unwrap();
        assert_eq!(named.directory.as_os_str(), "dir/layout");
        assert_eq!(named.name.as_deref(), Some("example.org:5000/name:tag"));
        assert_eq!(parse("oci:layout").unwrap().name, None);
        for wrong in [
            "",
            "layout:1",
            "docker://a/b:1",
            "oci:",
            "oci::1",
            "oci:a:",
            "oci:a:\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
