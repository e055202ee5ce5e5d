// SPDX-License-Identifier: GPL-2.0-only

//! Images for daxfs that a layout's index offers beside a container image.

use crate::layout::{images, Layout, IMAGE, NAME};
use daxfs_files::digest::is_hex;
use daxfs_files::Silent;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use mkdaxfs::input::{OciImage, Options, Platform};
use serde_json::{json, Map, Value};
use std::path::Path;

/// Annotation of an image with the digests of its packs; containerd tells a differ nothing else of
/// them.
pub const PACKS: &str = "org.daxfs.packs";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A container image of a layout.
pub(crate) struct Beside {
    config: Map<String, Value>,
    /// Its platform, from the configuration.
    platform: Map<String, Value>,
    /// All images of its name.
    images: Vec<Value>,
}

impl Beside {
    /// Finds the image for `platform`, or for this machine, among those that are called `name` in `index`.
    ///
    /// Fails if it is not a container image, or one for daxfs.
    pub fn find(
        layout: &Layout,
        index: &Map<String, Value>,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Self> {
        let refused = |why: String| Error::refused(shown_path(&layout.0), why);
        let options = Options {
            platform,
            ..Options::new(&layout.0)
        };
        let mut path = layout.0.clone().into_os_string();
        path.push(format!(":{name}"));
        let container = OciImage::find(Path::new(&path), &options, &Silent, &mut |_| ())?;
        if container.types().next() == Some(IMAGE) {
            let why = "is an image for daxfs; name the ordinary image that it was made of";
            return Err(refused(format!("{name} {why}")));
        }
        let config = container.config()?;
        let fields = ["os", "architecture", "variant"].into_iter();
        let fields = fields.filter_map(|field| Some((field.into(), config.get(field)?.clone())));
        let platform: Map<String, Value> = fields.collect();
        let mut found = Vec::new();
        let named = images(index).into_iter();
        for mut image in named.filter(|image| image["annotations"][NAME] == name) {
            let digest = image["digest"].as_str().unwrap_or_default();
            if image["mediaType"] == INDEX {
                let digits = digest.strip_prefix("sha256:").filter(|it| is_hex(it, 32));
                let path = layout
                    .0
                    .join("blobs/sha256")
                    .join(digits.unwrap_or_default());
                found.extend(images(&layout.read(&path)?.unwrap_or_default()));
                continue;
            }
            if digest == container.digest() {
                image["platform"] = platform.clone().into();
            }
            if let Some(annotations) = image["annotations"].as_object_mut() {
                annotations.remove(NAME);
            }
            found.push(image);
        }
        if !found
            .iter()
            .any(|image| image["digest"] == container.digest())
        {
            let why = "is not the whole name of an image, or of an index that has it; copy the image to the layout again, with skopeo";
            return Err(refused(format!("{name} {why}")));
        }
        Ok(Beside {
            config,
            platform,
            images: found,
        })
    }

    /// Returns the configuration for the image of `layers`: itself and its packs. Adds the annotation with these.
    pub fn config(&self, layers: &mut [Value]) -> Value {
        let packs = layers[1..]
            .iter()
            .filter_map(|pack| pack["digest"].as_str());
        let packs = packs.collect::<Vec<_>>().join(",");
        layers[0]["annotations"] = json!({ PACKS: packs });
        let mut config = self.config.clone();
        config.remove("history");
        let rootfs = json!({ "type": "layers", "diff_ids": [layers[0]["digest"]] });
        config.insert("rootfs".into(), rootfs);
        config.into()
    }

    /// Returns the type and the content of an index of all images, and of `manifest` for the same platform with daxfs.
    pub fn index(mut self, manifest: &Value) -> (&'static str, Value) {
        let features = json!(["daxfs"]);
        self.platform.insert("os.features".into(), features);
        let mut manifest = manifest.clone();
        manifest["platform"] = self.platform.into();
        // An earlier export.
        let is_other = |image: &Value| image["platform"] != manifest["platform"];
        self.images.retain(is_other);
        self.images.push(manifest);
        let images = self.images;
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": images });
        (INDEX, index)
    }
}
