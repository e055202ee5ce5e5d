// SPDX-License-Identifier: GPL-2.0-only

//! The relevant fields of the descriptions of container images and artifacts.

use crate::input::platform::Platform;
use daxfs_files::digest::is_hex;
use serde::Deserialize;
use std::collections::HashMap;

/// oras's annotation with the path of a file.
const TITLE: &str = "org.opencontainers.image.title";

/// Annotations by name.
pub type Annotations = HashMap<String, String>;

/// Splits a digest like `sha256:...` into its kind and hexadecimal digits, both safe in file names.
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
    /// Creates the descriptor of a blob of unknown size.
    pub fn new(kind: &str, digest: &str) -> Self {
        Descriptor {
            media_type: kind.into(),
            digest: digest.into(),
            size: 0,
            platform: None,
            artifact_type: None,
            annotations: None,
        }
    }

    /// Returns the platform of the image, if the index lists it.
    pub fn platform(&self) -> Option<&Platform> {
        let platform = self.platform.as_ref();
        platform.filter(|platform| platform.is_known())
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Returns the tag of the image, which may not be unique.
    pub fn tag(&self) -> Option<&str> {
        self.annotation("org.opencontainers.image.ref.name")
    }

    /// Returns the full name of the image if containerd or docker wrote it, otherwise its tag.
    pub fn name(&self) -> Option<&str> {
        let whole = self.annotation("io.containerd.image.name");
        whole.or_else(|| self.tag())
    }

    /// Returns true for the manifest of a nameless attachment, such as an image's signature.
    pub fn is_attached(&self) -> bool {
        let kind = self.artifact_type.as_deref();
        // `cosign save` writes image and imageIndex, and sigs, atts and sboms for their
        // attachments.
        let role = self.annotation("kind").unwrap_or_default();
        let role = role.strip_prefix("dev.cosignproject.cosign/");
        self.name().is_none() && kind.is_some_and(|kind| !is_config(kind))
            || role.is_some_and(|role| !role.starts_with("image"))
            || self.annotation("vnd.docker.reference.type").is_some()
    }

    /// Returns the path of the file in the layer, in ModelPack's
    /// [annotations.md](https://github.com/modelpack/model-spec/blob/main/docs/annotations.md) with
    /// its present or former prefix, or in oras's annotation.
    fn path(&self) -> Option<&str> {
        let names = ["org.cncf.model.filepath", "org.cnai.model.filepath", TITLE];
        let mut paths = names.iter().filter_map(|name| self.annotation(name));
        paths.find(|path| !path.is_empty())
    }

    /// Returns true for an archive of files: `*.v1.tar`, `.tar+gzip` and `.tar+zstd` in ModelPack's
    /// [spec.md](https://github.com/modelpack/model-spec/blob/main/docs/spec.md), and the types
    /// that docker/model-runner unpacks in pkg/distribution/internal/bundle/unpack.go.
    fn is_archive(&self) -> bool {
        let kind = self.media_type.strip_prefix("application/vnd.");
        let kind = kind.unwrap_or_default();
        let is_model = kind.starts_with("cncf.model.") || kind.starts_with("cnai.model.");
        let ends = [".tar", ".tar+gzip", ".tar+zstd"];
        is_model && ends.iter().any(|end| kind.ends_with(end))
            || matches!(kind, "docker.ai.dir.tar" | "docker.ai.vllm.config.tar")
    }

    /// Returns the remedy for an unsupported layer: why, and how to make a directory of its
    /// content.
    pub fn remedy(&self) -> String {
        let is = |word| self.media_type.contains(word);
        let remedy = if is("encrypted") {
            "decrypt it with skopeo copy --decryption-key"
        } else if is("erofs") {
            "make a directory of it with fsck.erofs --extract=DIRECTORY, and name the directory instead"
        } else if is("daxfs") {
            "add it to a store with daxfs store add, alone, from a layout in a directory"
        } else if is("squashfs") {
            "make a directory of it with unsquashfs -d DIRECTORY, and name the directory instead"
        } else if self
            .annotation(TITLE)
            .is_some_and(|title| !title.is_empty())
        {
            "make a directory of the image with oras pull --oci-layout LAYOUT:NAME --output DIRECTORY, and name the directory instead"
        } else {
            let file = self.digest.replace(':', "/");
            return format!(
                " without the name of a file; put blobs/{file} of the layout, or the files in it, into a directory, and name the directory instead"
            );
        };
        format!(", which is not a tar archive; {remedy}")
    }

    /// Returns true for an index.
    pub fn is_index(&self) -> bool {
        matches!(
            &*self.media_type,
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// Returns true for a manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(
            &*self.media_type,
            "application/vnd.oci.image.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v2+json"
        )
    }
}

/// Returns true for the type of an archive of a layer's changes.
pub fn is_layer(kind: &str) -> bool {
    matches!(
        kind.strip_prefix("application/vnd.").unwrap_or_default(),
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
    /// Returns the manifests, and the nested indices.
    pub fn images(self) -> Vec<Descriptor> {
        let mut all = self.manifests.unwrap_or_default();
        all.retain(|descriptor| descriptor.is_index() || descriptor.is_manifest());
        all
    }
}

/// How to read a layer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Form {
    /// An archive of changes to the layers below.
    Changes,
    /// An archive of files below this directory.
    Archive(String),
    /// A file, with ModelPack's metadata.
    File {
        path: String,
        metadata: Option<String>,
    },
}

/// A manifest.
#[derive(Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// Returns the layers, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }

    /// Returns the layers, lowest first.
    pub fn into_layers(self) -> Vec<Descriptor> {
        self.layers.unwrap_or_default()
    }

    /// Returns how to read each layer, `None` if it is unsupported.
    pub fn forms(&self) -> Vec<Option<Form>> {
        self.layers().iter().map(|it| self.form(it)).collect()
    }

    /// Returns how to read a layer.
    ///
    /// Containers consist of changes only. Layers of other manifests are archives, according to
    /// their types, or files with names. oras packs a directory and marks it for unpacking,
    /// whatever its type: `descriptorFromDir()` and `pushDir()` in oras-go, content/file/file.go.
    fn form(&self, layer: &Descriptor) -> Option<Form> {
        let changes = is_layer(&layer.media_type).then_some(Form::Changes);
        if is_config(&self.config.media_type) {
            return changes;
        }
        let title = layer.annotation(TITLE).filter(|title| !title.is_empty());
        let unpack = layer.annotation("io.deis.oras.content.unpack") == Some("true");
        if let Some(directory) = title.filter(|_| unpack) {
            return Some(Form::Archive(directory.into()));
        }
        if layer.is_archive() {
            return Some(Form::Archive(String::new()));
        }
        let Some(path) = layer.path() else {
            return changes;
        };
        let names = ["cncf", "cnai"].map(|prefix| format!("org.{prefix}.model.file.metadata+json"));
        let metadata = names.iter().find_map(|name| layer.annotation(name));
        let metadata = metadata.map(str::to_string);
        Some(Form::File {
            path: path.into(),
            metadata,
        })
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
