// SPDX-License-Identifier: GPL-2.0-only

//! A container image with its manifest and its configuration, as stores keep it.

use super::store::read;
use super::{blob, json, open, unpacked, Config, Found, Layer, Platform, REF_NAME};
use daxfs_check::Progress;
use daxfs_writer::{Error, Result};
use oci_spec::image::Digest;
use std::collections::HashMap;
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
    let config_digest = manifest.config().digest().clone();
    let config = read(&blob(&store, manifest.config(), progress)?)?;
    let mut parsed: Config = json(&store, config_digest.as_ref(), &config)?;
    let created = parsed.created.take();
    let diff_ids = parsed.diff_ids(&store, manifest.layers().len())?;
    if let Some(id) = diff_ids.iter().find(|id| id.digest().len() != 64) {
        let why = format!("has the digest {id} for a layer; only sha256 is supported here");
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
fn names_itself(annotations: &HashMap<String, String>, typed: Option<&str>) -> bool {
    let known = |name| annotations.get(name).map(String::as_str);
    let found = known(FULL_NAME).or(known(REF_NAME));
    let whole = |name: Option<&str>| name.is_some_and(|name| name.contains('/'));
    whole(found) && !whole(typed)
}

/// Return the name of an image: with a registry, and with a tag. A whole name that the user typed
/// takes precedence over the layout's.
fn name(annotations: &HashMap<String, String>, typed: Option<&str>, path: &Path) -> Option<String> {
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
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (&name[..], "latest"),
    };
    (is_repository(repository) && is_tag(tag)).then(|| format!("{repository}:{tag}"))
}

/// Is `name` a registry and a path, by the grammar of the module distribution/reference? podman
/// reads no store with another name in it.
fn is_repository(name: &str) -> bool {
    let Some((first, rest)) = name.split_once('/') else {
        return false;
    };
    let (host, port) = first.split_once(':').unwrap_or((first, "0"));
    let label = |label: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let dashes = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !dashes && label.bytes().all(valid)
    };
    let host = host.split('.').all(label);
    let port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host && port && name.len() <= 255 && rest.split('/').all(is_component)
}

/// Is `text` a part of a path: small letters and digits, with a dot, one or two underscores or any
/// number of dashes between them?
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&byte| plain(byte));
    let between = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    ends(text.as_bytes().first()) && ends(text.as_bytes().last()) && between.clone().all(separator)
}

fn is_tag(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let start = !text.starts_with(['.', '-']) && !text.is_empty();
    start && text.len() <= 128 && text.chars().all(valid)
}

/// Is `text` a time as RFC 3339 writes it? Programs in Go read no list with another one in it.
pub fn is_time(text: &str) -> bool {
    let digits = |text: &str, from: usize, to: usize| -> Option<u32> {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let number = |from, to| digits(text, from, to);
    let at = |index: usize| text.as_bytes().get(index).copied();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let fields = || -> Option<bool> {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        let clock = number(11, 13)? < 24 && number(14, 16)? < 60 && number(17, 19)? < 60;
        Some((1..=days).contains(&day) && clock)
    };
    let zone = |mut rest: &str| -> Option<bool> {
        if let Some(fraction) = rest.strip_prefix('.') {
            rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == fraction.len() {
                return None;
            }
        }
        if rest == "Z" {
            return Some(true);
        }
        let bytes = rest.as_bytes();
        let form = bytes.len() == 6 && matches!(bytes[0], b'+' | b'-') && bytes[3] == b':';
        Some(form && digits(rest, 1, 3)? < 24 && digits(rest, 4, 6)? < 60)
    };
    marks.iter().all(|&(index, mark)| at(index) == Some(mark))
        && fields() == Some(true)
        && text.get(19..).and_then(zone) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |annotation: &str, value: &str| {
            let annotations = HashMap::from([(annotation.into(), value.into())]);
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
        let annotations = HashMap::from([(FULL_NAME.into(), "other.org/b:1".into())]);
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
