// SPDX-License-Identifier: GPL-2.0-only

//! Container images: OCI layouts, and archives of them.

mod layers;
mod marks;
mod store;
mod types;

use super::blob::Blob;
use super::decoder::BUFFER;
use super::platform::Platform;
use daxfs_check::Progress;
use daxfs_writer::{Error, Result};
pub(super) use layers::flatten;
pub(super) use marks::{refuse_directory, Marks};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::Path;
use store::Store;
use types::{digits, Descriptor, Index, Manifest};

/// Annotation of a manifest with the name of the image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Limit of nested indices.
const DEPTH: usize = 8;

/// Verify the layers of an image in an OCI layout. Return them, archives of changes, the lowest first.
pub(super) fn oci(
    path: &Path,
    reference: Option<&str>,
    platform: Option<&Platform>,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Blob>> {
    let store = Store::open(path, scratch, progress)?;
    store.read("oci-layout")?;
    let index = json::<Index>(&store, "index.json", &store.read("index.json")?)?;
    let manifest = select(&store, index, reference, platform)?;
    let layers = manifest.layers.iter().map(|layer| {
        if !layer.is_layer() {
            let kind = &layer.media_type;
            let why = format!("has a layer of the type {kind}, which is not a file system");
            return Err(Error::refused(store.path(), why));
        }
        blob(&store, layer, progress)
    });
    layers.collect()
}

/// Find the selected manifest in an index, which may have nested indices.
fn select(
    store: &Store,
    mut index: Index,
    mut reference: Option<&str>,
    platform: Option<&Platform>,
) -> Result<Manifest> {
    for _ in 0..DEPTH {
        // The reference is in the outermost index.
        let chosen = choose(store.path(), &index.manifests, reference.take(), platform)?;
        let content = store::read(&blob(store, chosen, &daxfs_check::Silent)?)?;
        if chosen.is_index() {
            index = json(store, &chosen.digest, &content)?;
            continue;
        }
        let manifest: Manifest = json(store, &chosen.digest, &content)?;
        // Many programs write no platform into the index.
        if platform.is_some() && chosen.platform.is_none() {
            let config = &manifest.config;
            let content = store::read(&blob(store, config, &daxfs_check::Silent)?)?;
            let mut known = chosen.clone();
            known.platform = Some(json(store, &config.digest, &content)?);
            choose(store.path(), &[known], None, platform)?;
        }
        return Ok(manifest);
    }
    let why = "has indices that lead to one another; it is not a valid image";
    Err(Error::refused(store.path(), why))
}

/// Return the selected descriptor of `descriptors`.
fn choose<'a>(
    path: &Path,
    descriptors: &'a [Descriptor],
    reference: Option<&str>,
    platform: Option<&Platform>,
) -> Result<&'a Descriptor> {
    let mut left: Vec<&Descriptor> = descriptors
        .iter()
        .filter(|descriptor| descriptor.is_index() || descriptor.is_manifest())
        .collect();
    let names = |left: &[&Descriptor]| {
        let names = left.iter().map(|d| name(d).unwrap_or(&d.digest));
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(reference) = reference {
        let all = names(&left);
        // A digest always names the manifest.
        left.retain(|descriptor| match digits(reference) {
            Some(_) => descriptor.digest == reference,
            None => name(descriptor) == Some(reference),
        });
        if left.is_empty() {
            let why = format!("has no image called '{reference}'; it has: {all}");
            return Err(Error::refused(path, why));
        }
    }
    // An image with several names has an entry for each.
    let mut seen = HashSet::new();
    left.retain(|descriptor| seen.insert(&descriptor.digest));
    // The only image is chosen unless a platform is named that it does not fit.
    if left.len() > usize::from(platform.is_none()) {
        let platform = platform.cloned().unwrap_or_default();
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
            let names = names(&left);
            let why = format!("has several images; name one after a colon: {names}");
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
    let Some(digits) = digits(digest) else {
        let why = format!(
            "names a part '{digest}', which is not a SHA-256 digest; copy the image with skopeo"
        );
        return Err(Error::refused(store.path(), why));
    };
    let blob = store.get(&format!("blobs/sha256/{digits}"))?;
    let (found, size) = (blob.size(), descriptor.size);
    if found != size {
        let why = format!("has {found} bytes instead of {size}; get it again");
        return Err(Error::refused(&blob.path, why));
    }
    progress.step("verifying", size);
    let mut hash = Sha256::new();
    let (mut buffer, mut at) = (vec![0; BUFFER], 0);
    loop {
        let length = blob.read_at(&mut buffer, at)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        progress.advance(length as u64);
        at += length as u64;
    }
    if daxfs_check::digest::hex(&hash.finalize()) != digits {
        let why = format!("does not have its digest {digest}; it is damaged, get it again");
        return Err(Error::refused(&blob.path, why));
    }
    Ok(blob)
}
