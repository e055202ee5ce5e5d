// SPDX-License-Identifier: GPL-2.0-only

//! The snapshots: their records and their directories, and the rules of containerd for them.
//!
//! A directory without a record is no snapshot: a crash may leave it, and the next start removes it.
//! So a snapshot begins and ends when its record appears and disappears.

use crate::api::Labels;
use crate::error::{Error, Result};
use crate::record::{now, sync, Layer, Record, Snapshot, State};
use rustix::fs::{flock, FlockOperation};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{chown, DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// All snapshots.
pub struct Store {
    /// The directory with a directory for each.
    dir: PathBuf,
    /// By name.
    snapshots: HashMap<String, Snapshot>,
    /// Names of snapshots that are being committed, and their names afterwards.
    committing: HashSet<String>,
    /// Number of the next directory.
    next: u64,
    /// Keeps other processes away.
    _lock: File,
}

impl Store {
    /// Open the snapshots in the directory `root`, which is created if it does not exist. Call
    /// `unload` with the directory of each image that may be mounted and that no snapshot has.
    ///
    /// # Errors
    ///
    /// A record is damaged, the system refuses something, or another process has opened it.
    pub fn open(root: &Path, unload: &dyn Fn(&Path) -> Result<()>) -> Result<Self> {
        let dir = root.join("snapshots");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&dir).map_err(Error::io(&dir, "create"))?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(Error::io(&path, "create"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::Invalid(format!(
                "{}: another daxfs-snapshotter uses this directory; stop it, or name another root",
                daxfs_writer::shown(root)
            ))
        })?;
        let mut store = Store {
            dir,
            snapshots: HashMap::new(),
            committing: HashSet::new(),
            next: 1,
            _lock: lock,
        };
        store.read(unload)?;
        Ok(store)
    }

    /// Read all records, and remove what a crash has left.
    fn read(&mut self, unload: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
        for (number, dir) in self.numbered()? {
            self.next = self.next.max(number + 1);
            let Some(record) = Record::read(&dir)? else {
                continue;
            };
            let snapshot = Snapshot { dir, record };
            match snapshot.record.state {
                // The active snapshot that it was.
                State::Committed(_) => forget_changes(&snapshot)?,
                // A commit that did not end.
                State::View | State::Active => forget_layer(&snapshot, unload)?,
            }
            let name = snapshot.record.name.clone();
            if let Some(other) = self.snapshots.insert(name, snapshot) {
                return Err(Error::Damaged {
                    path: other.dir,
                    why: format!("there is another snapshot {:?}", other.record.name),
                });
            }
        }
        self.sweep(unload)?;
        for snapshot in self.snapshots.values() {
            let parent = &snapshot.record.parent;
            let state = self
                .snapshots
                .get(parent)
                .map(|parent| &parent.record.state);
            if !parent.is_empty() && !matches!(state, Some(State::Committed(_))) {
                return Err(Error::Damaged {
                    path: snapshot.dir.clone(),
                    why: format!("its parent {parent:?} is not there; remove the directory to lose this snapshot"),
                });
            }
        }
        Ok(())
    }

    /// Return all directories of snapshots, with their numbers.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>> {
        let fail = |error| Error::io(&self.dir, "read")(error);
        let entries: io::Result<Vec<_>> = std::fs::read_dir(&self.dir).map_err(fail)?.collect();
        // Other names are not ours.
        let number = |name: &OsStr| name.to_str().and_then(|name| name.parse().ok());
        Ok(entries
            .map_err(fail)?
            .into_iter()
            .filter_map(|entry| Some((number(&entry.file_name())?, entry.path())))
            .collect())
    }

    /// Remove directories that are no snapshot's. Call `unload` for the image in each.
    ///
    /// # Errors
    ///
    /// Those of `unload` and of the system.
    pub fn sweep(&self, unload: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
        let known: HashSet<&Path> = self.all().map(|snapshot| &*snapshot.dir).collect();
        for (_, dir) in self.numbered()? {
            if !known.contains(&*dir) && Record::read(&dir)?.is_none() {
                unload(&dir.join("layer"))?;
                remove_tree(&dir)?;
            }
        }
        Ok(())
    }

    /// Return the snapshot `name`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub fn get(&self, name: &str) -> Result<&Snapshot> {
        let snapshot = self.snapshots.get(name);
        snapshot.ok_or_else(|| Error::NotFound(name.into()))
    }

    /// Return all snapshots, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.values()
    }

    /// Return the committed snapshots that a snapshot with the parent `parent` is on top of, the
    /// uppermost first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], and [`Error::Invalid`] if `parent` is not committed.
    pub fn below(&self, parent: &str) -> Result<Vec<Snapshot>> {
        let mut layers = Vec::new();
        let mut name = parent;
        while !name.is_empty() {
            let snapshot = self.get(name)?;
            if !matches!(snapshot.record.state, State::Committed(_)) {
                return Err(Error::Invalid(format!(
                    "snapshot {name:?} is not committed; commit it before others are on top of it"
                )));
            }
            layers.push(snapshot.clone());
            name = &snapshot.record.parent;
        }
        Ok(layers)
    }

    /// Return whether nothing has the name `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], and [`Error::Invalid`] if it is empty.
    pub fn check_free(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::Invalid("a snapshot needs a name".into()));
        }
        if self.snapshots.contains_key(name) || self.committing.contains(name) {
            return Err(Error::Exists(name.into()));
        }
        Ok(())
    }

    /// Create a snapshot. Its root directory gets the owner and the permissions in `like`.
    ///
    /// # Errors
    ///
    /// As [`Store::below`] and [`Store::check_free`], and those of the system. There is no snapshot
    /// then.
    pub fn create(&mut self, record: Record, like: Option<&Metadata>) -> Result<Snapshot> {
        self.check_free(&record.name)?;
        self.below(&record.parent)?;
        let dir = self.dir.join(self.next.to_string());
        self.next += 1;
        let snapshot = Snapshot { dir, record };
        if let Err(error) = fill(&snapshot, like).and_then(|()| sync(&self.dir)) {
            // The next start tries it again.
            let _ = remove_tree(&snapshot.dir);
            return Err(error);
        }
        let name = snapshot.record.name.clone();
        self.snapshots.insert(name, snapshot.clone());
        Ok(snapshot)
    }

    /// Begin to commit the active snapshot `key` under the name `name`. Both cannot be used for
    /// anything else until [`Store::commit`] or [`Store::give_up`] is called.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Exists`], and [`Error::State`] if it is not active.
    pub fn begin(&mut self, name: &str, key: &str) -> Result<Snapshot> {
        let snapshot = self.get(key)?.clone();
        self.check_free(name)?;
        if snapshot.record.state != State::Active {
            let why = "is not active; only active snapshots can be committed";
            return Err(Error::state(key, why));
        }
        self.check_idle(key)?;
        self.committing.insert(name.into());
        self.committing.insert(key.into());
        Ok(snapshot)
    }

    fn check_idle(&self, key: &str) -> Result<()> {
        match self.committing.contains(key) {
            true => Err(Error::state(key, "is being committed; try again later")),
            false => Ok(()),
        }
    }

    /// End what [`Store::begin`] has begun, without a commit.
    pub fn give_up(&mut self, name: &str, key: &str) {
        self.committing.remove(name);
        self.committing.remove(key);
    }

    /// Make the active snapshot `key` the committed snapshot `name`. Call [`Store::give_up`]
    /// afterwards in any case.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], or those of the system; it is active then.
    pub fn commit(
        &mut self,
        name: &str,
        key: &str,
        layer: Layer,
        labels: Labels,
    ) -> Result<Snapshot> {
        let old = self.get(key)?.clone();
        let record = Record::new(name, &old.record.parent, State::Committed(layer), labels);
        let snapshot = Snapshot {
            dir: old.dir,
            record,
        };
        if let Err(error) = snapshot.record.write(&snapshot.dir) {
            // The new record may be there, and its image will not be.
            let _ = old.record.write(&snapshot.dir);
            return Err(error);
        }
        self.snapshots.remove(key);
        self.snapshots.insert(name.into(), snapshot.clone());
        Ok(snapshot)
    }

    /// End the snapshot `name`. Its directory remains, without a record.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::State`] if another is on top of it or it is being committed,
    /// or those of the system.
    pub fn remove(&mut self, name: &str) -> Result<Snapshot> {
        let snapshot = self.get(name)?.clone();
        if self.all().any(|other| other.record.parent == name) {
            return Err(Error::state(
                name,
                "another snapshot is on top of it; remove that first",
            ));
        }
        self.check_idle(name)?;
        Record::erase(&snapshot.dir)?;
        self.snapshots.remove(name);
        Ok(snapshot)
    }

    /// Replace labels of the snapshot `name`: those named in `paths`, such as `labels.a`, by those in
    /// `labels`; all if `paths` is empty or has `labels`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::State`], or [`Error::Invalid`] for fields that cannot change.
    pub fn update(&mut self, name: &str, labels: Labels, paths: &[String]) -> Result<Snapshot> {
        let mut snapshot = self.get(name)?.clone();
        self.check_idle(name)?;
        let kept = &mut snapshot.record.labels;
        if paths.is_empty() || paths.iter().any(|path| path == "labels") {
            *kept = labels.clone().into_iter().collect();
        }
        for path in paths.iter().filter(|path| *path != "labels") {
            let Some(label) = path.strip_prefix("labels.") else {
                return Err(Error::Invalid(format!(
                    "field {path:?} of snapshot {name:?} cannot be changed; only labels can"
                )));
            };
            match labels.get(label) {
                Some(value) => kept.insert(label.into(), value.clone()),
                None => kept.remove(label),
            };
        }
        snapshot.record.updated = now();
        snapshot.record.write(&snapshot.dir)?;
        self.snapshots.insert(name.into(), snapshot.clone());
        Ok(snapshot)
    }
}

/// Make the directory of a new snapshot.
fn fill(snapshot: &Snapshot, like: Option<&Metadata>) -> Result<()> {
    let make = |path: &Path, mode| {
        let made = DirBuilder::new().mode(mode).create(path);
        made.map_err(Error::io(path, "create"))
    };
    make(&snapshot.dir, 0o700)?;
    let upper = snapshot.upper();
    make(&upper, 0o755)?;
    // The root of an overlay has the attributes of the upper directory.
    let mode = like.map_or(0o755, |like| like.mode() & 0o7777);
    let mut settled = match like {
        Some(like) => chown(&upper, Some(like.uid()), Some(like.gid())),
        None => Ok(()),
    };
    settled = settled.and_then(|()| std::fs::set_permissions(&upper, Permissions::from_mode(mode)));
    settled.map_err(Error::io(&upper, "set the attributes"))?;
    if snapshot.record.state == State::Active {
        make(&snapshot.work(), 0o711)?;
    }
    snapshot.record.write(&snapshot.dir)
}

/// Remove the changes that were committed.
///
/// # Errors
///
/// [`Error::Io`].
pub fn forget_changes(snapshot: &Snapshot) -> Result<()> {
    remove_tree(&snapshot.upper())?;
    remove_tree(&snapshot.work())
}

/// Unmount and remove the image of a commit that did not end.
///
/// # Errors
///
/// Those of `unload` and of the system.
pub fn forget_layer(snapshot: &Snapshot, unload: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let layer = snapshot.layer();
    unload(&layer)?;
    remove_tree(&layer)?;
    let entries = std::fs::read_dir(&snapshot.dir).map_err(Error::io(&snapshot.dir, "read"))?;
    for entry in entries.flatten() {
        // The image, or an unfinished one.
        let name = entry.file_name();
        if name == "layer.daxfs" || name.as_encoded_bytes().starts_with(b".mkdaxfs-") {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// Remove the directory `dir` with all that it contains, if it exists.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_tree(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(dir, "remove")(error)),
        _ => Ok(()),
    }
}
