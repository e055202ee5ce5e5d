// SPDX-License-Identifier: GPL-2.0-only

//! The snapshots: their records, their directories, and containerd's rules for them.
//!
//! A directory without a record is not a snapshot, but the remains of a crash, which the next start
//! removes. So a snapshot begins and ends when its record appears and disappears.

use crate::api::{Kind, Labels};
use crate::error::{warn, warn_of, Error, Result};
use crate::files::{fill, make, recover};
use crate::idmap::IdMap;
use crate::images::Images;
use crate::record::{now, Disk, Layer, Record, Snapshot, State};
use crate::tree::{check_unmounted, remove_tree};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// All snapshots.
pub struct Snapshots {
    /// The directory that contains each snapshot's directory.
    dir: PathBuf,
    snapshots: HashMap<String, Snapshot>,
    /// Number of calls that use a layer, by the name of its snapshot.
    pins: HashMap<String, usize>,
    /// When a call last used a layer, as a number of calls, by the name of its snapshot.
    uses: HashMap<String, u64>,
    /// Why snapshots are unusable, by name.
    damaged: HashMap<String, (PathBuf, String)>,
    /// Number of the next directory.
    next: u64,
    disk: Box<dyn Disk>,
}

impl Snapshots {
    /// Opens the snapshots in the directory `dir`. Records are written to `disk`. Removes orphaned
    /// images from `images`.
    ///
    /// An unusable snapshot causes a warning, and calls that need the snapshot fail.
    pub fn open(dir: PathBuf, disk: Box<dyn Disk>, images: &Images) -> Result<Self> {
        let mut found = Snapshots {
            dir,
            snapshots: HashMap::new(),
            pins: HashMap::new(),
            uses: HashMap::new(),
            damaged: HashMap::new(),
            next: 1,
            disk,
        };
        for (number, dir) in found.numbered()? {
            found.next = found.next.max(number + 1);
            found.read(dir, images);
        }
        let swept = found.leftovers().and_then(|dirs| sweep(&dirs, images));
        let numbered = found.numbered()?;
        let dirs = numbered.iter().map(|(_, dir)| &**dir).collect();
        [swept, images.keep(&dirs)].into_iter().for_each(warn_of);
        for snapshot in found.snapshots.values() {
            warn_of(found.usable(&snapshot.record.name));
        }
        Ok(found)
    }

    /// Reads the record in the directory `dir`, if any, and removes the remains of a crash.
    fn read(&mut self, dir: PathBuf, images: &Images) {
        let mut why = None;
        let record = match Record::read(&dir) {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                let Some((name, parent)) = Record::salvage(&dir) else {
                    return warn(&error);
                };
                why = Some(error.to_string());
                Record::new(&name, &parent, State::Active, Labels::new())
            }
        };
        let name = record.name.clone();
        let snapshot = Snapshot { dir, record };
        if let Some(other) = self.snapshots.get(&name) {
            let other = daxfs_files::shown_path(&other.dir);
            why = Some(format!(
                "it has the name {name:?}, as {other} has; remove one of both directories"
            ));
        }
        // Keep damaged files unchanged.
        if why.is_none() {
            why = recover(&snapshot, images).err();
        }
        if let Some(why) = why {
            self.damaged
                .insert(name.clone(), (snapshot.dir.clone(), why));
        }
        self.snapshots.entry(name).or_insert(snapshot);
    }

    /// Returns all directories of snapshots, with their numbers.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(Error::io(&self.dir, "read"))? {
            let entry = entry.map_err(Error::io(&self.dir, "read"))?;
            // Directories with other names are not ours.
            let number = number(&entry.file_name());
            if let Some(number) = number.filter(|_| entry.file_type().is_ok_and(|it| it.is_dir())) {
                found.push((number, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns directories without a snapshot, for [`sweep`]. None of them ever becomes a snapshot.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let known: HashSet<&Path> = self.all().map(|snapshot| &*snapshot.dir).collect();
        let dirs = self.numbered()?.into_iter().map(|(_, dir)| dir);
        // A damaged record is not a missing one.
        let is_left =
            |dir: &PathBuf| !known.contains(&**dir) && matches!(Record::read(dir), Ok(None));
        Ok(dirs.filter(is_left).collect())
    }

    /// Returns the snapshot `name`.
    pub fn get(&self, name: &str) -> Result<&Snapshot> {
        let snapshot = self.snapshots.get(name);
        snapshot.ok_or_else(|| Error::NotFound(name.into()))
    }

    /// Returns all snapshots in any order.
    pub fn all(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.values()
    }

    /// Returns the snapshot `name`, if its files and layers are usable.
    ///
    /// Returns [`Error::NotFound`], or [`Error::Damaged`] if it or a snapshot below it is damaged
    /// or missing.
    pub fn usable(&self, name: &str) -> Result<&Snapshot> {
        let snapshot = self.get(name)?;
        let lost = |why| Error::Damaged {
            path: snapshot.dir.clone(),
            why,
        };
        let mut below = snapshot;
        // A longer chain is circular.
        for _ in 0..self.snapshots.len() {
            let record = &below.record;
            if let Some((dir, why)) = self.damaged.get(&record.name) {
                return Err(Error::Damaged {
                    path: dir.clone(),
                    why: format!("snapshot {:?} cannot be used: {why}", record.name),
                });
            }
            if record.parent.is_empty() {
                return Ok(snapshot);
            }
            below = match self.snapshots.get(&record.parent) {
                Some(parent)
                    if parent.record.is_layer() || self.damaged.contains_key(&record.parent) =>
                {
                    parent
                }
                _ => {
                    return Err(lost(format!(
                        "snapshot {name:?} is damaged: {:?} is not there, which {:?} is on top of; restore its directory, or remove the snapshot",
                        record.parent, record.name
                    )));
                }
            };
        }
        Err(lost(format!(
            "snapshot {name:?} is damaged: it is below itself; remove it"
        )))
    }

    /// Returns the committed snapshot `parent`, or `None` if `parent` is empty.
    ///
    /// Returns the errors of [`Snapshots::usable`], and [`Error::Invalid`] if it is not committed.
    pub fn below(&self, parent: &str) -> Result<Option<Snapshot>> {
        if parent.is_empty() {
            return Ok(None);
        }
        let snapshot = self.usable(parent)?;
        if !snapshot.record.is_layer() {
            return Err(Error::Invalid(format!(
                "snapshot {parent:?} is not committed; commit it before others are on top of it"
            )));
        }
        Ok(Some(snapshot.clone()))
    }

    /// Like [`Snapshots::below`], and keeps the layer from being removed until
    /// [`Snapshots::unpin`].
    pub fn pin(&mut self, parent: &str) -> Result<Option<Snapshot>> {
        let below = self.below(parent)?;
        if below.is_some() {
            *self.pins.entry(parent.into()).or_default() += 1;
            self.use_now(parent);
        }
        Ok(below)
    }

    /// Reverts [`Snapshots::pin`] of the layer `name`.
    pub fn unpin(&mut self, name: &str) {
        if let Some(count) = self.pins.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(name);
            }
        }
    }

    fn use_now(&mut self, name: &str) {
        if self.snapshots.contains_key(name) {
            let last = self.uses.values().max().copied().unwrap_or_default();
            self.uses.insert(name.into(), last + 1);
        }
    }

    /// Returns the names of all layers in use: below an active snapshot or a view, or pinned by a
    /// call.
    fn used(&self) -> HashSet<&str> {
        let pins = self.pins.keys();
        let users = self.all().filter(|snapshot| !snapshot.record.is_layer());
        let below = users.map(|snapshot| &snapshot.record.parent);
        pins.chain(below).map(String::as_str).collect()
    }

    /// Returns all unused layers that can be loaded again, least recently used first.
    pub fn unused(&self) -> Vec<Snapshot> {
        let used = self.used();
        let is_unused = |snapshot: &&Snapshot| {
            let name = &snapshot.record.name;
            matches!(snapshot.record.state, State::Committed(_))
                && !used.contains(&**name)
                && !self.damaged.contains_key(name)
        };
        let mut found: Vec<_> = self.all().filter(is_unused).cloned().collect();
        // Layers that were never used come first, oldest first.
        found.sort_by_key(|snapshot| {
            let record = &snapshot.record;
            (self.uses.get(&record.name).copied(), record.updated)
        });
        found
    }

    /// Returns whether the layer in `snapshot` exists and is not in use.
    pub fn is_unused(&self, snapshot: &Snapshot) -> bool {
        let name = &*snapshot.record.name;
        let found = self.snapshots.get(name);
        found.is_some_and(|found| found.dir == snapshot.dir) && !self.used().contains(name)
    }

    /// Checks that nothing is called `name`.
    ///
    /// Returns [`Error::Exists`], or [`Error::Invalid`] if `name` is empty.
    pub fn check_free(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::Invalid("a snapshot needs a name".into()));
        }
        if self.snapshots.contains_key(name) {
            return Err(Error::Exists(name.into()));
        }
        Ok(())
    }

    /// Replaces the record of a snapshot, and makes it durable.
    fn write(&self, snapshot: &Snapshot) -> Result<()> {
        self.disk.replace(&snapshot.record, &snapshot.dir)?;
        self.disk.sync(&snapshot.dir)
    }

    /// Creates a snapshot. Its root directory gets the owner and permissions in `like`.
    ///
    /// On [`Error::Exists`] or a system error, there is no snapshot.
    pub fn create(&mut self, record: Record, like: Option<&Metadata>) -> Result<Snapshot> {
        self.check_free(&record.name)?;
        self.below(&record.parent)?;
        let dir = self.reserve()?;
        let snapshot = Snapshot { dir, record };
        let filled = fill(&snapshot, like);
        let written = filled.and_then(|()| self.write(&snapshot));
        if let Err(error) = written.and_then(|()| self.disk.sync(&self.dir)) {
            // The next start retries this.
            warn_of(Record::erase(&snapshot.dir));
            warn_of(remove_tree(&snapshot.dir));
            return Err(error);
        }
        let name = &snapshot.record.name;
        self.snapshots.insert(name.clone(), snapshot.clone());
        self.use_now(name);
        Ok(snapshot)
    }

    /// Creates the directory of a new snapshot, which starts to exist when it has a record.
    fn reserve(&mut self) -> Result<PathBuf> {
        let dir = loop {
            let dir = self.dir.join(self.next.to_string());
            self.next += 1;
            // Something else may have this name.
            if dir.symlink_metadata().is_err() {
                break dir;
            }
        };
        make(&dir, 0o700)?;
        Ok(dir)
    }

    /// Returns the names of committed snapshots without an image.
    pub fn pending(&self) -> Vec<String> {
        let is_pending = |snapshot: &&Snapshot| snapshot.record.state == State::Pending;
        let mut pending: Vec<_> = self.all().filter(is_pending).collect();
        pending.sort_by_key(|snapshot| snapshot.record.updated);
        let names = pending.into_iter();
        names.map(|snapshot| snapshot.record.name.clone()).collect()
    }

    /// Returns the snapshot `key` if it can be committed as `name`.
    ///
    /// Returns the errors of [`Snapshots::usable`], [`Error::Exists`], [`Error::State`] if it is
    /// not active, or [`Error::Mounted`] if something is mounted in it.
    pub fn uncommitted(&self, name: &str, key: &str) -> Result<&Snapshot> {
        let snapshot = self.usable(key)?;
        self.check_free(name)?;
        if snapshot.record.kind() != Kind::Active {
            let why = "is not active; only active snapshots can be committed";
            return Err(Error::state(key, why));
        }
        check_unmounted(&snapshot.upper())?;
        if matches!(snapshot.record.state, State::Applied(_)) && !is_empty(&snapshot.upper())? {
            let why = "has files beside the layer that was applied to it; remove it";
            return Err(Error::state(key, why));
        }
        Ok(snapshot)
    }

    /// Returns the active snapshot whose files are in the directory `upper`, if it is empty.
    pub fn empty(&self, upper: &Path) -> Result<Option<Snapshot>> {
        let is_it = |snapshot: &&Snapshot| {
            snapshot.record.kind() == Kind::Active && snapshot.upper() == upper
        };
        match self.all().find(is_it) {
            Some(snapshot) if is_empty(upper)? => {
                Ok(Some(self.usable(&snapshot.record.name)?.clone()))
            }
            _ => Ok(None),
        }
    }

    /// Records `layer` as the image of the active snapshot `snapshot`.
    ///
    /// Returns [`Error::NotFound`] if it was removed, or the system's errors. Nothing has changed
    /// then.
    pub fn apply(&mut self, snapshot: &Snapshot, layer: Layer) -> Result<()> {
        let name = &snapshot.record.name;
        let found = self.get(name)?;
        // A new snapshot may have its name.
        if found.dir != snapshot.dir || found.record.kind() != Kind::Active {
            return Err(Error::NotFound(name.clone()));
        }
        let mut applied = found.clone();
        applied.record.state = State::Applied(layer);
        if let Err(error) = self.write(&applied) {
            // The record may be on disk although its image is removed.
            warn_of(self.write(found));
            return Err(error);
        }
        self.snapshots.insert(name.clone(), applied);
        Ok(())
    }

    /// Commits the active snapshot `key` as `name`. It has no image unless a layer was applied to
    /// it.
    ///
    /// Returns the errors of [`Snapshots::uncommitted`], or the system's. It stays active, but a
    /// crash may commit it.
    pub fn commit(&mut self, name: &str, key: &str, labels: Labels) -> Result<()> {
        let old = self.uncommitted(name, key)?.clone();
        let state = match &old.record.state {
            State::Applied(layer) => State::Committed(layer.clone()),
            _ => State::Pending,
        };
        let snapshot = Snapshot {
            record: Record::new(name, &old.record.parent, state, labels),
            dir: old.dir.clone(),
        };
        if let Err(error) = self.write(&snapshot) {
            warn_of(self.write(&old));
            return Err(error);
        }
        self.snapshots.remove(key);
        self.snapshots.insert(name.into(), snapshot);
        self.use_now(&old.record.parent);
        self.use_now(name);
        Ok(())
    }

    /// Records the image of the committed snapshot `pending`. Returns whether the record is
    /// durable; until it is, keep the image's source files, because a crash may restore the old
    /// record.
    ///
    /// Returns [`Error::NotFound`], or the system's errors. Nothing has changed then.
    pub fn finish(&mut self, pending: &Snapshot, layer: Layer) -> Result<Result<()>> {
        let name = &pending.record.name;
        // A new snapshot may have its name.
        let found = self.get(name).ok().filter(|found| found.dir == pending.dir);
        let mut snapshot = found.ok_or_else(|| Error::NotFound(name.clone()))?.clone();
        snapshot.record.state = State::Committed(layer);
        self.disk.replace(&snapshot.record, &snapshot.dir)?;
        let durable = self.disk.sync(&snapshot.dir);
        self.snapshots.insert(name.clone(), snapshot);
        Ok(durable)
    }

    /// Ends the snapshot `name`. Its directory remains, without a record.
    ///
    /// Returns [`Error::NotFound`], [`Error::State`] if a snapshot is on top of it or a call uses
    /// it, [`Error::Mounted`] if something is mounted in it, or the system's errors.
    pub fn remove(&mut self, name: &str) -> Result<Snapshot> {
        let snapshot = self.get(name)?.clone();
        let on_top = |other: &Snapshot| other.record.parent == name && other.record.name != name;
        if self.all().any(on_top) {
            return Err(Error::state(
                name,
                "another snapshot is on top of it; remove that first",
            ));
        }
        if self.pins.contains_key(name) {
            return Err(Error::state(name, "is in use by another call; try again"));
        }
        check_unmounted(&snapshot.upper())?;
        Record::erase(&snapshot.dir)?;
        // After a crash it may reappear, and can be removed again.
        warn_of(self.disk.sync(&snapshot.dir));
        self.snapshots.remove(name);
        self.uses.remove(name);
        if !snapshot.record.is_layer() {
            self.use_now(&snapshot.record.parent);
        }
        self.damaged.remove(name);
        Ok(snapshot)
    }

    /// Replaces labels of the snapshot `name` with those in `labels`: the ones in `paths`, such as
    /// `labels.a`, or all if `paths` is empty or contains `labels`.
    ///
    /// Returns [`Error::NotFound`], [`Error::State`], or [`Error::Invalid`] for immutable fields.
    pub fn update(&mut self, name: &str, labels: Labels, paths: &[String]) -> Result<Snapshot> {
        let mut snapshot = self.usable(name)?.clone();
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
        // Unusable labels would make each later call fail.
        IdMap::of(&snapshot.record)?;
        snapshot.record.updated = now();
        self.write(&snapshot)?;
        self.snapshots.insert(name.into(), snapshot.clone());
        Ok(snapshot)
    }
}

/// Removes the directories `dirs` and their images. Continues after errors.
pub fn sweep(dirs: &[PathBuf], images: &Images) -> Result<()> {
    let mut result = Ok(());
    for dir in dirs {
        if let Err(error) = images.forget(dir).and_then(|()| remove_tree(dir)) {
            match result {
                Ok(()) => result = Err(error),
                Err(_) => warn(&error),
            }
        }
    }
    result
}

/// Returns whether the directory `dir` has no files.
fn is_empty(dir: &Path) -> Result<bool> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir, "read"))?;
    Ok(entries.take(1).count() == 0)
}

/// Returns the number in a directory's name.
fn number(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let number: u64 = name.parse().ok()?;
    // Only in the form that we write, and below the maximum.
    (number < u64::MAX && number.to_string() == name).then_some(number)
}
