// SPDX-License-Identifier: GPL-2.0-only

//! Layers whose images are ready: made elsewhere, so that containerd need not fetch or unpack them.
//!
//! When containerd prepares a snapshot to unpack a layer into, a label has the layer's chain ID, and
//! so has the key. A snapshotter that has the layer commits it at once and answers that the snapshot
//! exists already. containerd then looks for a committed snapshot with this label and this parent, and
//! gives it the chain ID as its name. So the answer must not be given to other calls: labels may come
//! from users who start containers.
//!
//! The image of a layer decides what containers run, so it must be the image of this layer. Its label
//! is the chain ID. Its SHA-256 covers the label, and is compared with the bytes of the file, which must not change until
//! they are in the store. Only root can write the directory with the images. If there are certificates, images must be
//! signed.

use crate::api::Labels;
use crate::config;
use crate::error::{Error, Result};
use crate::record::State;
use crate::store::Store;
use daxfs_check::digest::hex;
use daxfs_check::Silent;
use daxfs_image::chain::{file_name, is_chain_id};
use daxfs_image::sign::certificates;
use daxfs_image::source::Opened;
use daxfs_image::text::label;
use daxfs_input::{read, Input, Platform};
use daxfs_reader::Image;
use daxfs_signature::{attach, Certificate};
use daxfs_writer::tree::Tree;
use rustix::fs::{fstat, open, openat, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The label of a snapshot with the chain ID of the layer that it is for, `sha256:` and digits.
const REF: &str = "containerd.io/snapshot.ref";

/// How containerd's keys of snapshots begin that it unpacks into. A unique word follows, and after a
/// space the chain ID. See `UnpackKeyFormat` in containerd's core/snapshots/snapshotter.go.
const UNPACK: &str = "extract-";

/// The directory with images that are ready, and the conditions for them.
pub struct Ready {
    directory: PathBuf,
    /// An image must be signed by the owner of one of these, or of a certificate that one of these owners has issued.
    /// Without certificates, it need not be signed.
    certificates: Vec<Certificate>,
}

/// An image that is ready. Its label is right, and so is its signature if it needs one. Its other bytes
/// are not checked yet.
pub struct Candidate {
    /// Value of the label [`REF`].
    reference: String,
    path: PathBuf,
    file: File,
    opened: Opened,
    /// SHA-256 in hexadecimal digits, as its superblock says.
    pub sha256: String,
}

/// Result of [`Candidate::existing`].
#[derive(Debug, PartialEq, Eq)]
pub enum Existing {
    /// No snapshot that containerd takes for the layer.
    None,
    /// Snapshots of the same image only: their names.
    Same(Vec<String>),
    /// A snapshot of another image, or one that cannot be used: its name.
    Other(String),
}

impl Ready {
    /// Use images as `config` says.
    pub fn new(config: &config::Config) -> Result<Self> {
        Ok(Ready {
            directory: config.ready.directory.clone(),
            certificates: certificates(&config.ready.certificates)?,
        })
    }

    /// Open the image of the layer for which a snapshot with this key and these labels is prepared.
    /// Return `None` if the snapshot is not one that containerd unpacks a layer into, or if the file
    /// does not exist.
    ///
    /// Fail if there is a file that cannot be used.
    pub fn find(&self, key: &str, labels: &Labels) -> Result<Option<Candidate>> {
        let Some(reference) = labels.get(REF) else {
            return Ok(None);
        };
        let chain_id = match reference.strip_prefix("sha256:") {
            // It is part of a path.
            Some(digits) if is_chain_id(digits) => digits,
            _ => return Ok(None),
        };
        if !unpacks(key, reference) {
            return Ok(None);
        }
        let Some((path, file)) = self.open(&file_name(chain_id))? else {
            return Ok(None);
        };
        let clone = file.try_clone().map_err(Error::io(&path, "open"))?;
        let opened = self.check(&path, chain_id, clone)?;
        Ok(Some(Candidate {
            reference: reference.clone(),
            path,
            file,
            sha256: hex(&opened.superblock.sha256),
            opened,
        }))
    }

    /// Open the file `name` in the directory, if both exist. Refuse them if other users can change them.
    fn open(&self, name: &str) -> Result<Option<(PathBuf, File)>> {
        let directory = &self.directory;
        if directory.as_os_str().is_empty() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let fail = |path: &Path, error: Errno| Error::io(path, "open")(error.into());
        let parent = match open(directory, flags | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let why = "is not a directory; name the directory itself, not a symbolic link";
                return Err(refused(directory, why));
            }
            parent => parent.map_err(|error| fail(directory, error))?,
        };
        let status = fstat(&parent).map_err(|error| fail(directory, error))?;
        check_owner(directory, &status)?;
        let path = directory.join(name);
        let file = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(refused(&path, "is a symbolic link; copy the image")),
            file => File::from(file.map_err(|error| fail(&path, error))?),
        };
        let status = fstat(&file).map_err(|error| fail(&path, error))?;
        check_owner(&path, &status)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(refused(
                &path,
                "is not a regular file; replace it by an image",
            ));
        }
        Ok(Some((path, file)))
    }

    /// Check what `file`, the image `path` of the layer `chain_id`, says about itself.
    fn check(&self, path: &Path, chain_id: &str, file: File) -> Result<Opened> {
        let opened = Opened::of_file(file, daxfs_writer::shown(path).to_string())?;
        let superblock = &opened.superblock;
        if label(superblock) != chain_id.as_bytes() {
            let found = String::from_utf8_lossy(label(superblock)).into_owned();
            let why = format!(
                "has the label {found:?}, so it is not the image of this layer; make it with mkdaxfs --layers=chain-id"
            );
            return Err(refused(path, why));
        }
        if !self.certificates.is_empty() {
            let image = Image::new(&opened.source, superblock);
            let signed = attach::load(&image)
                .map_err(|error| refused(path, format!("{error}; copy the image again")))?;
            let signed = signed.ok_or_else(|| {
                refused(
                    path,
                    "is not signed, and there are certificates; sign it with daxfs sign",
                )
            })?;
            let now = daxfs_signature::now();
            daxfs_signature::verify(&signed, &superblock.sha256, &self.certificates, now)
                .map_err(|error| refused(path, error.to_string()))?;
        }
        Ok(opened)
    }

    /// Read the files of the image, and check all of its bytes. If the file changes later, using their content fails.
    pub fn tree(&self, candidate: &Candidate) -> Result<Tree> {
        // The same file, whatever has its name now.
        let fd = candidate.file.as_raw_fd();
        let platform = Platform::default();
        let input = daxfs_input::Options::new(&self.directory, &platform);
        let file = [Input::Image(format!("/proc/self/fd/{fd}").into())];
        let tree = read(&file, &input, &Silent, &mut |_| ());
        let tree = tree
            .map_err(|error| refused(&candidate.path, format!("{error}; copy the image again")))?;
        candidate.opened.verify(&Silent)?;
        Ok(tree)
    }
}

impl Candidate {
    /// Look for committed snapshots on top of `parent` that containerd takes for this layer: it uses
    /// any that has the label.
    pub fn existing(&self, store: &Store, parent: &str) -> Existing {
        let mut same = Vec::new();
        for snapshot in store.all() {
            let record = &snapshot.record;
            let ready = match &record.state {
                State::Committed(layer) => &*layer.ready,
                State::Pending => "",
                State::Active | State::View => continue,
            };
            if record.parent != parent || record.labels.get(REF) != Some(&self.reference) {
                continue;
            }
            if ready != self.sha256 || store.usable(&record.name).is_err() {
                return Existing::Other(record.name.clone());
            }
            same.push(record.name.clone());
        }
        match same.is_empty() {
            true => Existing::None,
            false => Existing::Same(same),
        }
    }

    /// Return the error for the snapshot `name`, which [`Existing::Other`] has.
    pub fn other_error(&self, name: &str) -> Error {
        let why = format!(
            "is not used: snapshot {name:?} is the same layer in another image; remove that first to use this one"
        );
        refused(&self.path, why)
    }

    /// Return the error that tells containerd that the layer exists.
    pub fn exists_error(&self) -> Error {
        Error::Exists(self.reference.clone())
    }
}

/// Return the error for a file that cannot be used.
fn refused(path: &Path, why: impl Into<String>) -> Error {
    Error::Ready {
        path: path.into(),
        why: why.into(),
    }
}

/// Return whether containerd unpacks a layer into the snapshot `key`: the layer with the chain ID
/// `reference`. In the key its parts for the namespace come first, and end with a slash.
fn unpacks(key: &str, reference: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let words = name
        .strip_prefix(UNPACK)
        .and_then(|name| name.split_once(' '));
    words.is_some_and(|(_, last)| last == reference)
}

/// Check that only root and the user of this process can change the file `path`.
fn check_owner(path: &Path, status: &Stat) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let owner = status.st_uid;
    if owner != own && owner != 0 {
        let why = format!("belongs to user {owner}; it must belong to root (chown root)");
        return Err(refused(path, why));
    }
    if status.st_mode & 0o022 != 0 {
        let why = "can be written by others; take that right from them (chmod go-w)";
        return Err(refused(path, why));
    }
    Ok(())
}
