// SPDX-License-Identifier: GPL-2.0-only

//! OCI layouts, as programs such as skopeo copy them to and from registries.

use crate::files::{occupy, sync_parent};
use crate::store::is_remains;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::open_now;
use daxfs_image::text::shown_path;
use mkdaxfs::input::{OciImage, Options, Platform};
use serde_json::{json, Map, Value};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Type of an image. containerd treats types with this prefix as layers, and calls the differ.
pub const IMAGE: &str = "application/vnd.oci.image.layer.v1.daxfs";
/// Annotation with the name of an image in a layout.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

const DESCRIPTION: u64 = 16 << 20;

/// A layout in a directory.
pub(crate) struct Layout(pub PathBuf);

impl Layout {
    /// Opens the layout, or creates it in a missing or empty directory. Returns the lock that
    /// excludes other exports.
    pub fn create(&self) -> Result<File> {
        let dir = &self.0;
        let blobs = dir.join("blobs/sha256");
        let is_new = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        // A killed export may have left only this.
        if !is_new && !dir.join("blobs").is_dir() {
            let why = "is neither an OCI layout nor an empty directory; name another one";
            return Err(Error::refused(shown_path(dir), why));
        }
        let made = std::fs::create_dir_all(&blobs);
        made.map_err(|error| output(&blobs, "make the directory", error))?;
        let lock = File::open(dir).map_err(|error| output(dir, "open", error))?;
        occupy(dir, &lock, false, "exports to this layout")?;
        for dir in [&blobs, &dir.join("blobs"), dir] {
            sync_parent(dir).map_err(|error| output(dir, "sync the directory above", error))?;
        }
        for dir in [dir, &blobs] {
            let entries = std::fs::read_dir(dir).map_err(|error| output(dir, "read", error))?;
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            for path in paths.filter(|path| is_remains(path)) {
                std::fs::remove_file(&path).map_err(|error| output(&path, "remove", error))?;
            }
        }
        Ok(lock)
    }

    /// Returns the index, or a new one.
    pub fn index(&self) -> Result<Map<String, Value>> {
        let found = self.read(&self.0.join("index.json"))?;
        Ok(found.unwrap_or_else(|| Map::from_iter([("schemaVersion".into(), 2.into())])))
    }

    /// Returns the configuration of the container image `name` for `platform`, or for this machine.
    ///
    /// Fails if it is not a container image, or if it is one for daxfs.
    pub fn config(&self, name: &str, platform: Option<Platform>) -> Result<Value> {
        let options = Options {
            platform,
            ..Options::new(&self.0)
        };
        let mut path = self.0.clone().into_os_string();
        path.push(format!(":{name}"));
        let container = OciImage::find(Path::new(&path), &options)?;
        if container.types().next() == Some(IMAGE) {
            let why = "is an image for daxfs; name the ordinary image that it was made of";
            return Err(Error::refused(shown_path(&self.0), format!("{name} {why}")));
        }
        let mut config = container.config()?;
        config.remove("history");
        Ok(config.into())
    }

    /// Returns the index in the file `path`, if any.
    fn read(&self, path: &Path) -> Result<Option<Map<String, Value>>> {
        let mut text = Vec::new();
        let read = open_now(path).and_then(|file| file.take(DESCRIPTION).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => _ = read.map_err(|error| output(path, "read", error))?,
        }
        serde_json::from_slice(&text).map_err(|error| {
            let why = format!("is not understood ({error}); name another directory");
            Error::refused(shown_path(path), why)
        })
    }
}

/// Enters `manifest` into an index as the image `name`, replacing a previous one.
pub(crate) fn enter(index: &mut Map<String, Value>, name: &str, mut manifest: Value) {
    manifest["annotations"] = json!({ NAME: name });
    // Go programs write an empty list as null.
    let images = index.get("manifests").and_then(Value::as_array);
    let mut images = images.cloned().unwrap_or_default();
    images.retain(|image| image["annotations"][NAME] != name);
    images.push(manifest);
    index.insert("manifests".into(), images.into());
}

/// Returns the error for an operation on a layout's file.
pub(crate) fn output(path: &Path, operation: &'static str, error: io::Error) -> Error {
    daxfs_files::Error::output(path, operation, error).into()
}
