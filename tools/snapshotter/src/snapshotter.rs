// SPDX-License-Identifier: GPL-2.0-only

//! The snapshotter: implementation of the service's calls.
//!
//! The snapshots are locked while a record is written, but never while an image is made or loaded.
//! So long calls do not delay others, except that calls that load images wait for each other, as do
//! calls that make images.
//!
//! containerd calls [`Snapshotter::commit`] inside a transaction of its metadata, but calls that
//! wait for images outside of one. So a commit only writes a record. [`Snapshotter::finish`] makes
//! the image after the answer, and calls for snapshots on top of the layer wait for the image.

use crate::api::{Info, Kind, Labels, Mount};
use crate::config::Config;
use crate::error::{warn, warn_of, Error, Result};
use crate::files::forget_changes;
use crate::idmap::IdMap;
use crate::images::{upper, Images};
use crate::loader::Loader;
use crate::record::{Disk, Layer, Record, Snapshot, State};
use crate::snapshots::{sweep, Snapshots};
use crate::tree::{measure, Size};
use daxfs_files::digest::hex;
use daxfs_store::{lock, merge_upper, Exported};
use mkdaxfs::input::{layer, Options};
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::tree::ROOT;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};
use tonic::Code;

/// The snapshotter. All methods may block, and may be called concurrently.
pub struct Snapshotter {
    snapshots: Mutex<Snapshots>,
    images: Images,
    /// Held while an image is made: one at a time.
    making: Mutex<()>,
    /// Held while images are unloaded to make room for another, until that image is loaded.
    evicting: Mutex<()>,
    /// Held while packs are removed.
    collecting: Mutex<()>,
    /// Number of failed calls by code.
    failed: Mutex<BTreeMap<String, u64>>,
    /// Bytes that all images may use, or 0 for no limit.
    limit: u64,
}

/// The content of a layer to apply to a snapshot.
pub enum Content {
    /// The file with the layer's archive.
    Archive(PathBuf),
    /// Another store's image.
    Image {
        /// containerd's content store.
        dir: PathBuf,
        /// Digests of the image and of its packs.
        digests: Vec<String>,
    },
}

/// Maximum length of mount options: a page, minus the names of options that containerd adds.
const OPTIONS_MAX: usize = 4000;

impl Snapshotter {
    /// Opens the snapshots of an earlier run, and removes the remains of a crash;
    /// [`Snapshotter::tidy`] removes the rest. Records are written to `disk`.
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
            failed: Mutex::default(),
            limit: config.memory.limit,
        })
    }

    /// Removes store data that no snapshot needs, then makes pending images. Runs beside other
    /// calls, because this can take a long time.
    pub fn tidy(&self) {
        self.images.collect();
        let pending = lock(&self.snapshots).pending();
        for name in pending {
            warn_of(self.bring_up(&name));
        }
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

    /// Returns the sizes of the images of `snapshots` and of their packs, by SHA-256.
    fn parts_of(&self, snapshots: &[Snapshot]) -> BTreeMap<String, u64> {
        let parts = snapshots.iter().map(|other| self.images.parts(&other.dir));
        parts.flat_map(Result::unwrap_or_default).collect()
    }

    /// Loads the snapshot's image, which has this SHA-256, unless it is in memory.
    fn load(&self, snapshot: &Snapshot, sha256: &str) -> Result<()> {
        let load = || self.images.load(&snapshot.dir, sha256);
        self.make_room(&load, &|| self.images.parts(&snapshot.dir))
    }

    /// Frees memory for a pack of `size` bytes that a container waits for.
    pub fn make_room_for_pack(&self, size: u64) -> Result<()> {
        let pack = || Ok(BTreeMap::from([(String::new(), size)]));
        self.make_room(&|| self.images.check_pack(size), &pack)
    }

    /// Calls `load`. If there is no room, unloads unused images, provided they are enough for
    /// `parts`, sizes by SHA-256. They are loaded again when needed.
    fn make_room(
        &self,
        load: &dyn Fn() -> Result<()>,
        parts: &dyn Fn() -> Result<BTreeMap<String, u64>>,
    ) -> Result<()> {
        match load() {
            Err(error) if error.missing_memory(0).is_some() => {}
            loaded => return loaded,
        }
        // Another call may have unloaded all of them for this image, but not loaded it yet.
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
        // Parts that are already in memory need nothing.
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
            // From now on, a call that needs the image waits until it is unloaded, and reloads it.
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

    /// Creates a snapshot on top of the committed snapshot `parent`, if that is not empty.
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
        mounts(&snapshot, below).inspect_err(|_| warn_of(self.remove(key)))
    }

    /// Prevents removal of the committed snapshot `parent`, if not empty. Waits for its image.
    fn pin(&self, parent: &str) -> Result<Pin<'_>> {
        let layer = lock(&self.snapshots).pin(parent)?;
        let snapshotter = self;
        let mut pin = Pin { snapshotter, layer };
        self.finish(parent)?;
        pin.layer = lock(&self.snapshots).below(parent)?;
        Ok(pin)
    }

    /// Loads the layer of `pin`, if any. Returns where it is mounted.
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

    /// Returns the attributes of a layer's root directory.
    fn root_of(&self, snapshot: &Snapshot) -> Result<Metadata> {
        let dir = snapshot.layer();
        std::fs::metadata(&dir).map_err(Error::io(&dir, "examine"))
    }

    /// Returns the mounts for the active snapshot or the view `key`. Loads its layers if they are
    /// not in memory.
    ///
    /// Returns [`Error::NotFound`], or [`Error::State`] if it is committed or if a layer cannot be
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

    /// Builds a layer's image for the active snapshot with the directory `upper`, so that a commit
    /// only writes a record. Returns the uncompressed layer's digest and size, or `None` if no such
    /// snapshot is empty.
    ///
    /// Returns [`Error::NotFound`] if the snapshot is removed, [`Error::Gone`] if not `wanted` at
    /// first.
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
        let below = pin.layer.as_ref();
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
            // containerd fetches the packs meanwhile.
            Exported::wait(dir, digests, &still)?;
        }
        let applied = {
            let _making = lock(&self.making);
            // Another call may have applied and committed a layer, or removed the snapshot.
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
                applied.inspect_err(|_| warn_of(self.images.forget(dir)))
            })
        };
        // Removals may have left this to us.
        self.collect();
        applied
    }

    /// Builds the image of `dir` from a layer's archive. Returns it, and the archive's digest and
    /// size.
    fn unpack(
        &self,
        dir: &Path,
        below: Option<&Snapshot>,
        archive: &Path,
    ) -> Result<(Layer, (String, u64))> {
        self.images.check_room(dir, below, 0)?;
        let mut told = Default::default();
        let made = self.images.make(dir, below, |builder| {
            let options = Options {
                warn: &|warning| warn(&warning),
                ..Options::new(dir)
            };
            // containerd ignores an archive's entry for the root directory.
            let root = builder.tree.node(ROOT).attributes;
            told = layer(builder, archive, &options)?;
            builder.tree.nodes[ROOT as usize].attributes = root;
            Ok(())
        })?;
        Ok((made, (format!("sha256:{}", hex(&told.0)), told.1)))
    }

    /// Commits the active snapshot `key` as `name`: writes its files to disk, then its record.
    /// [`Snapshotter::bring_up`] makes its image and loads it.
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
            // These are empty. The next start removes the rest.
            warn_of(forget_changes(&snapshot));
        }
        Ok(())
    }

    /// Builds the image of the committed snapshot `name`, if it has none, and loads it. Unloads an
    /// unused parent.
    ///
    /// Returns the errors of [`Snapshotter::finish`], or why the image cannot be loaded. A later
    /// call that needs the image retries.
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
        // Removals may have left this to us.
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

    /// Builds the image of the committed snapshot `name`, if it has none.
    ///
    /// Returns [`Error::Unmade`] if that fails. The next call retries, even one that waited.
    pub fn finish(&self, name: &str) -> Result<()> {
        if self.pending(name)?.is_none() {
            return Ok(());
        }
        let making = lock(&self.making);
        let made = self.make(name);
        drop(making);
        // Removals may have left this to us.
        self.collect();
        made
    }

    /// Returns the committed snapshot `name` and its parent, if it has no image.
    fn pending(&self, name: &str) -> Result<Option<(Snapshot, Option<Snapshot>)>> {
        let snapshots = lock(&self.snapshots);
        let snapshot = match snapshots.get(name) {
            Ok(snapshot) if snapshot.record.state == State::Pending => snapshot.clone(),
            _ => return Ok(None),
        };
        let below = snapshots.below(&snapshot.record.parent)?;
        Ok(Some((snapshot, below)))
    }

    /// Like [`Snapshotter::finish`], while no other image is made.
    fn make(&self, name: &str) -> Result<()> {
        let Some((snapshot, below)) = self.pending(name)? else {
            return Ok(());
        };
        let make = || -> Result<_> {
            // An earlier run may have failed after making the image.
            self.images.forget(&snapshot.dir)?;
            let inodes = measure(&snapshot.upper())?.inodes;
            let below = below.as_ref();
            self.images.check_room(&snapshot.dir, below, inodes)?;
            let tree = upper(&snapshot.upper(), &snapshot.dir)?;
            let merge = |builder: &mut Builder| Ok(merge_upper(builder, tree)?);
            let layer = self.images.make(&snapshot.dir, below, merge)?;
            lock(&self.snapshots).finish(&snapshot, layer)
        };
        let durable = match make() {
            Ok(made) => made,
            Err(error) => {
                warn_of(self.images.forget(&snapshot.dir));
                // A removal does not wait for this.
                if self.is_gone(&snapshot) {
                    return Ok(());
                }
                let (name, code, why) = (name.into(), error.code(), error.to_string());
                return Err(Error::Unmade { name, code, why });
            }
        };
        // Otherwise, if the next start finds the old record, it makes the image again.
        warn_of(durable.and_then(|()| forget_changes(&snapshot)));
        if self.is_gone(&snapshot) {
            self.discard(snapshot.dir);
        }
        Ok(())
    }

    /// Unloads the image of the snapshot `parent`, below another one, unless it is in use. The two
    /// share most packs.
    fn unload_below(&self, parent: &str) {
        let Ok(Some(below)) = lock(&self.snapshots).below(parent) else {
            return;
        };
        let is_unused = || lock(&self.snapshots).is_unused(&below);
        warn_of(self.images.evict(&below.dir, &is_unused));
    }

    /// Removes the snapshot `name`, and frees its memory.
    pub fn remove(&self, name: &str) -> Result<()> {
        let snapshot = lock(&self.snapshots).remove(name)?;
        self.discard(snapshot.dir);
        if !matches!(snapshot.record.state, State::Active | State::View) {
            self.collect();
        }
        Ok(())
    }

    /// Removes the packs that no image needs. If an image is being made, that call does this.
    fn collect(&self) {
        let _collecting = lock(&self.collecting);
        match self.making.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            _making => self.images.collect(),
        }
    }

    /// Removes the directory `dir`, which has no record, and its image.
    fn discard(&self, dir: PathBuf) {
        warn_of(sweep(&[dir], &self.images));
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

    /// Changes labels, like [`Snapshots::update`].
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

    /// Returns the space that the snapshot `name` occupies, without snapshots below it: what a
    /// layer added to the store, or space on disk.
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
            // Meanwhile, the image may have been made and the directory removed.
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

/// Returns the mounts for `snapshot`, on top of an image that is mounted on `below`.
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

/// Returns the mount options of an active snapshot on top of the image at the directory `lower`.
fn options(snapshot: &Snapshot, lower: &Path) -> Result<Vec<String>> {
    // An upper directory has all of its files' data, and may be reused on another mount.
    let mut options = vec![
        "index=off".to_owned(),
        "metacopy=off".to_owned(),
        "redirect_dir=off".to_owned(),
        format!("workdir={}", text(&snapshot.work())?),
        format!("upperdir={}", text(&snapshot.upper())?),
    ];
    let lower = text(lower)?;
    match IdMap::of(&snapshot.record)? {
        // containerd 2.1 makes an idmapped mount of the only layer's parent, including all mounts
        // below, and then unmounts only the parent. With a dot, the parent is the layer.
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
