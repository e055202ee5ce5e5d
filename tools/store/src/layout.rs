// SPDX-License-Identifier: GPL-2.0-only

//! Images of stores in OCI layouts, as programs such as skopeo carry them to registries and back.
//!
//! Documentation/store.rst describes the manifest: its first layer is the image, and the others are its packs, in the
//! order of the image's table.

use crate::add::{may_be_good, Added, Guard, Total};
use crate::beside::Beside;
use crate::files::sync_parent;
use crate::pack::{packs, wrong_pack, Pack, PackRef};
use crate::store::{is_remains, missing_pack, Store};
use crate::verify::{sizes, whole, whole_image, whole_pack};
use daxfs_files::digest::{hex, BUFFER};
use daxfs_files::region::Region;
use daxfs_files::{Progress, Silent};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{cannot_open, open_now, Opened};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use mkdaxfs::input::{Blobs, OciImage, Options, Platform};
use rustix::fs::{flock, FlockOperation};
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Type of the artifact.
const ARTIFACT: &str = "application/vnd.daxfs.image.v1";
/// Type of its image. containerd takes what begins so for a layer, and hands it to the differ.
pub const IMAGE: &str = "application/vnd.oci.image.layer.v1.daxfs";
const PACK: &str = "application/vnd.daxfs.pack.v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The configuration of an artifact that has none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Annotation with the name of an image in a layout.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

/// Size limit of an index.
const DESCRIPTION: u64 = 16 << 20;

/// A layout in a directory.
pub(crate) struct Layout(pub PathBuf);

/// An image that was written to a layout.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Its SHA-256.
    pub sha256: String,
    /// Blobs that were written: the image, packs and descriptions.
    pub new: Total,
    /// Blobs that the layout had.
    pub known: Total,
}

/// An image of a store in a layout.
pub struct Exported {
    blobs: Blobs,
    /// The index says its platform.
    pub has_platform: bool,
}

impl Exported {
    /// Returns the image in the directory `dir`, which has a layout's `blobs`: the digests of the image and of its packs.
    ///
    /// Fails if one is missing.
    pub fn of(dir: &Path, digests: &[String]) -> Result<Self> {
        Ok(Exported {
            blobs: Blobs::of(dir, IMAGE, digests)?,
            has_platform: false,
        })
    }

    /// Waits for blobs of [`Exported::of`] that containerd fetches, as long as `still` succeeds.
    ///
    /// Fails if one is missing, and containerd fetches nothing.
    pub fn wait<E: From<Error>>(
        dir: &Path,
        digests: &[String],
        still: &dyn Fn() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while let Some(missing) = Blobs::missing(dir, digests).map_err(Error::from)? {
            still()?;
            if !is_fetched(dir) {
                let why = "is not there, and nothing was fetched for a minute; remove the container image, and pull it again";
                return Err(Error::refused(shown_path(&missing), why).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Returns the bytes of the image and of each of its packs.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.blobs.sizes()
    }

    /// Finds the image that `path` names, as [`OciImage::find`] does, in a directory.
    ///
    /// Returns `None` if it is of another kind.
    pub fn find(path: &Path, options: &Options<'_>) -> Result<Option<Self>> {
        let image = OciImage::find(path, options, &Silent, &mut |_| ())?;
        let is_image = image.types().next() == Some(IMAGE);
        Ok(is_image.then(|| Exported {
            has_platform: image.has_platform(),
            blobs: image.into_blobs(),
        }))
    }
}

impl Layout {
    /// Opens the layout, or makes it in a directory that is missing or empty. Returns the lock that keeps other
    /// exports out.
    fn create(&self) -> Result<File> {
        let dir = &self.0;
        let blobs = dir.join("blobs/sha256");
        let is_new = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        // A killed export may have left nothing else.
        if !is_new && !dir.join("blobs").is_dir() {
            let why = "is neither an OCI layout nor an empty directory; name another one";
            return Err(Error::refused(shown_path(dir), why));
        }
        let made = std::fs::create_dir_all(&blobs);
        made.map_err(|error| output(&blobs, "make the directory", error))?;
        let lock = File::open(dir).map_err(|error| output(dir, "open", error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let why = "another process exports to this layout; try again when it has ended";
            return Err(Error::refused(shown_path(dir), why));
        }
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
    fn index(&self) -> Result<Map<String, Value>> {
        let found = self.read(&self.0.join("index.json"))?;
        Ok(found.unwrap_or_else(|| Map::from_iter([("schemaVersion".into(), 2.into())])))
    }

    /// Returns the index in the file `path`, if there is one.
    pub fn read(&self, path: &Path) -> Result<Option<Map<String, Value>>> {
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

/// Writes an image to a layout.
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
        let sha256 = sha256(&mut from).map_err(failed)?;
        let size = from.stream_position().map_err(failed)?;
        let path = dir.join("blobs/sha256").join(&sha256);
        // Another program may have left a part of it.
        let is_whole = |found: Metadata| found.is_file() && found.len() == size;
        if path.symlink_metadata().is_ok_and(is_whole) {
            self.published.known.add(size);
        } else {
            from.rewind().map_err(failed)?;
            self.write(&path, from)?;
            self.published.new.add(size);
        }
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{sha256}"), "size": size }))
    }

    /// Adds the blob with this value.
    fn put_json(&mut self, kind: &str, value: &Value) -> Result<Value> {
        self.put(kind, Cursor::new(value.to_string()))
    }

    /// Writes a file, which appears when it is complete and durable.
    fn write(&self, path: &Path, mut from: impl Read) -> Result<()> {
        // It would be followed.
        if path.is_symlink() {
            std::fs::remove_file(path).map_err(|error| output(path, "remove", error))?;
        }
        let new = (self.create)(path)?;
        let copied = io::copy(&mut from, &mut new.file());
        copied.map_err(|error| output(path, "write", error))?;
        Ok(new.commit(&Silent)?)
    }
}

impl Store {
    /// Adds the image `name` to the layout in the directory `dir`, where it is called `reference`: blobs that the layout
    /// lacks, and then its name, which another image may have had. Calls `create` to make each file. With `container`, the
    /// name of a container image in the layout, containerd can run the image on the same `platform`, and that name offers
    /// both.
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
        let beside = match container {
            None => None,
            Some((container, platform)) => {
                self.lower_inodes(name)?;
                let found = Beside::find(&publisher.layout, &index, container, platform)?;
                Some((container, found))
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
        }
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST });
        manifest["config"] = match &beside {
            None => {
                manifest["artifactType"] = ARTIFACT.into();
                publisher.put(EMPTY, Cursor::new("{}"))?
            }
            Some((_, beside)) => publisher.put_json(CONFIG, &beside.config(&mut layers))?,
        };
        manifest["layers"] = layers.into();
        let manifest = publisher.put_json(MANIFEST, &manifest)?;
        if let Some((container, beside)) = beside {
            let (kind, both) = beside.index(&manifest);
            enter(&mut index, container, publisher.put_json(kind, &both)?);
        }
        enter(&mut index, reference, manifest);
        let version = dir.join("oci-layout");
        if !version.is_file() || version.is_symlink() {
            publisher.write(&version, &b"{\"imageLayoutVersion\":\"1.0.0\"}"[..])?;
        }
        let index = Value::from(index).to_string();
        publisher.write(&dir.join("index.json"), index.as_bytes())?;
        Ok(publisher.published)
    }

    /// Adds `exported`, an image of another store, as the image `name`, bit by bit, see [`Store::add`]. Packs that the
    /// store has are not read.
    ///
    /// Fails if the image or a new pack differs from its digests, or breaks a rule.
    pub fn import(
        &self,
        name: &str,
        exported: &Exported,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let path = self.new_image(name)?;
        self.changing(&path, || {
            self.import_parts(&path, name, exported, create, progress)
        })
    }

    fn import_parts(
        &self,
        path: &Path,
        name: &str,
        exported: &Exported,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let exported = &exported.blobs;
        let (file, written) = exported.copy(0, &mut io::sink(), progress)?;
        let image = Opened::open(&file)?;
        whole(&image, true, progress)?;
        let needs = packs(&image)?;
        let (found, all) = (exported.sizes().len() - 1, needs.len());
        if found != all {
            let why = format!("needs {all} packs, and its manifest has {found}; export it again");
            return Err(Error::refused(image.name, why));
        }
        let mut added = Added {
            sha256: hex(&image.superblock.sha256),
            new: Total::default(),
            known: Total::default(),
            packs: all,
            written,
        };
        let mut found = BTreeMap::new();
        for (needed, part) in needs.iter().zip(1..) {
            let (pack, total) = match self.trusted_pack(&needed.sha256) {
                Ok(pack) => (pack, &mut added.known),
                Err(error) if may_be_good(&error) => return Err(error),
                Err(error) => {
                    if self.pack(&needed.sha256).exists() {
                        warn(format_args!("{error}; it is replaced"));
                    }
                    let (pack, size) =
                        self.import_pack(needed, exported, part, create, progress)?;
                    added.written += size;
                    (pack, &mut added.new)
                }
            };
            for (_, object) in pack.objects() {
                total.add(object.size);
            }
            found.insert(needed.sha256.clone(), sizes(&pack));
        }
        first(|report| whole_image(&image, &found, progress, report))?;
        let output = create(path)?;
        exported.copy(0, &mut output.file(), progress)?;
        self.put_image(name, output, &added.sha256, needs, progress)?;
        Ok(added)
    }

    /// Adds the pack that is the layer `part`. Returns it with the bytes of that layer.
    fn import_pack(
        &self,
        needed: &PackRef,
        exported: &Blobs,
        part: usize,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<(Arc<Pack>, u64)> {
        let output = create(&self.pack("new"))?;
        let (path, size) = exported.copy(part, &mut output.file(), progress)?;
        let name = shown_path(&path);
        let file = output.file().try_clone();
        let file = file.map_err(|error| Error::system(&name, "cannot examine", "", error))?;
        let opened = Opened::of_source(Region::file(file, 0, size), name)?;
        if hex(&opened.superblock.sha256) != needed.sha256 {
            let why = format!("is not the pack {}; export the image again", needed.sha256);
            return Err(Error::refused(opened.name, why));
        }
        first(|report| whole_pack(opened, &needed.sha256, false, progress, report).map(drop))?;
        output.sync()?;
        let pack = self.put_pack(output, &needed.sha256, progress)?;
        Ok((pack, size))
    }
}

/// Returns the images in an index. Programs in Go write an empty list as null.
pub(crate) fn images(index: &Map<String, Value>) -> Vec<Value> {
    let images = index.get("manifests").and_then(Value::as_array);
    images.cloned().unwrap_or_default()
}

/// Returns whether containerd has written to its store of content in the directory `dir` in the last minute.
fn is_fetched(dir: &Path) -> bool {
    let found = std::fs::read_dir(dir.join("ingest")).into_iter().flatten();
    let files = found.filter_map(|entry| Some(entry.ok()?.path().join("data")));
    let age = |path: PathBuf| path.metadata().ok()?.modified().ok()?.elapsed().ok();
    let mut ages = files.chain([dir.join("blobs/sha256")]).filter_map(age);
    ages.any(|age| age < Duration::from_secs(60))
}

/// Enters `manifest` into an index as the image `name`, in place of another one.
fn enter(index: &mut Map<String, Value>, name: &str, mut manifest: Value) {
    manifest["annotations"] = json!({ NAME: name });
    let mut images = images(index);
    images.retain(|image| image["annotations"][NAME] != name);
    images.push(manifest);
    index.insert("manifests".into(), images.into());
}

/// Calls `check`, and returns the first error that it reports or returns.
fn first(check: impl FnOnce(&mut dyn FnMut(Error)) -> Result<()>) -> Result<()> {
    let mut found = None;
    let result = check(&mut |error| _ = found.get_or_insert(error));
    found.map_or(result, Err)
}

fn output(path: &Path, operation: &'static str, error: io::Error) -> Error {
    daxfs_files::Error::output(path, operation, error).into()
}

/// Returns the SHA-256 of all bytes of `from`.
fn sha256(mut from: impl Read) -> io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
