// SPDX-License-Identifier: GPL-2.0-only

//! Writes images of a store to an OCI layout.
//!
//! Documentation/store.rst describes the manifest: a container image's, whose first layer is the
//! image, and whose other layers are its packs, in the order of the image's table.

use crate::add::{Guard, Total};
use crate::layout::{enter, output, Layout, IMAGE};
use crate::pack::wrong_pack;
use crate::store::Store;
use daxfs_files::digest::{self, hex, BUFFER};
use daxfs_files::{Progress, Silent};
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::missing_pack;
use daxfs_image::source::{cannot_open, Opened};
use daxfs_image::text::shown_path;
use mkdaxfs::input::Platform;
use serde_json::{json, Value};
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek, Write};
use std::iter;
use std::path::Path;

/// Annotation of an image with its packs' digests, which a differ cannot learn otherwise.
pub const PACKS: &str = "org.daxfs.packs";
const PACK: &str = "application/vnd.daxfs.pack.v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image written to a layout.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Its SHA-256.
    pub sha256: String,
    /// Blobs written: the image, packs and descriptions.
    pub new: Total,
    /// Blobs already in the layout.
    pub known: Total,
}

struct Publisher<'a> {
    layout: Layout,
    create: Guard<'a>,
    published: Published,
}

impl Publisher<'_> {
    /// Adds the blob with these bytes, unless the layout has it. Returns its descriptor.
    fn put(&mut self, kind: &str, mut from: impl Read + Seek) -> Result<Value> {
        let dir = &self.layout.0;
        let failed = |error| output(dir, "copy to the layout", error);
        let sha256 = copy(&mut from, io::sink()).map_err(failed)?;
        let size = from.stream_position().map_err(failed)?;
        let path = dir.join("blobs/sha256").join(&sha256);
        // Another program may have left part of the blob.
        let is_whole = |found: Metadata| found.is_file() && found.len() == size;
        if path.symlink_metadata().is_ok_and(is_whole) {
            self.published.known.add(size);
        } else {
            from.rewind().map_err(failed)?;
            self.write(&path, from, Some(&sha256))?;
            self.published.new.add(size);
        }
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{sha256}"), "size": size }))
    }

    fn put_json(&mut self, kind: &str, value: &Value) -> Result<Value> {
        self.put(kind, Cursor::new(value.to_string()))
    }

    /// Writes a file, which appears once complete and durable, and whose SHA-256 must be `sha256`.
    fn write(&self, path: &Path, from: impl Read, sha256: Option<&str>) -> Result<()> {
        // A symlink would be followed.
        if path.is_symlink() {
            std::fs::remove_file(path).map_err(|error| output(path, "remove", error))?;
        }
        let new = (self.create)(path)?;
        let copied = copy(from, &mut new.file()).map_err(|error| output(path, "write", error))?;
        if sha256.is_some_and(|sha256| sha256 != copied) {
            let why = "another program changed the source meanwhile; try again";
            return Err(Error::refused(shown_path(path), why));
        }
        Ok(new.commit(&Silent)?)
    }
}

impl Store {
    /// Adds the image `name` to the layout in the directory `dir` as `reference`: blobs that the
    /// layout lacks, and then the reference, which may replace another. Calls `create` for each
    /// file. Copies the configuration of `container`, an image in the layout, for `platform`, or
    /// else writes one that has only this machine's platform.
    ///
    /// Fails if the image or a pack is damaged or missing.
    pub fn export(
        &self,
        name: &str,
        dir: &Path,
        reference: &str,
        container: Option<(&str, Option<Platform>)>,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Published> {
        let (image, needed) = self.needs_of(name)?;
        let mut publisher = Publisher {
            layout: Layout(dir.into()),
            create,
            published: Published {
                sha256: image.clone(),
                new: Total::default(),
                known: Total::default(),
            },
        };
        if container.is_some() && !dir.join("index.json").exists() {
            let why = "is not an OCI layout with a container image; copy one to it, with skopeo";
            return Err(Error::refused(shown_path(dir), why));
        }
        let _lock = publisher.layout.create()?;
        let mut index = publisher.layout.index()?;
        let mut config = match container {
            None => json!({ "os": "linux", "architecture": Platform::here().architecture }),
            Some((container, platform)) => {
                self.lower_inodes(name)?;
                publisher.layout.config(container, platform)?
            }
        };
        let needed = needed.into_iter().map(|pack| pack.sha256);
        let packs = needed.map(|sha256| (PACK, self.pack(&sha256), sha256));
        let mut layers = Vec::new();
        for (kind, path, sha256) in iter::once((IMAGE, self.image(name)?, image)).chain(packs) {
            if !path.exists() {
                return Err(missing_pack(name, &sha256));
            }
            let opened = Opened::open(&path)?;
            if hex(&opened.superblock.sha256) != sha256 {
                return Err(wrong_pack(opened.name));
            }
            progress.step("reading", opened.superblock.total_size);
            opened.verify(progress)?;
            let file = File::open(&path).map_err(|error| cannot_open(&opened.name, error))?;
            layers.push(publisher.put(kind, file)?);
            opened.reader().check_replaced()?;
        }
        let packs = layers[1..]
            .iter()
            .filter_map(|pack| pack["digest"].as_str());
        let packs = packs.collect::<Vec<_>>().join(",");
        layers[0]["annotations"] = json!({ PACKS: packs });
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [layers[0]["digest"]] });
        let config = publisher.put_json(CONFIG, &config)?;
        let manifest = publisher.put_json(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }),
        )?;
        enter(&mut index, reference, manifest);
        let version = dir.join("oci-layout");
        if !version.is_file() || version.is_symlink() {
            publisher.write(&version, &b"{\"imageLayoutVersion\":\"1.0.0\"}"[..], None)?;
        }
        let index = Value::from(index).to_string();
        publisher.write(&dir.join("index.json"), index.as_bytes(), None)?;
        Ok(publisher.published)
    }
}

/// Copies all bytes of `from`, and returns their SHA-256.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<String> {
    let mut buffer = vec![0; BUFFER];
    let sum = digest::sha256(|add| loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                add(&buffer[..length]);
                to.write_all(&buffer[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    });
    Ok(hex(&sum?))
}
