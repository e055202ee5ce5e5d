// SPDX-License-Identifier: GPL-2.0-only

//! Container images and artifacts of files, in OCI layouts and archives of them.

mod artifact;
mod layers;
mod parts;
mod types;

use super::blob::Blob;
use super::decoder::BUFFER;
use super::options::Options;
use super::platform::Platform;
use daxfs_files::{Error, Progress, Result, Silent};
pub(super) use layers::flatten;
pub use layers::layer;
use layers::Layer;
use parts::Parts;
pub use parts::PULL;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
pub use types::is_layer;
use types::{is_config, Config, Descriptor, Form, Index, Manifest};

/// Maximum depth of nested indices.
const DEPTH: usize = 8;

/// An image or artifact in an OCI layout.
pub struct OciImage {
    layout: Layout,
    /// The images in the index that lists it.
    images: Vec<Descriptor>,
    chosen: Descriptor,
    manifest: Manifest,
}

impl OciImage {
    /// Finds the image `path`: a directory or an archive, and after a colon the name of an image in
    /// it.
    ///
    /// Fails if the manifest does not match its digest.
    pub fn find(path: &Path, options: &Options<'_>) -> Result<Self> {
        let (path, name) = reference(path);
        let parts = Parts::open(path, options)?;
        parts.read("oci-layout")?;
        let index = json::<Index>(&parts, "index.json", &parts.read("index.json")?)?;
        let layout = Layout {
            parts,
            images: index.images(),
            platform: options.platform.clone(),
        };
        let mut images = layout.images.clone();
        if let Some(name) = name.filter(|_| !images.is_empty()) {
            images = layout.called(name);
            if images.is_empty() {
                let all = layout.offer(&unattached(&layout.images));
                return Err(layout.refused(format!("has no image called '{name}'; it has: {all}")));
            }
        }
        for _ in 0..DEPTH {
            let chosen = layout.choose(&images)?.clone();
            if !chosen.is_index() {
                let content = parts::read(&layout.part(&images, &chosen, &chosen, &Silent)?)?;
                return Ok(OciImage {
                    manifest: json(&layout.parts, &chosen.digest, &content)?,
                    layout,
                    images,
                    chosen,
                });
            }
            images = layout.describe::<Index>(&chosen)?.images();
        }
        Err(layout.refused("has indices that lead to one another; it is not a valid image"))
    }

    /// Returns the type of each layer, lowest first.
    pub fn types(&self) -> impl ExactSizeIterator<Item = &str> {
        self.manifest.layers().iter().map(|it| &*it.media_type)
    }

    /// Returns the layers as blobs.
    pub fn into_blobs(self) -> Blobs {
        Blobs {
            parts: self.layout.parts,
            blobs: self.manifest.into_layers(),
        }
    }

    /// Returns whether the index lists its platform.
    fn has_platform(&self) -> bool {
        self.chosen.platform().is_some()
    }

    /// Returns the configuration, in JSON.
    ///
    /// Fails if it is not a container's.
    pub fn config(&self) -> Result<Map<String, Value>> {
        let (config, parts) = (&self.manifest.config, &self.layout.parts);
        if !is_config(&config.media_type) {
            let why = "has no image of a container with this name; copy one to it, with skopeo";
            return Err(self.layout.refused(why));
        }
        let content = parts::read(&blob(parts, config, &mut io::sink(), &Silent)?)?;
        self.check_platform(&json(parts, &config.digest, &content)?)?;
        json(parts, &config.digest, &content)
    }

    /// Checks that the image is for the wanted platform, unless the index has answered that.
    fn check_platform(&self, config: &Config) -> Result<()> {
        // Many programs write no platform into the index.
        let wanted = self.layout.platform.as_ref();
        let wanted = wanted.filter(|_| !self.has_platform());
        match wanted.filter(|it| it.rank(&config.platform).is_none()) {
            None => Ok(()),
            Some(wanted) => {
                let known = Some(&config.platform).filter(|it| it.is_known());
                Err(self.layout.unfit(wanted, known.into_iter()))
            }
        }
    }

    /// Verifies the layers, and returns them, lowest first.
    pub(super) fn layers(&self, progress: &dyn Progress) -> Result<Vec<Layer>> {
        let (layout, chosen, manifest) = (&self.layout, &self.chosen, &self.manifest);
        let part = |part, progress| layout.part(&self.images, chosen, part, progress);
        let (config, layers) = (&manifest.config, manifest.layers());
        let is_unknown = layout.platform.is_some() && !self.has_platform();
        let is_there = || Ok(layout.parts.has(&file(&layout.parts, config)?));
        if is_unknown || is_config(&config.media_type) && is_there()? {
            let content = parts::read(&part(config, &Silent)?)?;
            let config: Config = json(&layout.parts, &config.digest, &content)?;
            self.check_platform(&config)?;
            let (found, all) = (layers.len(), config.layers());
            if found < all {
                return Err(layout.refused(format!(
                    "has an image with {found} of its {all} layers; save it again with another version of the program"
                )));
            }
        }
        let (mut verified, mut seen) = (Vec::new(), HashSet::new());
        // All stay open while the image is made, and one of them twice.
        daxfs_files::make_room(layers.len());
        let forms = manifest.forms();
        let known = forms.iter().flatten();
        let mut are_changes = known.map(|form| *form == Form::Changes);
        let first = are_changes.next();
        if are_changes.any(|other| Some(other) != first) {
            let why = "has layers of a container beside files, which they would replace; make the artifact again without one of the two";
            return Err(layout.refused(why));
        }
        for (layer, form) in layers.iter().zip(forms) {
            let form = form.ok_or_else(|| {
                let (kind, remedy) = (&layer.media_type, layer.remedy());
                layout.refused(format!("has a layer of the type {kind}{remedy}"))
            })?;
            // An artifact may list a layer twice, which changes nothing.
            if form == Form::Changes || seen.insert((&layer.digest, form.clone())) {
                progress.step("verifying", layer.size);
                let blob = part(layer, progress)?;
                verified.push(Layer { blob, form });
            }
        }
        Ok(verified)
    }
}

/// Blobs of an image, lowest layer first.
pub struct Blobs {
    parts: Parts,
    blobs: Vec<Descriptor>,
}

impl Blobs {
    /// Returns the blobs of a type with these digests in containerd's content store, the directory
    /// `dir`.
    ///
    /// Fails if one is missing.
    pub fn of(dir: &Path, kind: &str, digests: &[String]) -> Result<Self> {
        let parts = Parts::of_content(dir);
        let find = |digest: &String| {
            let mut found = Descriptor::new(kind, digest);
            found.size = parts.get(&file(&parts, &found)?)?.size();
            Ok(found)
        };
        let blobs = digests.iter().map(find).collect::<Result<_>>()?;
        Ok(Blobs { parts, blobs })
    }

    /// Returns the file of the first blob in `digests` that is missing in the directory `dir`.
    pub fn missing(dir: &Path, digests: &[String]) -> Result<Option<PathBuf>> {
        let parts = Parts::of_content(dir);
        for digest in digests {
            let file = file(&parts, &Descriptor::new("", digest))?;
            if !parts.has(&file) {
                return Ok(Some(dir.join(file)));
            }
        }
        Ok(None)
    }

    /// Returns the size of each blob.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.blobs.iter().map(|it| it.size)
    }

    /// Writes blob `index`, counted from 0, to `to`. Returns its file and its size.
    ///
    /// Fails if it does not match its digest.
    pub fn copy(
        &self,
        number: usize,
        to: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, u64)> {
        let it = &self.blobs[number];
        progress.step("copying", it.size);
        let blob = blob(&self.parts, it, to, progress)?;
        Ok((blob.path, it.size))
    }
}

/// Splits a path from the name after it, unless a file with the whole name exists.
pub(super) fn reference(path: &Path) -> (&Path, Option<&str>) {
    let whole = path.as_os_str().as_bytes();
    let name = |at: usize| std::str::from_utf8(&whole[at + 1..]).ok();
    if path.exists() {
        return (path, None);
    }
    // The name may contain colons, as in example.org:5000/name:tag.
    for at in (0..whole.len()).filter(|&at| whole[at] == b':') {
        let start = Path::new(OsStr::from_bytes(&whole[..at]));
        if start.as_os_str() == "-" || start.exists() {
            return (start, name(at));
        }
    }
    (path, None)
}

/// An OCI layout from which to read one image.
struct Layout {
    parts: Parts,
    /// Images and indices in the outermost index.
    images: Vec<Descriptor>,
    platform: Option<Platform>,
}

impl Layout {
    fn refused(&self, why: impl Into<String>) -> Error {
        Error::refused(self.parts.path(), why.into())
    }

    /// Returns the images that `name` selects: by digest, even nested ones, or by all or part of a
    /// name.
    fn called(&self, name: &str) -> Vec<Descriptor> {
        let all = |fits: &dyn Fn(&Descriptor) -> bool| -> Vec<Descriptor> {
            self.images.iter().filter(|it| fits(it)).cloned().collect()
        };
        if types::parse(name).is_some() {
            let (mut pending, mut seen) = (self.images.clone(), HashSet::new());
            while let Some(descriptor) = pending.pop() {
                if descriptor.digest == name {
                    return vec![descriptor];
                }
                if descriptor.is_index() && seen.insert(descriptor.digest.clone()) {
                    // The layout may lack it.
                    let nested = self.describe::<Index>(&descriptor);
                    pending.extend(nested.map_or(Vec::new(), Index::images));
                }
            }
            return Vec::new();
        }
        let exact = all(&|it| it.name() == Some(name));
        if !exact.is_empty() {
            return exact;
        }
        let end = format!("/{name}");
        all(&|it| it.tag() == Some(name) || it.name().is_some_and(|it| it.ends_with(&end)))
    }

    /// Returns names that each select one of `images`.
    fn offer(&self, images: &[&Descriptor]) -> String {
        let name = |it: &&Descriptor| {
            let name = it.name().filter(|name| {
                let called = self.called(name);
                !called.is_empty() && called.iter().all(|other| other.digest == it.digest)
            });
            name.unwrap_or(&it.digest).to_owned()
        };
        images.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Returns the error for images that are for other platforms than the wanted one.
    fn unfit<'a>(&self, wanted: &Platform, platforms: impl Iterator<Item = &'a Platform>) -> Error {
        // A shell interprets parentheses.
        let quoted = |platform: &Platform| match platform.to_string() {
            text if text.contains('(') => format!("'{text}'"),
            text => text,
        };
        let all: Vec<_> = platforms.map(quoted).collect();
        match all.join(", ") {
            all if all.is_empty() => {
                self.refused("has an image that does not say its platform; leave out --platform")
            }
            all => self.refused(format!(
                "has no image for {wanted}; choose one with --platform: {all}"
            )),
        }
    }

    /// Returns the platforms of an image or index, except of missing parts. If `deep`,
    /// configurations provide the platforms that no index lists, as in containerd.
    fn platforms(&self, image: &Descriptor, deep: bool) -> Vec<Platform> {
        let (mut pending, mut seen, mut found) = (vec![image.clone()], HashSet::new(), Vec::new());
        while let Some(it) = pending.pop() {
            if let Some(known) = it.platform() {
                found.push(known.clone());
            } else if deep && seen.insert(it.digest.clone()) {
                if it.is_index() {
                    let nested = self
                        .describe::<Index>(&it)
                        .map_or(Vec::new(), Index::images);
                    pending.extend(unattached(&nested).into_iter().cloned());
                    continue;
                }
                let config = self.describe::<Manifest>(&it).map(|it| it.config);
                let config = config.ok().filter(|it| is_config(&it.media_type));
                let config = config.and_then(|it| self.describe::<Config>(&it).ok());
                found.extend(config.map(|it| it.platform).filter(Platform::is_known));
            }
        }
        found
    }

    /// Returns the selected image or index among `images`.
    fn choose<'a>(&self, images: &'a [Descriptor]) -> Result<&'a Descriptor> {
        // An image with several names has one entry per name.
        let mut seen = HashSet::new();
        let mut left = unattached(images);
        left.retain(|descriptor| seen.insert(&descriptor.digest));
        // A single image is chosen, unless it does not match the requested platform.
        if left.len() > usize::from(self.platform.is_none()) {
            let wanted = self.platform.clone().unwrap_or_else(Platform::here);
            // If names differ, they are a better choice than this machine's platform.
            let deep = self.platform.is_some() || left.iter().all(|it| it.name() == left[0].name());
            let known: Vec<_> = left.iter().map(|it| self.platforms(it, deep)).collect();
            let rank = |known: &Vec<_>| known.iter().filter_map(|is| wanted.rank(is)).max();
            if let best @ Some(_) = known.iter().map(rank).max().flatten() {
                let mut known = known.iter();
                left.retain(|_| known.next().and_then(rank) == best);
            } else if known.iter().all(|known| !known.is_empty()) {
                return Err(self.unfit(&wanted, known.iter().flatten()));
            }
        }
        match left[..] {
            [] => Err(self.refused("has no image; skopeo copy makes a layout with one")),
            [only] => Ok(only),
            _ => {
                let names = self.offer(&left);
                Err(self.refused(format!(
                    "has several images; name one after a colon: {names}"
                )))
            }
        }
    }

    /// Verifies and returns a part of `chosen`, which is a manifest among `images`.
    fn part(
        &self,
        images: &[Descriptor],
        chosen: &Descriptor,
        part: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<Blob> {
        if !self.parts.has(&file(&self.parts, part)?) {
            if let Some(error) = self.incomplete(images, chosen) {
                return Err(error);
            }
        }
        blob(&self.parts, part, &mut io::sink(), progress)
    }

    /// Returns the error for a missing part of `chosen`, if it is one of several platforms'
    /// `images`.
    fn incomplete(&self, images: &[Descriptor], chosen: &Descriptor) -> Option<Error> {
        let is_complete = |image: &&Descriptor| {
            let manifest = self.describe::<Manifest>(image);
            manifest.is_ok_and(|manifest| {
                let mut files = manifest.layers().iter().map(|it| file(&self.parts, it));
                files.all(|file| file.is_ok_and(|file| self.parts.has(&file)))
            })
        };
        let platform = chosen.platform()?;
        let complete = images.iter().filter(is_complete);
        let there: Vec<String> = complete
            .filter_map(|it| it.platform())
            .map(Platform::to_string)
            .collect();
        let (others, remedy) = match there.join(", ") {
            all if !all.is_empty() => (format!("has all for {all}"), "choose with --platform, or "),
            _ if unattached(images).len() > 1 => ("of all others".into(), ""),
            _ => return None,
        };
        Some(self.refused(format!(
            "lacks parts of the image for {platform}, and {others}; {remedy}save the image again for {platform}"
        )))
    }

    /// Returns the index or manifest that `descriptor` describes.
    fn describe<T: for<'de> Deserialize<'de>>(&self, descriptor: &Descriptor) -> Result<T> {
        let content = parts::read(&blob(&self.parts, descriptor, &mut io::sink(), &Silent)?)?;
        json(&self.parts, &descriptor.digest, &content)
    }
}

/// Returns `images` without attachments to others, so that an image with a signature still counts
/// as the only one.
fn unattached(images: &[Descriptor]) -> Vec<&Descriptor> {
    let all = || images.iter();
    if all().all(Descriptor::is_attached) {
        all().collect()
    } else {
        all().filter(|image| !image.is_attached()).collect()
    }
}

fn json<T: for<'de> Deserialize<'de>>(parts: &Parts, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("{name} is not understood: {error}");
        Error::refused(parts.path(), why)
    })
}

/// Returns the file that has a descriptor's blob.
fn file(parts: &Parts, descriptor: &Descriptor) -> Result<String> {
    let digest = &descriptor.digest;
    let parsed = types::parse(digest).ok_or_else(|| {
        let why = format!(
            "names a part '{digest}', which is not a SHA-256 or SHA-512 digest; copy the image with skopeo"
        );
        Error::refused(parts.path(), why)
    })?;
    let (kind, digits) = parsed;
    Ok(format!("blobs/{kind}/{digits}"))
}

/// Writes a descriptor's blob to `to`, and returns the blob if it matches its digest.
fn blob(
    parts: &Parts,
    descriptor: &Descriptor,
    to: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Blob> {
    let digest = &descriptor.digest;
    let blob = parts.get(&file(parts, descriptor)?)?;
    let wrong = |what| Error::refused(&blob.path, format!("{what}; {}", parts.remedy()));
    let (found, size) = (blob.size(), descriptor.size);
    if found != size {
        return Err(wrong(format!("has {found} bytes instead of {size}")));
    }
    let mut hash: Box<dyn DynDigest> = if digest.starts_with("sha512:") {
        Box::new(Sha512::default())
    } else {
        Box::new(Sha256::default())
    };
    let (mut buffer, mut at) = (vec![0; BUFFER], 0);
    loop {
        let length = blob.read_at(&mut buffer, at)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        let written = to.write_all(&buffer[..length]);
        written.map_err(|error| Error::output(&blob.path, "copy", error))?;
        progress.advance(length as u64);
        at += length as u64;
    }
    let found = daxfs_files::digest::hex(&hash.finalize());
    if !digest.ends_with(&format!(":{found}")) {
        return Err(wrong(format!("does not have its digest {digest}")));
    }
    Ok(blob)
}
