// SPDX-License-Identifier: GPL-2.0-only

//! A container image with its manifest and its configuration, as stores keep it.

use super::store::read;
use super::{
    blob, json, open, unpacked, Annotations, Config, Digest, Found, Layer, Platform, REF_NAME,
};
use daxfs_check::Progress;
use daxfs_writer::{Error, Result};
use regex::{Captures, Regex};
use std::path::Path;

/// Annotation of a manifest with the whole name of the image, by containerd.
const FULL_NAME: &str = "io.containerd.image.name";

/// A container image.
pub struct Whole {
    /// Its name with a registry and a tag, if it has one.
    pub name: Option<String>,
    /// The layout has chosen the whole name, not the user.
    pub named_itself: bool,
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

/// Verify an image in an OCI layout, also the archives in its layers, and return it.
pub fn whole(
    path: &Path,
    reference: Option<&str>,
    platform: &Platform,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Whole> {
    let found = Found::new(path, reference, platform, scratch, progress)?;
    let manifest = found.manifest()?;
    let Found { store, selected } = found;
    let config_digest = manifest.config.digest.clone();
    let config = read(&blob(&store, &manifest.config, progress)?)?;
    let mut parsed: Config = json(&store, config_digest.text(), &config)?;
    let created = parsed.created.take();
    let diff_ids = parsed.diff_ids(&store, manifest.layers.len())?;
    if let Some(id) = diff_ids.iter().find(|id| id.digits().len() != 64) {
        let why = format!("has the digest {id} for a layer; only sha256 is supported here");
        return Err(Error::refused(store.path(), why));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let layer = open(&store, descriptor, progress)?;
        let mut start = vec![0; 4];
        let length = layer.blob.read_at(&mut start, 0)?;
        start.truncate(length);
        layers.push(WholeLayer {
            diff_size: unpacked(&layer.blob, &diff_id, progress)?,
            digest: descriptor.digest.to_string(),
            layer,
            start,
            diff_id,
        });
    }
    Ok(Whole {
        named_itself: names_itself(&selected.annotations, reference),
        name: name(&selected.annotations, reference, path),
        manifest: selected.manifest,
        digest: selected.digest,
        config,
        config_digest,
        created,
        layers,
    })
}

/// Does the layout give the image a whole name, and the user none?
fn names_itself(annotations: &Annotations, typed: Option<&str>) -> bool {
    let known = |name| annotations.get(name).map(String::as_str);
    let found = known(FULL_NAME).or(known(REF_NAME));
    let whole = |name: Option<&str>| name.is_some_and(|name| name.contains('/'));
    whole(found) && !whole(typed)
}

/// Return the name of an image: with a registry, and with a tag. A whole name that the user typed
/// takes precedence over the layout's.
fn name(annotations: &Annotations, typed: Option<&str>, path: &Path) -> Option<String> {
    let known = |name| annotations.get(name).map(String::as_str);
    let typed = typed.filter(|name| name.contains('/'));
    let name = typed.or(known(FULL_NAME)).or(known(REF_NAME))?;
    let name = match name.contains('/') {
        true => name.to_string(),
        // A tag only: podman gives images of layouts the registry localhost, too.
        false => {
            let file = path.file_stem()?.to_str()?;
            format!("localhost/{}:{name}", file.to_ascii_lowercase())
        }
    };
    let found = matches(NAME, &name)?;
    let tag = found.get(2).map_or("latest", |tag| tag.as_str());
    (found[1].len() <= 255).then(|| format!("{}:{tag}", &found[1]))
}

/// A registry and a path, and perhaps a tag, by the grammar of the module distribution/reference.
/// podman reads no store with another name in it.
const NAME: &str =
    "^(LABEL(?:\\.LABEL)*(?::[0-9]+)?(?:/PART(?:(?:\\.|__?|-*)PART)*)+)(?::(\\w[\\w.-]{0,127}))?$";

/// A time of RFC 3339: its year, month and day, and the rest.
const TIME: &str = "^(\\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])T\
    (?:HOUR:[0-5]\\d):[0-5]\\d(?:\\.\\d+)?(?:Z|[+-]HOUR:[0-5]\\d)$";

/// Match `text` with a pattern, in which words in capitals stand for others.
fn matches<'t>(pattern: &str, text: &'t str) -> Option<Captures<'t>> {
    let pattern = pattern
        .replace("LABEL", "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
        .replace("PART", "[a-z0-9]+")
        .replace("HOUR", "(?:[01]\\d|2[0-3])");
    Regex::new(&format!("(?-u){pattern}")).ok()?.captures(text)
}

/// Is `text` a time as RFC 3339 writes it? Programs in Go read no list with another one in it.
pub fn is_time(text: &str) -> bool {
    let Some(found) = matches(TIME, text) else {
        return false;
    };
    let [year, month, day] = [1, 2, 3].map(|group| found[group].parse().unwrap_or(0_u32));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    day <= match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |annotation: &str, value: &str| {
            let annotations = Annotations::from([(annotation.into(), value.into())]);
            super::name(&annotations, None, Path::new("/srv/Layout.tar"))
        };
        let some = |name: &str| Some(String::from(name));
        assert_eq!(name(REF_NAME, "1"), some("localhost/layout:1"));
        assert_eq!(name(REF_NAME, "a.b:5/c"), some("a.b:5/c:latest"));
        assert_eq!(name(FULL_NAME, "a.b/c/d:1"), some("a.b/c/d:1"));
        assert_eq!(name("other", "1"), None);
        for wrong in [
            "a b",
            "A/B:1",
            "a.b/C:1",
            "a.b/:1",
            "a.b/c:",
            "a.b//c:1",
            "-a/b:1",
            "a.b/c..d:1",
            "a:x/b:1",
            "a.b/c:-1",
            "a.b/c___d:1",
            "a.b/-c:1",
        ] {
            assert_eq!(name(REF_NAME, wrong), None, "{wrong}");
        }
        assert_eq!(
            name(REF_NAME, "A.b:5/c__d/e--f.g_h:X"),
            some("A.b:5/c__d/e--f.g_h:X")
        );
        // The user's name.
        let annotations = Annotations::from([(FULL_NAME.into(), "other.org/b:1".into())]);
        let typed = |typed| super::name(&annotations, Some(typed), Path::new("layout"));
        assert_eq!(typed("example.org/a:2"), some("example.org/a:2"));
        assert_eq!(typed("2"), some("other.org/b:1"));
    }

    #[test]
    fn times() {
        for right in [
            "2024-02-29T23:59:59Z",
            "0001-01-01T00:00:00.5+01:00",
            "2026-11-21T10:00:00.123456789Z",
        ] {
            assert!(is_time(right), "{right}");
        }
        for wrong in [
            "",
            "yesterday",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-00T00:00:00Z",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Zé",
            "2024-01-01T00:00:00+00:60",
        ] {
            assert!(!is_time(wrong), "{wrong}");
        }
    }
}
