// SPDX-License-Identifier: GPL-2.0-only

//! The snapshotter: implementation of the service's calls.
//!
//! The snapshots are locked while a record is written, and never while an image is made or loaded. So
//! calls that take long do not hold up others; only calls that load images, and calls that write them, wait for each
//! other.

use crate::api::{Info, Labels, Mount};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{forget_changes, warn};
use crate::images::{upper, Images};
use crate::memory::Memory;
use crate::ready::{Candidate, Existing, Ready};
use crate::record::{Disk, Layer, Real, Record, Snapshot, State};
use crate::store::{lock, sweep, Committed, Store, Uncommitted};
use crate::tree::{measure, remove_tree, Size};
use daxfs_writer::tree::Tree;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The snapshotter. All methods may block, and may be called by several threads at the same time.
pub struct Snapshotter {
    ready: Ready,
    store: Mutex<Store>,
    images: Images,
}

/// Longest options of a mount: a page, without the names of options that containerd adds.
const OPTIONS_MAX: usize = 4000;

impl Snapshotter {
    /// Open the snapshots of an earlier run, and remove the remains of a crash. [`Snapshotter::tidy`] removes the others.
    pub fn open(config: &Config, memory: Box<dyn Memory>) -> Result<Self> {
        Self::open_on(config, memory, Box::new(Real))
    }

    /// As [`Snapshotter::open`], and write records to `disk`.
    pub fn open_on(config: &Config, memory: Box<dyn Memory>, disk: Box<dyn Disk>) -> Result<Self> {
        let ready = Ready::new(config)?;
        let dir = config.root.join("snapshots");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&dir).map_err(Error::io(&dir, "create"))?;
        let images = Images::open(&config.root, memory)?;
        Ok(Snapshotter {
            ready,
            store: Mutex::new(Store::open(dir, disk, &images)?),
            images,
        })
    }

    /// Remove what the snapshots of an earlier run do not need from the store and from memory. This takes long if there
    /// are many, and calls may be served at the same time.
    pub fn tidy(&self) {
        if let Err(error) = self.images.tidy() {
            warn(&error);
        }
    }

    /// Load the image with this SHA-256 of a snapshot, unless it is in memory. If it does not fit, unload images that
    /// nothing uses, if they are enough. They are loaded again when they are needed. Return the lower layers of overlays
    /// of it.
    fn load(&self, snapshot: &Snapshot, sha256: &str) -> Result<String> {
        let load = || self.images.load(&snapshot.dir, sha256);
        let mut error = match load() {
            Ok(lower) => return Ok(lower),
            Err(error) => error,
        };
        let parts = self.images.parts(&snapshot.dir)?;
        if error.missing_memory(0).is_none() {
            return Err(error);
        }
        let (mut unused, mut others) = {
            let store = lock(&self.store);
            let others: Vec<Snapshot> = store.all().cloned().collect();
            (store.unused(), others)
        };
        let is_there = |other: &Snapshot| self.images.is_loaded(&other.dir);
        unused.retain(is_there);
        others.retain(|other| is_there(other) && unused.iter().all(|it| it.dir != other.dir));
        let parts_of = |snapshots: &[Snapshot]| -> BTreeMap<String, u64> {
            let parts = snapshots.iter().map(|other| self.images.parts(&other.dir));
            parts.flat_map(Result::unwrap_or_default).collect()
        };
        let (mut free, used) = (parts_of(&unused), parts_of(&others));
        // Parts that are in memory need no more of it.
        let new = parts
            .iter()
            .filter(|(sha256, _)| !used.contains_key(*sha256) && !free.contains_key(*sha256));
        let size = new.map(|(_, bytes)| bytes).sum();
        free.retain(|sha256, _| !used.contains_key(sha256) && !parts.contains_key(sha256));
        let missing = error.missing_memory(size).unwrap_or_default();
        if free.values().sum::<u64>() < missing {
            return Err(error);
        }
        for other in unused {
            // A call that needs it from now on waits until it is unloaded, and then loads it.
            let is_unused = || lock(&self.store).is_unused(&other);
            match self.images.evict(&other.dir, &is_unused) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(failed) => {
                    warn(&failed);
                    continue;
                }
            }
            match load() {
                Err(next) if next.missing_memory(size).is_some() => error = next,
                loaded => return loaded,
            }
        }
        Err(error)
    }

    /// Create a snapshot on top of the committed snapshot `parent`, or of nothing if that is empty.
    ///
    /// If containerd unpacks a layer into it whose image is ready, commit it with this image. If the
    /// image cannot be used, log a warning: then the snapshot is as any other.
    pub fn create(
        &self,
        key: &str,
        parent: &str,
        state: State,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        let pin = {
            let mut store = lock(&self.store);
            store.check_free(key)?;
            self.pin(&mut store, parent)?
        };
        let ready = match state {
            State::Active => self.ready(key, parent, &labels)?,
            _ => None,
        };
        let below = self.load_pinned(&pin)?;
        let like = match &pin.layer {
            Some(parent) => Some(self.root_of(parent)?),
            None => None,
        };
        let record = Record::new(key, parent, state, labels);
        let snapshot = lock(&self.store).create(record, like.as_ref())?;
        // From now on the snapshot keeps it.
        drop(pin);
        if let Some(ready) = ready {
            self.commit_ready(&ready, &snapshot)?;
        }
        mounts(&snapshot, below)
    }

    /// Return the image that is ready for the snapshot `key` with these labels on top of `parent`.
    ///
    /// Return [`Error::Exists`] if it is in use already.
    fn ready(&self, key: &str, parent: &str, labels: &Labels) -> Result<Option<Candidate>> {
        let ready = match self.ready.find(key, labels) {
            Ok(Some(ready)) => ready,
            Ok(None) => return Ok(None),
            Err(error) => {
                warn(&error);
                return Ok(None);
            }
        };
        match self.in_use(&ready, parent) {
            Ok(false) => Ok(Some(ready)),
            Ok(true) => Err(ready.exists_error()),
            Err(error) => {
                warn(&error);
                Ok(None)
            }
        }
    }

    /// Return whether there is a committed snapshot of the image `ready` on top of `parent` that
    /// containerd can use. Load it if it is not in memory.
    ///
    /// Fail if containerd may find another image of the layer, or it cannot be loaded.
    fn in_use(&self, ready: &Candidate, parent: &str) -> Result<bool> {
        // They lock the store when they are dropped: after it is unlocked.
        let mut pins = Vec::new();
        let mut store = lock(&self.store);
        match ready.existing(&store, parent) {
            Existing::None => return Ok(false),
            Existing::Other(name) => return Err(ready.other_error(&name)),
            Existing::Same(names) => {
                for name in &names {
                    pins.push(self.pin(&mut store, name)?);
                }
            }
        }
        drop(store);
        for pin in &pins {
            self.load_pinned(pin)?;
        }
        Ok(true)
    }

    /// Commit the new snapshot with the image `ready`. If that fails, log a warning, and the snapshot is
    /// active, as before.
    ///
    /// Return [`Error::Exists`] if the layer is committed now, and the system's errors if that is
    /// not certain.
    fn commit_ready(&self, ready: &Candidate, snapshot: &Snapshot) -> Result<()> {
        let Record {
            name: key,
            parent,
            labels,
            ..
        } = &snapshot.record;
        // containerd finds it by its label. This name is as unique as the key.
        let name = format!("ready {key}");
        let layer = |_: &Snapshot| Ok((self.ready.tree(ready)?, &*ready.sha256));
        let check = |store: &Store| match ready.existing(store, parent) {
            Existing::None => Ok(()),
            Existing::Same(_) => Err(ready.exists_error()),
            Existing::Other(name) => Err(ready.other_error(&name)),
        };
        let labels = labels.clone().into_iter().collect();
        let Err(uncommitted) = self.commit_layer(&name, key, labels, layer, check) else {
            return Err(ready.exists_error());
        };
        // Either record may be on disk, so containerd must not write to the snapshot.
        if !uncommitted.certain {
            return Err(uncommitted.error);
        }
        let why = match self.in_use(ready, parent) {
            // Another call was faster.
            Ok(true) => {
                if let Err(error) = self.remove(key) {
                    warn(&error);
                }
                return Err(ready.exists_error());
            }
            Ok(false) => uncommitted.error,
            Err(error) => error,
        };
        warn(&why);
        Ok(())
    }

    /// Keep the committed snapshot `parent`, if that is not empty, from being removed.
    fn pin(&self, store: &mut Store, parent: &str) -> Result<Pin<'_>> {
        let layer = store.pin(parent)?;
        let snapshotter = self;
        Ok(Pin { snapshotter, layer })
    }

    /// Load the layer of `pin`, if there is one. Return where it is mounted, and the lower layers of overlays of it.
    fn load_pinned(&self, pin: &Pin<'_>) -> Result<Option<(PathBuf, String)>> {
        let Some(snapshot) = &pin.layer else {
            return Ok(None);
        };
        let State::Committed(layer) = &snapshot.record.state else {
            return Ok(None);
        };
        let lower = self.load(snapshot, &layer.sha256)?;
        Ok(Some((snapshot.layer(), lower)))
    }

    /// Return the attributes of the root directory of a layer.
    fn root_of(&self, snapshot: &Snapshot) -> Result<Metadata> {
        let dir = snapshot.layer();
        std::fs::metadata(&dir).map_err(Error::io(&dir, "examine"))
    }

    /// Return how to mount the active snapshot or the view `key`. Load its layers if they are not in
    /// memory.
    ///
    /// Return [`Error::NotFound`], [`Error::State`] if it is committed, or if a layer cannot be
    /// loaded.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (snapshot, pin) = {
            let mut store = lock(&self.store);
            let snapshot = store.usable(key)?.clone();
            let pin = self.pin(&mut store, &snapshot.record.parent)?;
            (snapshot, pin)
        };
        if let State::Committed(_) = snapshot.record.state {
            let why = "is committed; only active snapshots and views have mounts";
            return Err(Error::state(key, why));
        }
        mounts(&snapshot, self.load_pinned(&pin)?)
    }

    /// Make the image of the active snapshot `key`, load it, and make it the committed snapshot
    /// `name`. The image below it is unloaded if nothing uses it.
    pub fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        let layer = |snapshot: &Snapshot| Ok((upper(&snapshot.upper(), &snapshot.dir)?, ""));
        self.commit_layer(name, key, labels, layer, |_| Ok(()))
            .map_err(|uncommitted| uncommitted.error)
    }

    /// As [`Snapshotter::commit`], with the files that `layer` returns, and the SHA-256 of a ready image. Fail if `check`
    /// does when the image is loaded.
    fn commit_layer<'a>(
        &self,
        name: &str,
        key: &str,
        labels: Labels,
        layer: impl FnOnce(&Snapshot) -> Result<(Tree, &'a str)>,
        check: impl FnOnce(&Store) -> Result<()>,
    ) -> std::result::Result<(), Uncommitted> {
        let begun = lock(&self.store).begin(name, key);
        let snapshot = begun.map_err(Uncommitted::certain)?;
        let commit = Commit {
            snapshotter: self,
            name,
            key,
        };
        match commit.run(&snapshot, labels, layer, check) {
            Ok(Committed { snapshot, durable }) => {
                // Otherwise the next start does it.
                if let Some(Err(error)) = durable.then(|| forget_changes(&snapshot)) {
                    warn(&error);
                }
                self.unload_below(&snapshot);
                Ok(())
            }
            Err(uncommitted) => {
                let forget = || self.images.forget(&snapshot.dir);
                if let Some(Err(error)) = uncommitted.certain.then(forget) {
                    warn(&error);
                }
                self.images.collect();
                Err(uncommitted)
            }
        }
    }

    /// Unload the image of the parent of `snapshot`, unless it is in use. They have most packs in common.
    fn unload_below(&self, snapshot: &Snapshot) {
        let below = lock(&self.store).below(&snapshot.record.parent);
        let Ok(Some(below)) = below else {
            return;
        };
        let is_unused = || lock(&self.store).is_unused(&below);
        if let Err(error) = self.images.evict(&below.dir, &is_unused) {
            warn(&error);
        }
    }

    /// Remove the snapshot `name`, and give its memory back.
    pub fn remove(&self, name: &str) -> Result<()> {
        let snapshot = lock(&self.store).remove(name)?;
        let removed = self.images.forget(&snapshot.dir);
        if let Err(error) = removed.and_then(|()| remove_tree(&snapshot.dir)) {
            warn(&error);
        }
        if matches!(snapshot.record.state, State::Committed(_)) {
            self.images.collect();
        }
        Ok(())
    }

    /// Remove what earlier calls of [`Snapshotter::remove`] could not.
    pub fn cleanup(&self) -> Result<()> {
        let dirs = lock(&self.store).leftovers()?;
        let swept = sweep(&dirs, &self.images);
        self.images.collect();
        swept
    }

    /// Return the facts about the snapshot `name`.
    pub fn stat(&self, name: &str) -> Result<Info> {
        Ok(lock(&self.store).usable(name)?.record.info())
    }

    /// Change labels, as [`Store::update`].
    pub fn update(&self, info: Info, paths: &[String]) -> Result<Info> {
        let mut store = lock(&self.store);
        Ok(store.update(&info.name, info.labels, paths)?.record.info())
    }

    /// Return all snapshots, by name.
    pub fn list(&self) -> Vec<Info> {
        let store = lock(&self.store);
        let mut found: Vec<Info> = store.all().map(|snapshot| snapshot.record.info()).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Return the space that the snapshot `name` takes, without snapshots below it: what a layer has added to the store,
    /// or the space on disk.
    pub fn usage(&self, name: &str) -> Result<Size> {
        let snapshot = lock(&self.store).usable(name)?.clone();
        match &snapshot.record.state {
            State::Committed(layer) => Ok(Size {
                bytes: layer.size,
                inodes: layer.inodes,
            }),
            State::View => Ok(Size::default()),
            State::Active => measure(&snapshot.upper()),
        }
    }
}

/// A commit that is under way. When it is dropped, its names can be used again.
struct Commit<'a> {
    snapshotter: &'a Snapshotter,
    name: &'a str,
    key: &'a str,
}

impl Commit<'_> {
    fn run<'a>(
        &self,
        snapshot: &Snapshot,
        labels: Labels,
        layer: impl FnOnce(&Snapshot) -> Result<(Tree, &'a str)>,
        check: impl FnOnce(&Store) -> Result<()>,
    ) -> std::result::Result<Committed, Uncommitted> {
        let layer = self.load(snapshot, layer).map_err(Uncommitted::certain)?;
        let mut store = lock(&self.snapshotter.store);
        check(&store).map_err(Uncommitted::certain)?;
        store.commit(self.name, self.key, layer, labels)
    }

    /// Make the image of the snapshot, and load it.
    fn load<'a>(
        &self,
        snapshot: &Snapshot,
        layer: impl FnOnce(&Snapshot) -> Result<(Tree, &'a str)>,
    ) -> Result<Layer> {
        let Snapshotter { store, images, .. } = self.snapshotter;
        images.memory.check()?;
        // An earlier commit may have failed after its image was made.
        images.forget(&snapshot.dir)?;
        let below = lock(store).below(&snapshot.record.parent)?;
        let below = below.as_ref().map(|below| &*below.dir);
        let (tree, ready) = layer(snapshot)?;
        let layer = images.make(&snapshot.dir, below, tree, ready)?;
        let lower = self.snapshotter.load(snapshot, &layer.sha256)?;
        // No directory of a snapshot on top of it has a longer name.
        let longest = Snapshot {
            dir: snapshot.dir.with_file_name(u64::MAX.to_string()),
            ..snapshot.clone()
        };
        options(&longest, &lower)?;
        Ok(layer)
    }
}

/// A layer that cannot be removed until this is dropped.
struct Pin<'a> {
    snapshotter: &'a Snapshotter,
    layer: Option<Snapshot>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if let Some(layer) = &self.layer {
            lock(&self.snapshotter.store).unpin(&layer.record.name);
        }
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        lock(&self.snapshotter.store).give_up(self.name, self.key);
    }
}

/// Return how to mount `snapshot`, on top of an image with these lower layers that is mounted in a directory.
fn mounts(snapshot: &Snapshot, below: Option<(PathBuf, String)>) -> Result<Vec<Mount>> {
    let writable = snapshot.record.state == State::Active;
    let (dir, lower) = match below {
        Some((_, lower)) if writable => (None, lower),
        Some((dir, _)) => (Some(dir), String::new()),
        None => (Some(snapshot.upper()), String::new()),
    };
    if let Some(dir) = dir {
        let mode = if writable { "rw" } else { "ro" };
        return Ok(vec![Mount {
            r#type: "bind".into(),
            source: text(&dir)?,
            target: String::new(),
            options: vec![mode.into(), "rbind".into()],
        }]);
    }
    Ok(vec![Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: options(snapshot, &lower)?,
    }])
}

/// Return the options of the mount of an active snapshot on top of these lower layers.
fn options(snapshot: &Snapshot, lower: &str) -> Result<Vec<String>> {
    // An upper directory may be used with the same layers in another mount. It has the data of all of its files.
    let options = vec![
        "index=off".to_owned(),
        "metacopy=off".to_owned(),
        "redirect_dir=off".to_owned(),
        format!("workdir={}", text(&snapshot.work())?),
        format!("upperdir={}", text(&snapshot.upper())?),
        format!("lowerdir={lower}"),
    ];
    let length: usize = options.iter().map(|option| option.len() + 1).sum();
    if length > OPTIONS_MAX {
        let dir = daxfs_writer::shown(&snapshot.dir);
        return Err(Error::Unsupported(format!(
            "{dir}: the options of a mount have {length} bytes, and mount(2) takes {OPTIONS_MAX}; use a root with a shorter name"
        )));
    }
    Ok(options)
}

/// Return a path as text.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Invalid(format!("{}: not UTF-8", daxfs_writer::shown(path))))
}
