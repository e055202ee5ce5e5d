// SPDX-License-Identifier: GPL-2.0-only

//! The snapshotter: implementation of the service's calls.
//!
//! The snapshots are locked while a record is written, and never while an image is made or loaded. So
//! calls that take long do not hold up others; only calls that load images, and calls that make them, wait for each
//! other.
//!
//! containerd calls [`Snapshotter::commit`] inside a transaction of its metadata, and calls that wait for images outside of
//! it. So a commit only writes a record. [`Snapshotter::finish`] makes the image after the answer, and calls for
//! snapshots on top of the layer wait for it.

use crate::api::{Info, Kind, Labels, Mount};
use crate::config::Config;
use crate::error::{warn, Error, Result};
use crate::files::forget_changes;
use crate::idmap::IdMap;
use crate::images::{upper, Images};
use crate::loader::Loader;
use crate::record::{Disk, Layer, Record, Snapshot, State};
use crate::snapshots::{sweep, Snapshots};
use crate::tree::{measure, Size};
use daxfs_files::digest::hex;
use daxfs_files::Silent;
use daxfs_store::{lock, merge_upper, Exported};
use mkdaxfs::input::{layer, Options};
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::tree::ROOT;
use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, Metadata};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use tonic::Code;

/// The snapshotter. All methods may block, and may be called by several threads at the same time.
pub struct Snapshotter {
    snapshots: Mutex<Snapshots>,
    images: Images,
    /// Held while an image is made: one at a time.
    making: Mutex<Making>,
    /// Held while images are unloaded to make room for another one, until that is loaded.
    evicting: Mutex<()>,
    /// Held while packs are removed.
    collecting: Mutex<()>,
    /// The number of failed attempts.
    failures: AtomicU64,
    /// How many calls failed, by code.
    failed: Mutex<BTreeMap<String, u64>>,
    /// Bytes that all images may take, or 0.
    limit: u64,
}

/// The last failed attempt to make an image for each layer, with its number.
type Making = HashMap<String, (u64, Code, String)>;

/// The content of a layer that is applied to a snapshot.
pub enum Content {
    /// An archive of a layer in this file.
    Archive(PathBuf),
    /// An image of another store.
    Image {
        /// Containerd's store of content.
        dir: PathBuf,
        /// Digests of the image and of its packs.
        digests: Vec<String>,
    },
}

/// Longest options of a mount: a page, without the names of options that containerd adds.
const OPTIONS_MAX: usize = 4000;

impl Snapshotter {
    /// Opens the snapshots of an earlier run, and removes the remains of a crash. [`Snapshotter::tidy`] removes the others.
    /// Records are written to `disk`.
    pub fn open(config: &Config, memory: Box<dyn Loader>, disk: Box<dyn Disk>) -> Result<Self> {
        let dir = config.root.join("snapshots");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&dir).map_err(Error::io(&dir, "create"))?;
        daxfs_store::sync_parent(&config.root).map_err(Error::io(&config.root, "sync"))?;
        let images = Images::open(config, memory)?;
        let snapshots = Snapshots::open(dir, disk, &images)?;
        Ok(Snapshotter {
            snapshots: Mutex::new(snapshots),
            images,
            making: Mutex::default(),
            evicting: Mutex::default(),
            collecting: Mutex::default(),
            failures: AtomicU64::new(0),
            failed: Mutex::default(),
            limit: config.memory.limit,
        })
    }

    /// Removes what the snapshots of an earlier run do not need from the store, and makes images that are pending. Other calls
    /// can be served at the same time, because this may take long.
    pub fn tidy(&self) {
        self.images.collect();
        let pending = lock(&self.snapshots).pending();
        let finished = pending.iter().map(|name| self.bring_up(name));
        finished
            .filter_map(Result::err)
            .for_each(|error| warn(&error));
    }

    /// Counts a call that failed with `code`.
    pub fn count(&self, code: Code) {
        *lock(&self.failed).entry(format!("{code:?}")).or_default() += 1;
    }

    /// Returns the metrics in Prometheus's text format.
    pub fn metrics(&self) -> String {
        let mut layers: Vec<Snapshot> = lock(&self.snapshots).all().cloned().collect();
        layers.retain(|layer| layer.record.is_layer());
        let count = layers.len() as u64;
        let is_pending = |layer: &&Snapshot| layer.record.state == State::Pending;
        let pending = layers.iter().filter(is_pending).count() as u64;
        layers.retain(|layer| self.images.is_loaded(&layer.dir));
        let bytes = self.images.memory.bytes();
        let images = layers.len() as u64;
        let mut text = String::new();
        for (name, value, help) in [
            ("layers", count, "Committed snapshots."),
            ("layers_pending", pending, "Layers without an image so far."),
            ("images_loaded", images, "Images in memory."),
            ("loaded_bytes", bytes, "Bytes of images in memory."),
            ("limit_bytes", self.limit, "Most bytes of images, or 0."),
        ] {
            let name = format!("daxfs_snapshotter_{name}");
            text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        let name = "daxfs_snapshotter_failures_total";
        text += &format!("# HELP {name} Failed calls, by gRPC code.\n# TYPE {name} counter\n");
        for (code, number) in &*lock(&self.failed) {
            text += &format!("{name}{{code=\"{code}\"}} {number}\n");
        }
        text
    }

    /// Returns the bytes of the images of `snapshots` and of their packs, by SHA-256.
    fn parts_of(&self, snapshots: &[Snapshot]) -> BTreeMap<String, u64> {
        let parts = snapshots.iter().map(|other| self.images.parts(&other.dir));
        parts.flat_map(Result::unwrap_or_default).collect()
    }

    /// Loads the image with this SHA-256 of a snapshot, unless it is in memory.
    fn load(&self, snapshot: &Snapshot, sha256: &str) -> Result<()> {
        let load = || self.images.load(&snapshot.dir, sha256);
        self.make_room(&load, &|| self.images.parts(&snapshot.dir))
    }

    /// Makes room for a pack of `size` bytes, which a container waits for.
    pub fn make_room_for_pack(&self, size: u64) -> Result<()> {
        let pack = || Ok(BTreeMap::from([(String::new(), size)]));
        self.make_room(&|| self.images.check_pack(size), &pack)
    }

    /// Calls `load`. If there is no room, unloads images that nothing uses, if they are enough for `parts`, by SHA-256. They
    /// are loaded again when they are needed.
    fn make_room(
        &self,
        load: &dyn Fn() -> Result<()>,
        parts: &dyn Fn() -> Result<BTreeMap<String, u64>>,
    ) -> Result<()> {
        match load() {
            Err(error) if error.missing_memory(0).is_some() => {}
            loaded => return loaded,
        }
        // Another call may have unloaded all of them for the same image, and not have loaded it yet.
        let _evicting = lock(&self.evicting);
        let mut error = match load() {
            Err(error) if error.missing_memory(0).is_some() => error,
            loaded => return loaded,
        };
        let parts = parts()?;
        let (mut unused, mut others) = {
            let snapshots = lock(&self.snapshots);
            let others: Vec<Snapshot> = snapshots.all().cloned().collect();
            (snapshots.unused(), others)
        };
        let is_there = |other: &Snapshot| self.images.is_loaded(&other.dir);
        unused.retain(is_there);
        others.retain(|other| is_there(other) && unused.iter().all(|it| it.dir != other.dir));
        let (mut free, used) = (self.parts_of(&unused), self.parts_of(&others));
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
            let is_unused = || lock(&self.snapshots).is_unused(&other);
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

    /// Creates a snapshot on top of the committed snapshot `parent`, or of nothing if that is empty.
    pub fn create(
        &self,
        key: &str,
        parent: &str,
        state: State,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        lock(&self.snapshots).check_free(key)?;
        let pin = self.pin(parent)?;
        let below = self.load_pinned(&pin)?;
        let like = match &pin.layer {
            Some(parent) => Some(self.root_of(parent)?),
            None => None,
        };
        let record = Record::new(key, parent, state, labels);
        let snapshot = lock(&self.snapshots).create(record, like.as_ref())?;
        mounts(&snapshot, below).inspect_err(|_| {
            if let Err(error) = self.remove(key) {
                warn(&error);
            }
        })
    }

    /// Keeps the committed snapshot `parent`, if that is not empty, from being removed. Waits until its image is made.
    fn pin(&self, parent: &str) -> Result<Pin<'_>> {
        let layer = lock(&self.snapshots).pin(parent)?;
        let snapshotter = self;
        let mut pin = Pin { snapshotter, layer };
        self.finish(parent)?;
        pin.layer = lock(&self.snapshots).below(parent)?;
        Ok(pin)
    }

    /// Loads the layer of `pin`, if there is one. Returns where it is mounted.
    fn load_pinned(&self, pin: &Pin<'_>) -> Result<Option<PathBuf>> {
        let Some(snapshot) = &pin.layer else {
            return Ok(None);
        };
        let State::Committed(layer) = &snapshot.record.state else {
            return Ok(None);
        };
        self.load(snapshot, &layer.sha256)?;
        Ok(Some(snapshot.layer()))
    }

    /// Returns the attributes of the root directory of a layer.
    fn root_of(&self, snapshot: &Snapshot) -> Result<Metadata> {
        let dir = snapshot.layer();
        std::fs::metadata(&dir).map_err(Error::io(&dir, "examine"))
    }

    /// Returns how to mount the active snapshot or the view `key`. Loads its layers if they are not in
    /// memory.
    ///
    /// Returns [`Error::NotFound`], [`Error::State`] if it is committed, or if a layer cannot be
    /// loaded.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let snapshot = lock(&self.snapshots).usable(key)?.clone();
        let why = match snapshot.record.state {
            State::Active | State::View => None,
            State::Applied(_) => Some("has a layer, which is not mounted before it is committed"),
            _ => Some("is committed; only active snapshots and views have mounts"),
        };
        if let Some(why) = why {
            return Err(Error::state(key, why));
        }
        let pin = self.pin(&snapshot.record.parent)?;
        mounts(&snapshot, self.load_pinned(&pin)?)
    }

    /// Makes the image of a layer for the active snapshot that writes to the directory `upper`. Its commit needs no more
    /// than its record. Returns digest and size of the layer without compression, or `None` if no such snapshot is empty.
    ///
    /// Returns [`Error::NotFound`] if the snapshot is removed, and [`Error::Gone`] if it is not `wanted` before it begins.
    pub fn apply(
        &self,
        upper: &Path,
        content: &Content,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<(String, u64)>> {
        let find = || match lock(&self.snapshots).empty(upper)? {
            Some(snapshot) if snapshot.record.state != State::Active => {
                let why = "has a layer already; remove it, and prepare another one";
                Err(Error::state(&snapshot.record.name, why))
            }
            found => Ok(found),
        };
        let Some(snapshot) = find()? else {
            return Ok(None);
        };
        self.images.memory.check()?;
        let pin = self.pin(&snapshot.record.parent)?;
        let below = pin.layer.as_ref().map(|layer| &*layer.dir);
        let dir = &snapshot.dir;
        let still = || match find()? {
            _ if !wanted() => Err(Error::Gone),
            Some(found) if found.dir == *dir => Ok(()),
            _ => Err(Error::NotFound(snapshot.record.name.clone())),
        };
        if let Content::Image { dir, digests } = content {
            if below.is_some() {
                let why = "is on top of another layer; an image of daxfs has all files, and is the only layer";
                return Err(Error::state(&snapshot.record.name, why));
            }
            // containerd fetches the packs at the same time.
            Exported::wait(dir, digests, &still)?;
        }
        let applied = {
            let _making = lock(&self.making);
            // Another call may have applied a layer, and committed it, or removed the snapshot.
            still().and_then(|()| {
                // An earlier attempt may have been killed.
                self.images.forget(dir)?;
                let made = match content {
                    Content::Archive(file) => self.unpack(dir, below, file),
                    Content::Image {
                        dir: blobs,
                        digests,
                    } => self.images.import(dir, blobs, digests),
                };
                let applied = made.and_then(|(layer, told)| {
                    lock(&self.snapshots).apply(&snapshot, layer)?;
                    Ok(Some(told))
                });
                applied.inspect_err(|_| {
                    if let Err(error) = self.images.forget(dir) {
                        warn(&error);
                    }
                })
            })
        };
        // Removals may have left it to this call.
        self.collect();
        applied
    }

    /// Makes the image of the snapshot in `dir` of the archive of a layer. Returns it, and digest and size of the archive.
    fn unpack(
        &self,
        dir: &Path,
        below: Option<&Path>,
        archive: &Path,
    ) -> Result<(Layer, (String, u64))> {
        self.images.check_room(dir, below, 0)?;
        let mut told = Default::default();
        let made = self.images.make(dir, below, |builder| {
            let (options, warn) = (Options::new(dir), &mut |warning| warn(&warning));
            // containerd leaves out what an archive says of its root directory.
            let root = builder.tree.node(ROOT).attributes;
            told = layer(builder, archive, &options, &Silent, warn)?;
            builder.tree.nodes[ROOT as usize].attributes = root;
            Ok(())
        })?;
        Ok((made, (format!("sha256:{}", hex(&told.0)), told.1)))
    }

    /// Makes the active snapshot `key` the committed snapshot `name`: write its files to disk, and then its record.
    /// [`Snapshotter::bring_up`] makes its image, and loads it.
    pub fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        self.images.memory.check()?;
        let snapshot = lock(&self.snapshots).uncommitted(name, key)?.clone();
        if snapshot.record.state == State::Active {
            let upper = snapshot.upper();
            let synced = File::open(&upper).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
            synced.map_err(Error::io(&upper, "sync"))?;
        }
        lock(&self.snapshots).commit(name, key, labels)?;
        if let State::Applied(_) = snapshot.record.state {
            // They are empty. The next start removes what is left.
            forget_changes(&snapshot).unwrap_or_else(|error| warn(&error));
        }
        Ok(())
    }

    /// Makes the image of the committed snapshot `name`, if it has none, and loads it. The image below it is unloaded if nothing
    /// uses it.
    ///
    /// Returns the errors of [`Snapshotter::finish`], or why the image cannot be loaded; the next call that needs it tries again.
    pub fn bring_up(&self, name: &str) -> Result<()> {
        self.finish(name)?;
        let making = lock(&self.making);
        let snapshot = match lock(&self.snapshots).get(name) {
            Ok(snapshot) => snapshot.clone(),
            Err(_) => return Ok(()),
        };
        let State::Committed(layer) = &snapshot.record.state else {
            return Ok(());
        };
        let loaded = self.load(&snapshot, &layer.sha256);
        drop(making);
        let is_gone = self.is_gone(&snapshot);
        if is_gone {
            self.discard(snapshot.dir);
        }
        // Removals may have left it to this call.
        self.collect();
        if is_gone {
            return Ok(());
        }
        loaded?;
        self.unload_below(&snapshot.record.parent);
        Ok(())
    }

    /// Returns whether `snapshot` was removed.
    fn is_gone(&self, snapshot: &Snapshot) -> bool {
        let snapshots = lock(&self.snapshots);
        let found = snapshots.get(&snapshot.record.name);
        !found.is_ok_and(|it| it.dir == snapshot.dir)
    }

    /// Makes the image of the committed snapshot `name`, if it has none. If it cannot be made, the next call tries again.
    ///
    /// Returns [`Error::Unmade`] also if another call has failed while this one waited for it.
    pub fn finish(&self, name: &str) -> Result<()> {
        if self.pending(name)?.is_none() {
            return Ok(());
        }
        let before = self.failures.load(Ordering::Acquire);
        let made = self.make(name, before, &mut lock(&self.making));
        // Removals may have left it to this call.
        self.collect();
        made
    }

    /// Returns the committed snapshot `name` and the directory of the one below it, if it has no image.
    fn pending(&self, name: &str) -> Result<Option<(Snapshot, Option<PathBuf>)>> {
        let snapshots = lock(&self.snapshots);
        let snapshot = match snapshots.get(name) {
            Ok(snapshot) if snapshot.record.state == State::Pending => snapshot.clone(),
            _ => return Ok(None),
        };
        let below = snapshots.below(&snapshot.record.parent)?;
        Ok(Some((snapshot, below.map(|below| below.dir))))
    }

    /// Does as [`Snapshotter::finish`], which was called after `before` failed attempts.
    fn make(&self, name: &str, before: u64, making: &mut Making) -> Result<()> {
        let Some((snapshot, below)) = self.pending(name)? else {
            return Ok(());
        };
        let unmade = |code, why| Error::Unmade {
            name: name.into(),
            code,
            why,
        };
        if let Some((number, code, why)) = making.get(name) {
            if *number > before {
                return Err(unmade(*code, why.clone()));
            }
        }
        let make = || -> Result<_> {
            // An earlier run may have failed after the image was made.
            self.images.forget(&snapshot.dir)?;
            let inodes = measure(&snapshot.upper())?.inodes;
            self.images
                .check_room(&snapshot.dir, below.as_deref(), inodes)?;
            let tree = upper(&snapshot.upper(), &snapshot.dir)?;
            let merge = |builder: &mut Builder| Ok(merge_upper(builder, tree)?);
            let layer = self.images.make(&snapshot.dir, below.as_deref(), merge)?;
            lock(&self.snapshots).finish(&snapshot, layer)
        };
        let durable = match make() {
            Ok(made) => made,
            Err(error) => {
                if let Err(error) = self.images.forget(&snapshot.dir) {
                    warn(&error);
                }
                // A removal does not wait for this.
                if self.is_gone(&snapshot) {
                    return Ok(());
                }
                let number = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
                let (code, why) = (error.code(), error.to_string());
                making.retain(|name, _| lock(&self.snapshots).get(name).is_ok());
                making.insert(name.into(), (number, code, why.clone()));
                return Err(unmade(code, why));
            }
        };
        // Otherwise the next start makes it again if it finds the old record.
        if let Err(error) = durable.and_then(|()| forget_changes(&snapshot)) {
            warn(&error);
        }
        if self.is_gone(&snapshot) {
            self.discard(snapshot.dir);
        }
        Ok(())
    }

    /// Unloads the image of the snapshot `parent`, which another one is on top of, unless it is in use. They have most packs
    /// in common.
    fn unload_below(&self, parent: &str) {
        let Ok(Some(below)) = lock(&self.snapshots).below(parent) else {
            return;
        };
        let is_unused = || lock(&self.snapshots).is_unused(&below);
        if let Err(error) = self.images.evict(&below.dir, &is_unused) {
            warn(&error);
        }
    }

    /// Removes the snapshot `name`, and gives its memory back.
    pub fn remove(&self, name: &str) -> Result<()> {
        let snapshot = lock(&self.snapshots).remove(name)?;
        self.discard(snapshot.dir);
        if !matches!(snapshot.record.state, State::Active | State::View) {
            self.collect();
        }
        Ok(())
    }

    /// Removes the packs that no image needs. If an image is being made, that call does it.
    fn collect(&self) {
        let _collecting = lock(&self.collecting);
        match self.making.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            _making => self.images.collect(),
        }
    }

    /// Removes the directory `dir`, which has no record, with its image.
    fn discard(&self, dir: PathBuf) {
        if let Err(error) = sweep(&[dir], &self.images) {
            warn(&error);
        }
    }

    /// Removes what earlier calls of [`Snapshotter::remove`] could not.
    pub fn cleanup(&self) -> Result<()> {
        let dirs = lock(&self.snapshots).leftovers()?;
        let swept = sweep(&dirs, &self.images);
        self.collect();
        swept
    }

    /// Returns the facts about the snapshot `name`.
    pub fn stat(&self, name: &str) -> Result<Info> {
        Ok(lock(&self.snapshots).usable(name)?.record.info())
    }

    /// Changes labels, as [`Snapshots::update`].
    pub fn update(&self, info: Info, paths: &[String]) -> Result<Info> {
        let mut snapshots = lock(&self.snapshots);
        Ok(snapshots
            .update(&info.name, info.labels, paths)?
            .record
            .info())
    }

    /// Returns all snapshots, by name.
    pub fn list(&self) -> Vec<Info> {
        let snapshots = lock(&self.snapshots);
        let mut found: Vec<Info> = snapshots
            .all()
            .map(|snapshot| snapshot.record.info())
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Returns the space that the snapshot `name` takes, without snapshots below it: what a layer has added to the store,
    /// or the space on disk.
    pub fn usage(&self, name: &str) -> Result<Size> {
        loop {
            let snapshot = lock(&self.snapshots).usable(name)?.clone();
            let size = match &snapshot.record.state {
                State::Committed(layer) | State::Applied(layer) => Ok(Size {
                    bytes: layer.size,
                    inodes: layer.inodes,
                }),
                State::View => Ok(Size::default()),
                State::Active | State::Pending => measure(&snapshot.upper()),
            };
            // The image may have been made, and the directory removed.
            if lock(&self.snapshots).get(name)?.record.state == snapshot.record.state {
                return size;
            }
        }
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
            lock(&self.snapshotter.snapshots).unpin(&layer.record.name);
        }
    }
}

/// Returns how to mount `snapshot`, on top of an image that is mounted on the directory `below`.
fn mounts(snapshot: &Snapshot, below: Option<PathBuf>) -> Result<Vec<Mount>> {
    let writable = snapshot.record.kind() == Kind::Active;
    let (kind, source, options) = match below {
        Some(lower) if writable => ("overlay", "overlay".into(), options(snapshot, &lower)?),
        dir => {
            let dir = dir.unwrap_or_else(|| snapshot.upper());
            let mode = if writable { "rw" } else { "ro" };
            ("bind", text(&dir)?, vec![mode.into(), "rbind".into()])
        }
    };
    Ok(vec![Mount {
        r#type: kind.into(),
        source,
        target: String::new(),
        options,
    }])
}

/// Returns the options of the mount of an active snapshot on top of the image on the directory `lower`.
fn options(snapshot: &Snapshot, lower: &Path) -> Result<Vec<String>> {
    // An upper directory may be used with the same layer in another mount. It has the data of all of its files.
    let mut options = vec![
        "index=off".to_owned(),
        "metacopy=off".to_owned(),
        "redirect_dir=off".to_owned(),
        format!("workdir={}", text(&snapshot.work())?),
        format!("upperdir={}", text(&snapshot.upper())?),
    ];
    let lower = text(lower)?;
    match IdMap::of(&snapshot.record)? {
        // containerd 2.1 makes an idmapped mount of the parent of the only layer, with all mounts below it, and
        // then unmounts the parent only. With a dot, the parent is the layer.
        Some(map) => {
            options.extend(map.options());
            options.push(format!("lowerdir={lower}/."));
        }
        None => options.push(format!("lowerdir={lower}")),
    }
    let length: usize = options.iter().map(|option| option.len() + 1).sum();
    if length > OPTIONS_MAX {
        let dir = daxfs_files::shown_path(&snapshot.dir);
        return Err(Error::Unsupported(format!(
            "{dir}: the options of a mount have {length} bytes, and mount(2) takes {OPTIONS_MAX}; use a root with a shorter name"
        )));
    }
    Ok(options)
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Invalid(format!("{}: not UTF-8", daxfs_files::shown_path(path))))
}
