// SPDX-License-Identifier: GPL-2.0-only

//! An OCI image layout: a directory of blobs, and an index of manifests.

use crate::manifest::{Descriptor, ARTIFACT, REF_NAME};
use crate::reference::Reference;
use daxfs_check::digest::{hex, is_hex};
use daxfs_command::signals::Interrupt;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{cannot_open, open_now};
use daxfs_image::text::shown_path;
use daxfs_writer::{parent_of, replace};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Longest index or manifest, in bytes, as registries limit it.
const DESCRIPTION: u64 = 4 << 20;

/// The file that tells a layout from other directories.
const MARK: &str = "oci-layout";

/// The manifests of a layout.
const INDEX: &str = "index.json";

/// Prefix and suffix of the names of temporary files.
const PREFIX: &str = ".daxfs-";
const SUFFIX: &str = ".tmp";

/// Time between two attempts to lock a layout.
const WAIT: Duration = Duration::from_millis(100);

/// An image layout.
pub struct Layout<'a> {
    reference: &'a Reference,
    path: &'a Path,
}

impl<'a> Layout<'a> {
    /// Open the layout of `reference`.
    pub fn open(reference: &'a Reference) -> Result<Self> {
        let path = &reference.directory;
        let layout = Layout { reference, path };
        let mark: Value = layout.description(MARK)?;
        match mark["imageLayoutVersion"].as_str() {
            Some("1.0.0") => Ok(layout),
            version => Err(layout.refuse(format!(
                "has the version {} of the image layout, 1.0.0 is supported",
                version.unwrap_or("(none)").escape_debug()
            ))),
        }
    }

    /// Open the layout of `reference`. Make an empty one if the directory is empty or does not
    /// exist.
    pub fn create(reference: &'a Reference, interrupt: &Interrupt) -> Result<Self> {
        let path = &reference.directory;
        let failed = |operation: &'static str| {
            move |error| Error::system(shown_path(path), operation, "", error)
        };
        let layout = Layout { reference, path };
        if !path.join(MARK).exists() {
            fs::create_dir_all(path).map_err(failed("cannot create the directory"))?;
            let _lock = layout.lock(interrupt)?;
            // Another program may have made it before it gave the lock away.
            if !path.join(MARK).exists() {
                layout.initialize()?;
            }
        }
        let blobs = path.join("blobs/sha256");
        if !blobs.is_dir() {
            fs::create_dir_all(&blobs).map_err(failed("cannot create blobs/sha256"))?;
            sync(&path.join("blobs"))?;
            sync(path)?;
        }
        Layout::open(reference)
    }

    /// Make an empty layout. Use the remains of an interrupted call.
    fn initialize(&self) -> Result<()> {
        let failed = |error| Error::system(shown_path(self.path), "cannot list", "", error);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": []
        });
        for entry in fs::read_dir(self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let own = match name.to_str() {
                Some(INDEX) => self
                    .description::<Value>(INDEX)
                    .is_ok_and(|old| old == index),
                Some(name) => name.starts_with(PREFIX) && name.ends_with(SUFFIX),
                None => false,
            };
            if !own {
                let why = "is neither empty nor an OCI layout; name another directory";
                return Err(Error::refused(shown_path(self.path), why));
            }
        }
        self.replace(INDEX, &index)?;
        // With this file the layout is complete.
        self.replace(MARK, &json!({ "imageLayoutVersion": "1.0.0" }))
    }

    /// Wait for the lock of the layout. umoci takes the same one.
    fn lock(&self, interrupt: &Interrupt) -> Result<File> {
        let directory = File::open(self.path);
        let directory = directory.map_err(|error| cannot_open(&shown_path(self.path), error))?;
        let mut told = false;
        loop {
            interrupt.check()?;
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(directory),
                Err(Errno::WOULDBLOCK) => (),
                Err(error) => {
                    let name = shown_path(self.path);
                    return Err(Error::system(name, "cannot lock", "", error));
                }
            }
            if !told {
                eprintln!(
                    "daxfs: {}: waiting for another program that has locked it",
                    shown_path(self.path)
                );
                told = true;
            }
            std::thread::sleep(WAIT);
        }
    }

    /// Return the name of the artifact in messages.
    pub fn name(&self) -> &str {
        &self.reference.text
    }

    /// Create an error about the artifact.
    pub fn refuse(&self, why: impl Into<String>) -> Error {
        self.reference.refuse(why)
    }

    /// Find the manifest that the reference names, or the only one.
    pub fn manifest(&self) -> Result<Descriptor> {
        let mut found = self.manifests()?;
        let names: Vec<_> = found.iter().map(label).collect();
        let names = names.join(", ");
        if let Some(name) = &self.reference.name {
            // A digest always names the manifest.
            let digest = is_digest(name);
            found.retain(|manifest| match digest {
                true => manifest.digest == *name,
                false => manifest.annotation(REF_NAME) == Some(name),
            });
        }
        // One manifest may have several names.
        let mut seen = BTreeSet::new();
        found.retain(|manifest| seen.insert(manifest.digest.clone()));
        match (found.len(), &self.reference.name) {
            (1, _) => Ok(found.remove(0)),
            (0, Some(name)) => Err(self.refuse(format!(
                "the layout has no '{}'; it has: {names}",
                name.escape_debug()
            ))),
            (0, None) => Err(self.refuse("the layout is empty")),
            // Two manifests of the same name are an error of another program.
            _ => Err(self.refuse(format!(
                "there are several; name one after a colon, by its digest if need be: {names}"
            ))),
        }
    }

    /// Find the manifest `name` of the same layout.
    pub fn other(&self, name: &str) -> Result<Descriptor> {
        let reference = Reference {
            text: format!("oci:{}:{name}", shown_path(self.path)),
            directory: self.path.into(),
            name: Some(name.into()),
        };
        let mut found = Layout::open(&reference)?.manifest()?;
        found.annotations.clear();
        Ok(found)
    }

    fn manifests(&self) -> Result<Vec<Descriptor>> {
        #[derive(serde::Deserialize)]
        struct Index {
            #[serde(default)]
            manifests: Vec<Descriptor>,
        }
        let index: Index = self.description(INDEX)?;
        Ok(index.manifests)
    }

    /// Return the path of the blob `digest`.
    fn path_of(&self, digest: &str) -> Result<PathBuf> {
        let hex = digest.strip_prefix("sha256:");
        match hex.filter(|_| is_digest(digest)) {
            Some(hex) => Ok(self.path.join("blobs/sha256").join(hex)),
            None => Err(self.refuse(format!(
                "'{}' is not a SHA-256 digest, the only supported kind",
                digest.escape_debug()
            ))),
        }
    }

    /// Open the blob of `descriptor`, whose size it must have.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<File> {
        let path = self.path_of(&descriptor.digest)?;
        let name = shown_path(&path);
        let file = open_now(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => self.refuse(format!(
                "has no blob {}; copy the whole layout again",
                descriptor.digest
            )),
            _ => cannot_open(&name, error),
        })?;
        let status = file.metadata();
        let status = status.map_err(|error| Error::system(&name, "cannot examine", "", error))?;
        if !status.is_file() {
            return Err(Error::refused(name, "is not a regular file"));
        }
        if status.len() != descriptor.size {
            return Err(self.refuse(format!(
                "the blob {} ends at byte {} instead of {}; copy it again",
                descriptor.digest,
                status.len(),
                descriptor.size
            )));
        }
        Ok(file)
    }

    /// Read a manifest, and compare it with its digest.
    pub fn read<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T> {
        let file = self.blob(descriptor)?;
        let bytes = self.limited(file, &descriptor.digest)?;
        if sha256(&bytes) != descriptor.digest {
            return Err(self.refuse(format!(
                "the blob {} is damaged, it has the digest {}; copy it again",
                descriptor.digest,
                sha256(&bytes)
            )));
        }
        self.parse(&bytes, &descriptor.digest)
    }

    /// Read a file of the layout in JSON.
    fn description<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        let path = self.path.join(file);
        let name = shown_path(&path);
        let opened = open_now(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => self.refuse(format!(
                "{} is not an OCI layout: {file} is missing; check the directory",
                shown_path(self.path)
            )),
            _ => cannot_open(&name, error),
        })?;
        self.parse(&self.limited(opened, file)?, file)
    }

    fn limited(&self, file: File, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.take(DESCRIPTION + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::system(&self.reference.text, "cannot read", "", error))?;
        if bytes.len() as u64 > DESCRIPTION {
            return Err(self.refuse(format!("{name} has more than {DESCRIPTION} bytes")));
        }
        Ok(bytes)
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8], name: &str) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|error| self.refuse(format!("{name} is not understood: {error}")))
    }

    /// Create a temporary file in the layout, for those who may read the index. It is removed
    /// unless it becomes a blob.
    pub fn temporary(&self) -> Result<NamedTempFile> {
        temporary(&self.path.join(INDEX))
    }

    /// Make `file`, whose digest is `digest`, a blob.
    pub fn add(&self, file: NamedTempFile, digest: &str) -> Result<()> {
        self.keep(file, &self.path_of(digest)?)
    }

    /// Make `bytes` a blob. Return its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<String> {
        let digest = sha256(bytes);
        let mut file = self.temporary()?;
        file.write_all(bytes)
            .map_err(|error| Error::system(shown_path(self.path), "cannot write", "", error))?;
        self.add(file, &digest)?;
        Ok(digest)
    }

    /// Refuse to replace an entry with the name of the reference that is not an artifact of daxfs.
    pub fn replaceable(&self) -> Result<()> {
        let Some(name) = &self.reference.name else {
            return Ok(());
        };
        for old in self.manifests()? {
            if old.annotation(REF_NAME) != Some(name) || self.is_artifact(&old) {
                continue;
            }
            return Err(self.refuse(format!(
                "the layout has something else of this name, {}; \
                 choose another name, or replace it with --force",
                old.digest.escape_debug()
            )));
        }
        Ok(())
    }

    fn is_artifact(&self, entry: &Descriptor) -> bool {
        // Other programs leave the type out of the index.
        let manifest = || self.read::<Value>(entry).ok();
        let kind = |manifest: Value| manifest.get("artifactType").cloned();
        manifest()
            .and_then(kind)
            .is_some_and(|kind| kind == ARTIFACT)
    }

    /// Add a manifest to the index, in place of one with the name of the reference. Without a
    /// name, entries with one stay. Replace an entry that is not an artifact of daxfs only with
    /// `force`.
    pub fn publish(&self, manifest: &Descriptor, force: bool, interrupt: &Interrupt) -> Result<()> {
        let _lock = self.lock(interrupt)?;
        if !force {
            self.replaceable()?;
        }
        // Members that are not known here are kept.
        let mut index: Value = self.description(INDEX)?;
        let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
        let Some(manifests) = manifests else {
            return Err(self.refuse("index.json has no list of manifests; it is damaged"));
        };
        let name_of = |entry: &Value| entry.pointer("/annotations")?.get(REF_NAME).cloned();
        manifests.retain(|other| match (&self.reference.name, name_of(other)) {
            (Some(name), Some(other)) => other != **name,
            (None, None) => other.get("digest") != Some(&json!(manifest.digest)),
            _ => true,
        });
        manifests.push(serde_json::to_value(manifest)?);
        self.replace(INDEX, &index)
    }

    fn replace(&self, name: &str, content: &Value) -> Result<()> {
        let mut file = self.temporary()?;
        file.write_all(&serde_json::to_vec(content)?)
            .map_err(|error| Error::system(shown_path(self.path), "cannot write", "", error))?;
        self.keep(file, &self.path.join(name))
    }

    fn keep(&self, file: NamedTempFile, path: &Path) -> Result<()> {
        let failed = |error| Error::system(shown_path(path), "cannot write", "", error);
        file.as_file().sync_all().map_err(failed)?;
        replace::rename(file, path).map_err(failed)?;
        sync(path.parent().unwrap_or(self.path))
    }
}

/// Write the entries of a directory to disk.
pub fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::system(shown_path(directory), "cannot sync", "", error))
}

/// Is `name` a digest, in the only form that is supported?
pub fn is_digest(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:");
    digits.is_some_and(|digits| is_hex(digits, 32))
}

/// Create a temporary file beside `path`, which it may replace.
pub fn temporary(path: &Path) -> Result<NamedTempFile> {
    let failed = |error| {
        let directory = shown_path(parent_of(path));
        Error::system(directory, "cannot create a file", "", error)
    };
    replace::temporary(path, PREFIX).map_err(failed)
}

/// Return the digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Return the name of a manifest, or its digest if it has none.
fn label(manifest: &Descriptor) -> String {
    let name = manifest.annotation(REF_NAME).unwrap_or(&manifest.digest);
    name.escape_debug().to_string()
}
