// SPDX-License-Identifier: GPL-2.0-only

//! A container image with its manifest and its configuration, as stores keep it.

use super::super::blob::Blob;
use super::store::{read, Store};
use super::{blob, json, open, select, verify, Layer, Platform, REF_NAME};
use daxfs_check::Progress;
use daxfs_writer::{Error, Result};
use oci_spec::image::{Digest, ImageIndex, ImageManifest};
use serde::Deserialize;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

/// Annotation of a manifest with the whole name of the image, by containerd.
const FULL_NAME: &str = "io.containerd.image.name";

/// A container image.
pub struct Whole {
    /// Its name with a registry and a tag, if it has one.
    pub name: Option<String>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Digest of the manifest.
    pub digest: String,
    /// The configuration.
    pub config: Vec<u8>,
    /// Digest of the configuration.
    pub config_digest: Digest,
    /// When it was made, by the configuration.
    pub created: Option<String>,
    /// The layers, the lowest first.
    pub layers: Vec<WholeLayer>,
}

/// A layer with what stores say about it.
pub struct WholeLayer {
    pub layer: Layer,
    /// Digest of the archive as it is.
    pub digest: String,
    /// How the archive is compressed, by the first bytes.
    pub start: Vec<u8>,
    /// Digest of the archive when it is not compressed.
    pub diff_id: Digest,
    /// Bytes of that archive.
    pub diff_size: u64,
}

/// The relevant fields of a configuration.
#[derive(Deserialize)]
struct Config {
    created: Option<String>,
    rootfs: super::RootFs,
}

/// Verify an image in an OCI layout, also the archives in its layers, and return it.
pub fn whole(
    path: &Path,
    reference: Option<&str>,
    platform: &Platform,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Whole> {
    let store = Store::open(path, scratch, progress)?;
    store.read("oci-layout")?;
    let index = json::<ImageIndex>(&store, "index.json", &store.read("index.json")?)?;
    let found = select(&store, index, reference, platform)?;
    let manifest: ImageManifest = json(&store, &found.digest, &found.manifest)?;
    let config_digest = manifest.config().digest().clone();
    let config = read(&blob(&store, manifest.config(), progress)?)?;
    let parsed: Config = json(&store, config_digest.as_ref(), &config)?;
    let diff_ids = parsed.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers().len() {
        let why = format!(
            "has {} layers and {} digests for them; it is damaged",
            manifest.layers().len(),
            diff_ids.len()
        );
        return Err(Error::refused(store.path(), why));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let layer = open(&store, descriptor, progress)?;
        let mut start = vec![0; 4];
        let length = layer.blob.read_at(&mut start, 0)?;
        start.truncate(length);
        layers.push(WholeLayer {
            diff_size: unpacked(&layer.blob, &diff_id, progress)?,
            digest: descriptor.digest().to_string(),
            layer,
            start,
            diff_id,
        });
    }
    Ok(Whole {
        name: name(&found.annotations, path),
        manifest: found.manifest,
        digest: found.digest,
        config,
        config_digest,
        created: parsed.created,
        layers,
    })
}

/// Compare the archive in a layer with its digest. Return its size.
fn unpacked(blob: &Blob, digest: &Digest, progress: &dyn Progress) -> Result<u64> {
    struct Counted<'a>(Box<dyn Read + 'a>, &'a Cell<u64>);
    impl Read for Counted<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(into)?;
            self.1.set(self.1.get() + length as u64);
            Ok(length)
        }
    }
    progress.step("verifying", blob.size());
    let size = Cell::new(0);
    verify(
        &blob.path,
        Counted(blob.decompressed(progress)?, &size),
        digest,
    )?;
    Ok(size.get())
}

/// Return the name of an image: with a registry, and with a tag.
fn name(annotations: &HashMap<String, String>, path: &Path) -> Option<String> {
    let known = |name| annotations.get(name).map(String::as_str);
    let name = known(FULL_NAME).or(known(REF_NAME))?;
    let name = match name.contains('/') {
        true => name.to_string(),
        // A tag only: podman gives images of layouts the registry localhost, too.
        false => {
            let file = path.file_stem()?.to_str()?;
            format!("localhost/{}:{name}", file.to_ascii_lowercase())
        }
    };
    let repository = name.rsplit_once('/').map_or(&name[..], |(_, last)| last);
    let valid = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    match (name.chars().all(valid), repository.contains(':')) {
        (true, true) => Some(name),
        (true, false) => Some(format!("{name}:latest")),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |annotation: &str, value: &str| {
            let annotations = HashMap::from([(annotation.into(), value.into())]);
            super::name(&annotations, Path::new("/srv/Layout.tar"))
        };
        let some = |name: &str| Some(String::from(name));
        assert_eq!(name(REF_NAME, "1"), some("localhost/layout:1"));
        assert_eq!(name(REF_NAME, "a.b:5/c"), some("a.b:5/c:latest"));
        assert_eq!(name(FULL_NAME, "a.b/c/d:1"), some("a.b/c/d:1"));
        assert_eq!(name(REF_NAME, "a b"), None);
        assert_eq!(name("other", "1"), None);
    }
}
