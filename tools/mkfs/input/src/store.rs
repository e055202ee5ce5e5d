// SPDX-License-Identifier: GPL-2.0-only

//! A store of container images as podman, CRI-O and buildah read it: an additional image store of
//! containers/storage with the driver overlay.
//!
//! <https://github.com/containers/storage> has no specification of it. This follows what its
//! version in Debian 13 writes:
//!
//! * `overlay/ID/diff` has the files of a layer, with overlayfs's marks; `link` a short name, by
//!   which `overlay/l` refers to it; `lower` the short names of the layers below, the nearest first
//! * `overlay-layers/layers.json` and `overlay-images/images.json` list layers and images;
//!   `overlay-images/ID` has an image's manifest and configuration
//! * the lock files are empty; readers take read locks on them

use crate::blob::Spool;
use crate::inputs::{chained_ids, finish, reference, Input, Options};
use crate::oci::{apart, is_time, whole, Whole};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use daxfs_check::Progress;
use daxfs_writer::build::Builder;
use daxfs_writer::origin::{Container, Origin};
use daxfs_writer::tree::{Attributes, Kind, Node, NodeId, Place, Tree, ROOT};
use daxfs_writer::{Error, Result};
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// When an image was made that does not say it.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Characters of short names of layers: more would make mount options too long.
const SHORT: usize = 26;

/// Return a store with the container images `inputs`. Layers that images share are in it once.
pub fn store(
    inputs: &[Input],
    options: &Options<'_>,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
) -> Result<Tree> {
    let mut store = Store::new(options.scratch)?;
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    for input in inputs {
        let Input::Oci(path) = input else {
            let why = "is not written oci:PATH; skopeo copies other container images to a layout";
            return Err(Error::refused(input.path(), why));
        };
        let (path, name) = reference(path);
        let (platform, scratch) = (options.platform, options.scratch);
        let mut image = whole(path, name, platform, scratch, progress)?;
        let shown = daxfs_writer::shown(input.path());
        match &image.name {
            None => warn(format!(
                "{shown}: the image has no name that podman understands; it has only an ID"
            )),
            // The name is from the layout, not from the user, so show it.
            Some(found) if image.named_itself => {
                warn(format!("{shown}: the image is called {found} in the store"));
            }
            Some(_) => (),
        }
        if let Some(name) = &image.name {
            if let Some(other) = names.insert(name.clone(), input.path()) {
                let why = format!(
                    "is called {name} as {} is; type another name after the colon",
                    daxfs_writer::shown(other)
                );
                return Err(Error::refused(input.path(), why));
            }
        }
        if let Some(time) = image.created.take_if(|time| !is_time(time)) {
            warn(format!(
                "{shown}: the image says that it was made at '{}', which is not a time of RFC 3339; \
                 the store says {EPOCH}",
                time.escape_debug()
            ));
        }
        store.add(image, options, progress, warn)?;
    }
    store.finish()
}

/// A store that is being built.
struct Store<'a> {
    builder: Builder,
    /// The content of small files.
    content: Spool<'a>,
    written: u64,
    overlay: NodeId,
    links: NodeId,
    images_directory: NodeId,
    layers: BTreeMap<String, Value>,
    images: BTreeMap<String, Value>,
}

impl<'a> Store<'a> {
    fn new(scratch: &'a Path) -> Result<Self> {
        let mut builder = Builder::new();
        let origins = &mut builder.tree.origins;
        origins.push(Origin::nothing(Path::new("the store")));
        builder.describe(ROOT, attributes(0o755), 0);
        let overlay = directory(&mut builder, ROOT, "overlay")?;
        let links = directory(&mut builder, overlay, "l")?;
        let images_directory = directory(&mut builder, ROOT, "overlay-images")?;
        Ok(Store {
            builder,
            content: Spool::new(scratch)?,
            written: 0,
            overlay,
            links,
            images_directory,
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
        })
    }

    /// Add an image and its new layers.
    fn add(
        &mut self,
        image: Whole,
        options: &Options<'_>,
        progress: &dyn Progress,
        warn: &mut dyn FnMut(String),
    ) -> Result<()> {
        let created = image.created.as_deref().unwrap_or(EPOCH);
        let mut layers = Vec::new();
        // podman gives the same IDs to layers that it pulls, so it finds those in the store.
        let diff_ids = image.layers.iter().map(|whole| whole.diff_id.digits());
        let ids = chained_ids(diff_ids, |below, diff_id| format!("{below}+{diff_id}"));
        for (number, whole) in image.layers.into_iter().enumerate() {
            let id = &ids[number];
            let mut entry = json!({
                "id": id,
                "created": created,
                "compressed-diff-digest": whole.digest,
                "compressed-size": whole.layer.blob.size(),
                "diff-digest": whole.diff_id.to_string(),
                "diff-size": whole.diff_size,
                "compression": compression(&whole.start),
            });
            if let Some(below) = number.checked_sub(1) {
                entry["parent"] = json!(ids[below]);
            }
            self.layers.entry(id.clone()).or_insert(entry);
            layers.push(whole.layer);
        }
        let done = |builder| finish(builder, options);
        let trees = apart(&layers, options.scratch, progress, warn, done)?;
        for (number, tree) in trees.into_iter().enumerate() {
            self.layer(&ids[..=number], tree)?;
        }
        let id = image.config_digest.digits().to_string();
        let manifest = format!("manifest-{}", image.digest);
        let config = image.config_digest.to_string();
        let parts = [
            ("manifest", &image.manifest, &image.digest),
            (&manifest, &image.manifest, &image.digest),
            (&config, &image.config, &config),
        ];
        if let Some(other) = self.images.get_mut(&id) {
            // The same image under another name.
            if let (Some(names), Some(name)) = (other["names"].as_array_mut(), image.name) {
                names.push(name.into());
            }
            return Ok(());
        }
        let parent = directory(&mut self.builder, self.images_directory, &id)?;
        let (mut sizes, mut digests) = (Map::new(), Map::new());
        for (key, content, digest) in parts {
            self.file(parent, &part_name(key), content)?;
            sizes.insert(key.into(), content.len().into());
            digests.insert(key.into(), digest.as_str().into());
        }
        let entry = json!({
            "id": id,
            "digest": image.digest,
            "names": Vec::from_iter(image.name),
            "layer": ids.last().cloned().unwrap_or_default(),
            "metadata": "{}",
            "big-data-names": ["manifest", manifest, config],
            "big-data-sizes": sizes,
            "big-data-digests": digests,
            "created": created,
        });
        self.images.insert(id, entry);
        Ok(())
    }

    /// Add the layer that is the last one of `ids`, the lowest first.
    fn layer(&mut self, ids: &[String], tree: Tree) -> Result<()> {
        let Some((id, below)) = ids.split_last() else {
            return Ok(());
        };
        if self.builder.find(self.overlay, id.as_bytes()).is_some() {
            return Ok(());
        }
        let parent = directory(&mut self.builder, self.overlay, id)?;
        self.builder.graft(parent, b"diff", tree)?;
        let link = short(id);
        self.file(parent, "link", link.as_bytes())?;
        if !below.is_empty() {
            let lower = below.iter().rev().map(|id| format!("l/{}", short(id)));
            let lower = lower.collect::<Vec<_>>().join(":");
            self.file(parent, "lower", lower.as_bytes())?;
        }
        let target = format!("../{id}/diff").into_bytes();
        let kind = Kind::Symlink(target.into());
        add(&mut self.builder, self.links, &link, 0o777, kind)?;
        Ok(())
    }

    fn finish(mut self) -> Result<Tree> {
        let layers = directory(&mut self.builder, ROOT, "overlay-layers")?;
        let list = |entries: &BTreeMap<String, Value>| -> Vec<u8> {
            let entries: Vec<_> = entries.values().cloned().collect();
            Value::from(entries).to_string().into_bytes()
        };
        let (images_list, layers_list) = (list(&self.images), list(&self.layers));
        self.file(layers, "layers.json", &layers_list)?;
        self.file(layers, "layers.lock", b"")?;
        self.file(self.images_directory, "images.json", &images_list)?;
        self.file(self.images_directory, "images.lock", b"")?;
        let content = Container::private(self.content.file);
        self.builder.tree.origins[0] = Origin::file(Path::new("the store"), content);
        Ok(self.builder.finish())
    }

    fn file(&mut self, parent: NodeId, name: &str, content: &[u8]) -> Result<()> {
        let at = self.written;
        let written = self.content.file.write_all_at(content, at);
        written.map_err(|error| {
            Error::output(Path::new("the store"), "write a temporary file", error)
        })?;
        self.written += content.len() as u64;
        let kind = Kind::Regular {
            size: content.len() as u64,
            place: Place::Part(at),
        };
        add(&mut self.builder, parent, name, 0o600, kind)?;
        Ok(())
    }
}

/// Attributes of files that no layer has. Set-id programs are in a directory for root only.
fn attributes(permissions: u16) -> Attributes {
    Attributes {
        permissions,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: 0,
    }
}

fn directory(builder: &mut Builder, parent: NodeId, name: &str) -> Result<NodeId> {
    add(builder, parent, name, 0o700, Kind::Directory(Vec::new()))
}

fn add(
    builder: &mut Builder,
    parent: NodeId,
    name: &str,
    permissions: u16,
    kind: Kind,
) -> Result<NodeId> {
    let name = builder.tree.keep_name(name.as_bytes());
    let id = builder.add(Node {
        attributes: attributes(permissions),
        parent,
        name,
        origin: 0,
        kind,
    })?;
    builder.set(parent, name, id);
    Ok(id)
}

/// Return the short name of the layer `id`, capital letters and digits.
fn short(id: &str) -> String {
    let hash = Sha256::digest(id);
    let digit = |byte: &u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte % 32)]);
    hash.iter().take(SHORT).map(digit).collect()
}

/// Return the name of the file with the part `key` of an image.
fn part_name(key: &str) -> String {
    let plain = |byte| matches!(byte, b'.' | b'0'..=b'9' | b'a'..=b'z');
    match key.bytes().all(plain) {
        true => key.into(),
        false => format!("={}", STANDARD.encode(key)),
    }
}

/// Return the number of a kind of compression.
fn compression(start: &[u8]) -> u32 {
    match start {
        [0x1f, 0x8b, ..] => 2,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => 4,
        _ => 0,
    }
}
