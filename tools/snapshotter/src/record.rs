// SPDX-License-Identifier: GPL-2.0-only

//! The record of a snapshot: a JSON file in its directory. Changes replace the file, so after a
//! crash it is the old or the new one.

use crate::api::{Info, Kind, Labels};
use crate::error::{Error, Result};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Version of the records that this program writes and reads.
const VERSION: u32 = 4;

const NAME: &str = "snapshot.json";
/// Name of the file that replaces it.
const NEW: &str = "snapshot.json.new";

/// A point in time: seconds since 1970, nanoseconds within the second.
pub type Time = (i64, i32);

/// Returns the current time.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    (since.as_secs() as i64, since.subsec_nanos() as i32)
}

/// State of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A read-only view of its parent.
    View,
    /// A writable snapshot.
    Active,
    /// A writable snapshot with the image of a layer that was applied to it.
    Applied(Layer),
    /// A layer whose image is pending.
    Pending,
    /// A layer with its image.
    Committed(Layer),
}

/// Facts about a layer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Layer {
    /// Bytes that it added to the store.
    pub size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// SHA-256 of its image in hexadecimal digits.
    pub sha256: String,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the record.
    version: u32,
    /// Its name.
    pub name: String,
    /// Name of the committed snapshot below it, or empty.
    pub parent: String,
    /// Its kind, and facts about its image.
    pub state: State,
    /// When it was prepared or committed.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Record {
    /// Returns a new snapshot.
    pub fn new(name: &str, parent: &str, state: State, labels: Labels) -> Self {
        let created = now();
        Record {
            version: VERSION,
            name: name.into(),
            parent: parent.into(),
            state,
            created,
            updated: created,
            labels: labels.into_iter().collect(),
        }
    }

    /// Reads the record in the directory `dir`. Returns `None` if there is none.
    ///
    /// Returns [`Error::Io`], or [`Error::Damaged`] if the record is invalid.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, "read")(error)),
        };
        let version = |value: serde_json::Value| value.get("version")?.as_u64();
        let version = serde_json::from_slice(&text).map(|value| version(value).unwrap_or(0));
        let why = match (version, serde_json::from_slice(&text)) {
            (Ok(found), _) if found != u64::from(VERSION) => format!(
                "another version of daxfs-snapshotter wrote it: its records have version {found} instead of {VERSION}; use that version, or remove the snapshot and pull its image again"
            ),
            (_, Ok(record)) => return Ok(Some(record)),
            (_, Err(error)) => format!(
                "{error}; restore the file, or remove its directory to lose this snapshot"
            ),
        };
        Err(Error::Damaged { path, why })
    }

    /// Returns the name and the parent from a damaged record in the directory `dir`.
    pub fn salvage(dir: &Path) -> Option<(String, String)> {
        let text = std::fs::read(dir.join(NAME)).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let field = |name| Some(value.get(name)?.as_str()?.to_owned());
        let name = field("name").filter(|name| !name.is_empty())?;
        Some((name, field("parent").unwrap_or_default()))
    }

    /// Replaces the record in the directory `dir`. [`Disk::sync`] makes it durable.
    ///
    /// On [`Error::Io`], the old record is still there.
    pub fn replace(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join(NAME), dir.join(NEW));
        let fail = |error| Error::io(&path, "write")(error);
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| fail(error.into()))?;
        text.push(b'\n');
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(fail)
    }

    /// Removes the record in the directory `dir`.
    ///
    /// On [`Error::Io`], the record is still there.
    pub fn erase(dir: &Path) -> Result<()> {
        let path = dir.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(&path, "remove")(error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the kind for containerd.
    pub fn kind(&self) -> Kind {
        match self.state {
            State::View => Kind::View,
            State::Active | State::Applied(_) => Kind::Active,
            State::Pending | State::Committed(_) => Kind::Committed,
        }
    }

    /// Returns whether it is a layer, with or without an image.
    pub fn is_layer(&self) -> bool {
        self.kind() == Kind::Committed
    }

    /// Returns the facts for containerd.
    pub fn info(&self) -> Info {
        let time = |(seconds, nanos)| Some(Timestamp { seconds, nanos });
        Info {
            name: self.name.clone(),
            parent: self.parent.clone(),
            kind: self.kind().into(),
            created_at: time(self.created),
            updated_at: time(self.updated),
            labels: self.labels.clone().into_iter().collect(),
        }
    }
}

/// How to write records to disk.
pub trait Disk: Send + 'static {
    /// Replaces the record in the directory `dir`, like [`Record::replace`].
    ///
    /// On [`Error::Io`], the old record is still there.
    fn replace(&self, record: &Record, dir: &Path) -> Result<()> {
        record.replace(dir)
    }

    /// Makes the names in the directory `dir` durable.
    fn sync(&self, dir: &Path) -> Result<()> {
        let synced = File::open(dir).and_then(|file| file.sync_all());
        synced.map_err(Error::io(dir, "sync"))
    }
}

/// The real disk.
pub struct RealDisk;

impl Disk for RealDisk {}

/// A snapshot and its directory.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The directory.
    pub dir: PathBuf,
    /// Its record.
    pub record: Record,
}

impl Snapshot {
    /// Returns the directory with the snapshot's writes.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// Returns overlayfs's work directory.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Returns the directory on which the image is mounted.
    pub fn layer(&self) -> PathBuf {
        self.dir.join("layer")
    }
}
