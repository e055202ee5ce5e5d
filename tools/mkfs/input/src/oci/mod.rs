// SPDX-License-Identifier: GPL-2.0-only

//! Container images: OCI layouts, archives of them, and what `docker save` writes.

mod layers;
mod marks;
mod store;
mod types;

use super::blob::{Blob, BlobReader};
use daxfs_check::Progress;
use daxfs_writer::{Error, Result};
pub(super) use layers::flatten;
pub(super) use marks::{refuse_directory, Marks};
use serde::Deserialize;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};
use std::io::Read;
use std::path::Path;
use store::Store;
use types::{is_digest, Config, Descriptor, Digest, Index, Manifest, RootFs, Saved};
pub use types::{Platform, PlatformError};

/// Annotation of a manifest with the name of the image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Limit of nested indices.
const DEPTH: usize = 8;

/// Verify the layers of an image in an OCI layout. Return them, archives of changes, the lowest first.
pub(super) fn oci(
    path: &Path,
    reference: Option<&str>,
    platform: &Platform,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Blob>> {
    let store = Store::open(path, scratch, progress)?;
    store.read("oci-layout")?;
    let index = json::<Index>(&store, "index.json", &store.read("index.json")?)?;
    let manifest = select(&store, index, reference, platform)?;
    let layers = manifest.layers.iter();
    let layers = layers.map(|layer| open(&store, layer, progress));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    // Artifacts of other programs have a configuration of another type.
    if manifest.config.is_config() {
        let bytes = store::read(&blob(&store, &manifest.config, progress)?)?;
        let config: Config = json(&store, manifest.config.digest.text(), &bytes)?;
        if let Some(rootfs) = config.rootfs {
            let diff_ids = rootfs.diff_ids(&store, layers.len())?;
            for (layer, diff_id) in layers.iter().zip(diff_ids) {
                unpacked(layer, &diff_id, progress)?;
            }
        }
    }
    Ok(layers)
}

/// Verify and open a layer.
fn open(store: &Store, descriptor: &Descriptor, progress: &dyn Progress) -> Result<Blob> {
    if !descriptor.is_layer() {
        let kind = &descriptor.media_type;
        let why = format!("has a layer of the type {kind}, which is not a file system");
        return Err(Error::refused(store.path(), why));
    }
    blob(store, descriptor, progress)
}

/// Find the selected manifest in an index, which may have nested indices.
fn select(
    store: &Store,
    mut index: Index,
    mut reference: Option<&str>,
    platform: &Platform,
) -> Result<Manifest> {
    for _ in 0..DEPTH {
        // The reference is in the outermost index.
        let chosen = choose(store.path(), &index.manifests, reference.take(), platform)?;
        let content = store::read(&blob(store, chosen, &daxfs_check::Silent)?)?;
        if !chosen.is_index() {
            return json(store, chosen.digest.text(), &content);
        }
        index = json(store, chosen.digest.text(), &content)?;
    }
    let why = "has indices that lead to one another; it is not a valid image";
    Err(Error::refused(store.path(), why))
}

/// Return the selected descriptor of `descriptors`.
fn choose<'a>(
    path: &Path,
    descriptors: &'a [Descriptor],
    reference: Option<&str>,
    platform: &Platform,
) -> Result<&'a Descriptor> {
    let mut left: Vec<&Descriptor> = descriptors
        .iter()
        .filter(|descriptor| descriptor.is_index() || descriptor.is_manifest())
        .collect();
    let names = |left: &[&Descriptor]| {
        let names = left.iter().map(|descriptor| match name(descriptor) {
            Some(name) => name.into(),
            None => descriptor.digest.to_string(),
        });
        names.collect::<Vec<String>>().join(", ")
    };
    if let Some(reference) = reference {
        let all = names(&left);
        // A digest always names the manifest.
        let digest = is_digest(reference);
        left.retain(|descriptor| match digest {
            true => descriptor.digest.text() == reference,
            false => name(descriptor) == Some(reference),
        });
        if left.is_empty() {
            let why = format!("has no image called '{reference}'; it has: {all}");
            return Err(Error::refused(path, why));
        }
    }
    if left.len() > 1 {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|is| platform.fits(is));
        let fitting: Vec<_> = left.iter().copied().filter(fits).collect();
        if fitting.is_empty() && left.iter().all(|d| d.platform.is_some()) {
            let platforms = left.iter().filter_map(|d| d.platform.as_ref());
            let platforms: Vec<String> = platforms.map(Platform::to_string).collect();
            let why = format!(
                "has no image for {platform}; choose one with --platform: {}",
                platforms.join(", ")
            );
            return Err(Error::refused(path, why));
        }
        if !fitting.is_empty() {
            left = fitting;
        }
    }
    // Variants of a platform are sorted from the most to the least specific.
    let same = left.windows(2).all(|pair| {
        let platforms = pair[0].platform.as_ref().zip(pair[1].platform.as_ref());
        platforms.is_some_and(|(a, b)| a.variant != b.variant)
    });
    match left[..] {
        [] => Err(Error::refused(path, "has no image")),
        [only] => Ok(only),
        [first, ..] if same => Ok(first),
        _ => {
            let why = format!(
                "has several images; name one after a colon: {}",
                names(&left)
            );
            Err(Error::refused(path, why))
        }
    }
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations.as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

fn json<T: for<'de> Deserialize<'de>>(store: &Store, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("{name} is not understood: {error}");
        Error::refused(store.path(), why)
    })
}

/// Verify the blob of a descriptor and return it.
fn blob(store: &Store, descriptor: &Descriptor, progress: &dyn Progress) -> Result<Blob> {
    let digest = &descriptor.digest;
    let blob = store.get(&format!("blobs/{}/{}", digest.algorithm(), digest.digits()))?;
    if blob.size() != descriptor.size {
        let why = format!(
            "has {} bytes instead of {}; get it again",
            blob.size(),
            descriptor.size
        );
        return Err(Error::refused(&blob.path, why));
    }
    let reader = BlobReader::new(&blob, progress);
    progress.step("verifying", blob.size());
    verify(&blob.path, reader, digest)?;
    Ok(blob)
}

/// Compare the bytes of `reader` with a digest. `path` is its name in messages.
fn verify(path: &Path, mut reader: impl Read, digest: &Digest) -> Result<()> {
    let mut hash: Box<dyn DynDigest> = match digest.algorithm() {
        "sha256" => Box::<Sha256>::default(),
        _ => Box::<Sha512>::default(),
    };
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
            Err(error) => return Err(Error::io(path, "read the file", error)),
        }
    }
    if daxfs_check::digest::hex(&hash.finalize()) != digest.digits() {
        let why = format!("does not have its digest {digest}; it is damaged, get it again");
        return Err(Error::refused(path, why));
    }
    Ok(())
}

/// Compare the archive in a layer, compressed or not, with its digest.
fn unpacked(blob: &Blob, digest: &Digest, progress: &dyn Progress) -> Result<()> {
    progress.step("verifying", blob.size());
    verify(&blob.path, blob.decompressed(progress)?, digest)
}

impl RootFs {
    /// Return the digests of the archives in the layers of the image in `store`, of which there are
    /// `layers`.
    fn diff_ids(self, store: &Store, layers: usize) -> Result<Vec<Digest>> {
        let found = self.diff_ids.len();
        if found != layers {
            let why = format!("has {layers} layers and {found} digests for them; it is damaged");
            return Err(Error::refused(store.path(), why));
        }
        Ok(self.diff_ids)
    }
}

/// Verify the layers of an image in an archive of `docker save`. Return them, the lowest first.
pub(super) fn docker(
    path: &Path,
    reference: Option<&str>,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Blob>> {
    let store = Store::open(path, scratch, progress)?;
    if !store.has("manifest.json") && store.has("index.json") {
        let why = "is an OCI image, not docker's; write oci: before the path";
        return Err(Error::refused(store.path(), why));
    }
    let images: Vec<Saved> = json(&store, "manifest.json", &store.read("manifest.json")?)?;
    let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let all: Vec<String> = images.iter().flat_map(tags).collect();
    let mut left: Vec<&Saved> = images.iter().collect();
    if let Some(reference) = reference {
        left.retain(|image| tags(image).iter().any(|tag| tag == reference));
    }
    let image = match left[..] {
        [image] => image,
        _ => {
            let why = match reference {
                Some(reference) => format!(
                    "has no image called '{reference}'; it has: {}",
                    all.join(", ")
                ),
                None => format!(
                    "has several images; name one after a colon: {}",
                    all.join(", ")
                ),
            };
            return Err(Error::refused(store.path(), why));
        }
    };
    let config: Config = json(&store, &image.config, &store.read(&image.config)?)?;
    let rootfs = config.rootfs.unwrap_or_default();
    let digests = rootfs.diff_ids(&store, image.layers.len())?;
    let mut layers = Vec::new();
    for (name, digest) in image.layers.iter().zip(digests) {
        let blob = store.get(name)?;
        unpacked(&blob, &digest, progress)?;
        layers.push(blob);
    }
    Ok(layers)
}
