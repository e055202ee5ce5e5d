// SPDX-License-Identifier: GPL-2.0-only

//! The snapshotter: implementation of the service's calls.
//!
//! The store is locked while a record is written, and never while an image is made or loaded. So
//! calls that take long do not hold up others; only calls that need the same layer or change the same device wait.

use crate::api::{Info, Labels, Mount};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{forget_changes, forget_layer, warn};
use crate::filter::Filter;
use crate::layer;
use crate::memory::Memory;
use crate::place::{lock, Evicted};
use crate::ready::{Candidate, Existing, Ready};
use crate::record::{Disk, Layer, Real, Record, Snapshot, State};
use crate::store::{sweep, Committed, Store, Uncommitted};
use crate::tree::{measure, remove_tree, Size};
use std::fs::Metadata;
use std::path::Path;
use std::sync::Mutex;

/// The snapshotter. All methods may block, and may be called by several threads at the same time.
pub struct Snapshotter {
    config: Config,
    ready: Ready,
    store: Mutex<Store>,
    memory: Box<dyn Memory>,
}

impl Snapshotter {
    /// Open the snapshots of an earlier run, and remove the remains of a crash.
    pub fn open(config: &Config, memory: Box<dyn Memory>) -> Result<Self> {
        Self::open_on(config, memory, Box::new(Real))
    }

    /// As [`Snapshotter::open`], and write records to `disk`.
    pub fn open_on(config: &Config, memory: Box<dyn Memory>, disk: Box<dyn Disk>) -> Result<Self> {
        let ready = Ready::new(config)?;
        let store = Store::open(&config.root, disk, &|dir| memory.unload(dir))?;
        let layers = store.all().filter_map(|snapshot| {
            let State::Committed(layer) = &snapshot.record.state else {
                return None;
            };
            Some((layer.clone(), snapshot.layer()))
        });
        memory.adopt(&layers.collect::<Vec<_>>());
        Ok(Snapshotter {
            config: config.clone(),
            ready,
            store: Mutex::new(store),
            memory,
        })
    }

    /// Load these layers unless they are in memory.
    fn load(&self, layers: &[Snapshot]) -> Result<()> {
        for (index, snapshot) in layers.iter().enumerate() {
            if let State::Committed(layer) = &snapshot.record.state {
                self.load_image(snapshot, layer, &layers[index + 1..])?;
            }
        }
        Ok(())
    }

    /// Return the bytes of the image of a layer that is not in memory.
    fn unloaded(&self, snapshot: &Snapshot) -> u64 {
        match &snapshot.record.state {
            State::Committed(layer) if self.memory.size(&snapshot.layer()) == 0 => layer.size,
            _ => 0,
        }
    }

    /// Load the image of a snapshot, before the images of `later`. If it does not fit, unload layers that nothing uses,
    /// if they are enough for all. They are loaded again when they are needed.
    fn load_image(&self, snapshot: &Snapshot, layer: &Layer, later: &[Snapshot]) -> Result<()> {
        let load = || {
            let dir = snapshot.layer();
            self.memory.load(&snapshot.image(), layer, &dir)
        };
        let Err(mut error) = load() else {
            return Ok(());
        };
        let Some(missing) = error.missing_memory(layer.size) else {
            return Err(error);
        };
        let unused = lock(&self.store).unused();
        let unused: Vec<_> = unused
            .iter()
            .map(|other| (other, self.memory.size(&other.layer())))
            .filter(|(other, size)| *size > 0 && is_on_disk(other))
            .collect();
        let room: u64 = unused.iter().map(|(_, size)| size).sum();
        let left: u64 = later.iter().map(|later| self.unloaded(later)).sum();
        if room < missing.saturating_add(left) {
            return Err(error);
        }
        for (other, _) in unused {
            // A call that needs it from now on waits until it is unloaded, and then loads it.
            let is_unused = || lock(&self.store).is_unused(other);
            match self.memory.evict(&other.layer(), &is_unused) {
                Ok(Evicted::Free) => {}
                Ok(Evicted::Used) => continue,
                // The others may be in use there as well.
                Ok(Evicted::Elsewhere) => return Err(error),
                Err(failed) => {
                    warn(&failed);
                    continue;
                }
            }
            match load() {
                Err(next) if next.missing_memory(layer.size).is_some() => error = next,
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
        let layers = &pin.layers;
        self.load(layers)?;
        let like = match layers.first() {
            Some(parent) => Some(self.root_of(parent)?),
            None => None,
        };
        let record = Record::new(key, parent, state, labels);
        let snapshot = lock(&self.store).create(record, like.as_ref())?;
        if let Some(ready) = ready {
            self.commit_ready(&ready, &snapshot)?;
        }
        mounts(&snapshot, layers)
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
        pins.iter().try_for_each(|pin| self.load(&pin.layers))?;
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
        let image = |snapshot: &Snapshot| self.ready.copy(ready, &snapshot.image());
        let check = |store: &Store| match ready.existing(store, parent) {
            Existing::None => Ok(()),
            Existing::Same(_) => Err(ready.exists_error()),
            Existing::Other(name) => Err(ready.other_error(&name)),
        };
        let labels = labels.clone().into_iter().collect();
        let Err(uncommitted) = self.commit_image(&name, key, labels, image, check) else {
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

    /// Keep the layers of a snapshot with the parent `parent` from being removed.
    fn pin(&self, store: &mut Store, parent: &str) -> Result<Pin<'_>> {
        let layers = store.pin(parent)?;
        let snapshotter = self;
        Ok(Pin {
            snapshotter,
            layers,
        })
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
        self.load(&pin.layers)?;
        mounts(&snapshot, &pin.layers)
    }

    /// Make the image of the active snapshot `key`, load it, and make it the committed snapshot
    /// `name`.
    pub fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        let image = |snapshot: &Snapshot| {
            let mut warn = |warning| eprintln!("daxfs-snapshotter: warning: {warning}");
            layer::image(
                &snapshot.upper(),
                &snapshot.image(),
                &self.config.image,
                &mut warn,
            )
        };
        self.commit_image(name, key, labels, image, |_| Ok(()))
            .map_err(|uncommitted| uncommitted.error)
    }

    /// As [`Snapshotter::commit`], with the image that `image` makes. Fail if `check` does when the
    /// image is loaded.
    fn commit_image(
        &self,
        name: &str,
        key: &str,
        labels: Labels,
        image: impl FnOnce(&Snapshot) -> Result<Layer>,
        check: impl FnOnce(&Store) -> Result<()>,
    ) -> std::result::Result<(), Uncommitted> {
        let begun = lock(&self.store).begin(name, key);
        let snapshot = begun.map_err(Uncommitted::certain)?;
        let commit = Commit {
            snapshotter: self,
            name,
            key,
        };
        match commit.run(&snapshot, labels, image, check) {
            Ok(Committed { snapshot, durable }) => {
                // Otherwise the next start does it.
                if let Some(Err(error)) = durable.then(|| forget_changes(&snapshot)) {
                    warn(&error);
                }
                Ok(())
            }
            Err(uncommitted) => {
                let forget = || forget_layer(&snapshot, &|dir| self.memory.unload(dir));
                if let Some(Err(error)) = uncommitted.certain.then(forget) {
                    warn(&error);
                }
                Err(uncommitted)
            }
        }
    }

    /// Remove the snapshot `name`, and give its memory back.
    pub fn remove(&self, name: &str) -> Result<()> {
        let snapshot = lock(&self.store).remove(name)?;
        let removed = self.memory.unload(&snapshot.layer());
        if let Err(error) = removed.and_then(|()| remove_tree(&snapshot.dir)) {
            warn(&error);
        }
        Ok(())
    }

    /// Remove what earlier calls of [`Snapshotter::remove`] could not.
    pub fn cleanup(&self) -> Result<()> {
        let dirs = lock(&self.store).leftovers()?;
        sweep(&dirs, &|dir| self.memory.unload(dir))
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

    /// Return the snapshots that match one of `filters`, or all without a filter, by name.
    ///
    /// Return [`Error::Invalid`] for a filter.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Info>> {
        let filters: Result<Vec<Filter>> = filters.iter().map(|text| Filter::parse(text)).collect();
        let filters = filters?;
        let store = lock(&self.store);
        let wanted = |record: &Record| {
            filters.is_empty() || filters.iter().any(|filter| filter.matches(record))
        };
        let all = store.all().map(|snapshot| &snapshot.record);
        let mut found: Vec<Info> = all
            .filter(|record| wanted(record))
            .map(Record::info)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Return the space that the snapshot `name` takes, without snapshots below it: the size of a layer's image, or the
    /// space on disk.
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
    fn run(
        &self,
        snapshot: &Snapshot,
        labels: Labels,
        image: impl FnOnce(&Snapshot) -> Result<Layer>,
        check: impl FnOnce(&Store) -> Result<()>,
    ) -> std::result::Result<Committed, Uncommitted> {
        let layer = self.load(snapshot, image).map_err(Uncommitted::certain)?;
        let mut store = lock(&self.snapshotter.store);
        check(&store).map_err(Uncommitted::certain)?;
        store.commit(self.name, self.key, layer, labels)
    }

    /// Make the image of the snapshot, and load it.
    fn load(
        &self,
        snapshot: &Snapshot,
        image: impl FnOnce(&Snapshot) -> Result<Layer>,
    ) -> Result<Layer> {
        let memory = &self.snapshotter.memory;
        memory.check()?;
        // An earlier commit may have failed after its image was loaded.
        memory.unload(&snapshot.layer())?;
        let layer = image(snapshot)?;
        self.snapshotter.load_image(snapshot, &layer, &[])?;
        Ok(layer)
    }
}

/// Layers that cannot be removed until this is dropped.
struct Pin<'a> {
    snapshotter: &'a Snapshotter,
    layers: Vec<Snapshot>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        lock(&self.snapshotter.store).unpin(&self.layers);
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        lock(&self.snapshotter.store).give_up(self.name, self.key);
    }
}

/// Return whether the image of a layer can be loaded again, as far as its length says.
fn is_on_disk(snapshot: &Snapshot) -> bool {
    match &snapshot.record.state {
        State::Committed(layer) => std::fs::symlink_metadata(snapshot.image())
            .is_ok_and(|status| status.len() == layer.size),
        _ => false,
    }
}

/// Return how to mount `snapshot` on top of `layers`.
fn mounts(snapshot: &Snapshot, layers: &[Snapshot]) -> Result<Vec<Mount>> {
    let writable = snapshot.record.state == State::Active;
    let bind = |dir: &Path| {
        let mode = if writable { "rw" } else { "ro" };
        Ok(vec![Mount {
            r#type: "bind".into(),
            source: text(dir)?,
            target: String::new(),
            options: vec![mode.into(), "rbind".into()],
        }])
    };
    match layers {
        [] => return bind(&snapshot.upper()),
        [layer] if !writable => return bind(&layer.layer()),
        _ => {}
    }
    // An upper directory may be used with the same layers in another mount.
    let mut options = vec!["index=off".to_owned()];
    if writable {
        options.push(format!("workdir={}", text(&snapshot.work())?));
        options.push(format!("upperdir={}", text(&snapshot.upper())?));
    }
    let lower: Result<Vec<String>> = layers.iter().map(|layer| text(&layer.layer())).collect();
    options.push(format!("lowerdir={}", lower?.join(":")));
    Ok(vec![Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options,
    }])
}

/// Return a path as text.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Invalid(format!("{}: not UTF-8", daxfs_writer::shown(path))))
}
