// SPDX-License-Identifier: GPL-2.0-only

//! Tests the service through its socket, on a machine without the kernel module: rules, records,
//! images. Images are unpacked instead of mounted. `tests/containerd` tests the rest with
//! containerd itself.

mod applied;
mod crash;
mod exported;
mod layers;
mod room;
mod rules;

use daxfs_extract::to_directory;
use daxfs_files::signals::Interrupt;
use daxfs_files::Silent;
use daxfs_image::source::Opened;
use daxfs_snapshotter::api::diff_client::DiffClient;
use daxfs_snapshotter::api::snapshots_client::SnapshotsClient;
use daxfs_snapshotter::api::{
    CleanupRequest, CommitSnapshotRequest, Info, Labels, ListSnapshotsRequest, Mount,
    MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
    UpdateSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest,
};
use daxfs_snapshotter::config::Config;
use daxfs_snapshotter::error::{Error, Result};
use daxfs_snapshotter::loader::Loader;
use daxfs_snapshotter::record::{RealDisk, State};
use daxfs_snapshotter::server::serve;
use daxfs_snapshotter::snapshotter::Snapshotter;
use daxfs_store::Store;
use daxfs_testing::options;
use prost_types::FieldMask;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// A directory on disk that stands in for memory, with a limit.
#[derive(Clone, Default)]
pub struct Unpacked {
    /// The loaded images, each with the size of the image and its packs, by SHA-256.
    loaded: Arc<Mutex<BTreeMap<PathBuf, BTreeMap<String, u64>>>>,
    /// Bytes that all images may use, if not 0.
    limit: Arc<Mutex<u64>>,
}

impl Unpacked {
    fn set_limit(&self, limit: u64) {
        *self.limit.lock().unwrap() = limit;
    }

    fn count(&self) -> usize {
        self.loaded.lock().unwrap().len()
    }
}

impl Loader for Unpacked {
    fn load(&self, store: &Store, name: &str, dir: &Path) -> Result<()> {
        let mut loaded = self.loaded.lock().unwrap();
        if loaded.contains_key(dir) {
            return Ok(());
        }
        let limit = *self.limit.lock().unwrap();
        let parts: BTreeMap<_, _> = store.parts(name)?.into_iter().collect();
        let all: BTreeMap<_, _> = loaded.values().flatten().chain(&parts).collect();
        let bytes: u64 = all.values().copied().sum();
        if limit > 0 && bytes > limit {
            let full = daxfs_image::Error::Full {
                name: name.into(),
                missing: bytes - limit,
                why: "no room".into(),
            };
            return Err(full.into());
        }
        // An earlier run's unpacked images are not mounts, so unpack them again.
        let _ = std::fs::remove_dir_all(dir);
        let image = dir.with_extension("whole");
        let output = daxfs_files::Output::create(&image)?;
        mkdaxfs::writer::make(&store.tree(name)?, &options(), &output, &Silent)?;
        output.commit(&Silent)?;
        let opened = Opened::open(&image)?;
        let reader = opened.reader();
        let root = reader.find(b"/", true)?;
        let interrupt = Interrupt::new().unwrap();
        let owner = rustix::process::geteuid().is_root();
        let losses = to_directory(&reader, &root, dir, owner, &interrupt)?;
        assert_eq!(losses.lines().collect::<Vec<_>>(), [""; 0]);
        std::fs::remove_file(&image).unwrap();
        loaded.insert(dir.into(), parts);
        Ok(())
    }

    fn unload(&self, dir: &Path) -> Result<()> {
        self.evict(dir, &|| true).map(drop)
    }

    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool> {
        let mut loaded = self.loaded.lock().unwrap();
        if !unused() {
            return Ok(false);
        }
        loaded.remove(dir);
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(dir, "remove")(error))
            }
            _ => Ok(true),
        }
    }

    fn is_loaded(&self, dir: &Path) -> bool {
        self.loaded.lock().unwrap().contains_key(dir)
    }

    fn bytes(&self) -> u64 {
        let loaded = self.loaded.lock().unwrap();
        let all: BTreeMap<_, _> = loaded.values().flatten().collect();
        all.values().copied().sum()
    }
}

/// A server and a client.
pub struct Machine {
    place: TempDir,
    memory: Unpacked,
    snapshotter: Arc<Snapshotter>,
    client: SnapshotsClient<Channel>,
    differ: DiffClient<Channel>,
    end: oneshot::Sender<()>,
    server: JoinHandle<Result<()>>,
}

/// The result of a call.
type Answer<T> = std::result::Result<T, Status>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

/// Checks that a call failed with `code`.
#[track_caller]
fn refused<T>(answer: Answer<T>, code: Code) {
    refused_for("the call", answer, code);
}

/// Checks that a call for `case` failed with `code`.
#[track_caller]
fn refused_for<T>(case: &str, answer: Answer<T>, code: Code) {
    says(case, answer, code, "");
}

/// Checks that a call for `case` failed with `code` and a message that contains `part`.
#[track_caller]
fn says<T>(case: &str, answer: Answer<T>, code: Code, part: &str) {
    let status = answer.err().unwrap_or_else(|| Status::ok("it succeeded"));
    assert_eq!(status.code(), code, "{case}: {status}");
    assert!(status.message().contains(part), "{case}: {status}");
}

/// Creates an active snapshot.
fn active(snapshotter: &Snapshotter, key: &str, parent: &str) -> Result<Vec<Mount>> {
    snapshotter.create(key, parent, State::Active, Labels::new())
}

/// Creates a view.
fn view(snapshotter: &Snapshotter, key: &str, parent: &str) -> Result<Vec<Mount>> {
    snapshotter.create(key, parent, State::View, Labels::new())
}

/// Calls the service with a request of these fields.
macro_rules! ask {
    ($machine:expr, $call:ident, $request:ident $(, $field:ident)*) => {{
        let request = $request {
            snapshotter: "daxfs".into(),
            $($field: $field.into(),)*
        };
        $machine.client.clone().$call(request).await
    }};
}

impl Machine {
    async fn new() -> Self {
        Self::start(TempDir::new().unwrap()).await
    }

    /// Returns a snapshotter without a server, in its own directory.
    fn alone(memory: impl Loader) -> (TempDir, Config, Snapshotter) {
        let place = TempDir::new().unwrap();
        let config = Self::config(place.path());
        let snapshotter = Snapshotter::open(&config, Box::new(memory), Box::new(RealDisk)).unwrap();
        (place, config, snapshotter)
    }

    fn config(place: &Path) -> Config {
        Config {
            root: place.join("root"),
            socket: place.join("run/socket"),
            containerd: place.join("containerd"),
            ..Config::default()
        }
    }

    async fn start(place: TempDir) -> Self {
        let config = Self::config(place.path());
        let memory = Unpacked::default();
        let (end, ended) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let address = format!("unix:{}", config.socket.display());
        let open = || Snapshotter::open(&config, Box::new(memory.clone()), Box::new(RealDisk));
        let mut opened = open();
        // Another test's child may briefly hold the lock before it runs its program.
        while matches!(&opened, Err(error) if error.to_string().contains("another process")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            opened = open();
        }
        let snapshotter = Arc::new(opened.unwrap());
        snapshotter.tidy();
        let server = tokio::spawn({
            let snapshotter = snapshotter.clone();
            async move {
                let ready = || ready.send(()).unwrap();
                let end = async { ended.await.unwrap_or(()) };
                serve(&config, snapshotter, ready, end).await
            }
        });
        is_ready.await.unwrap();
        let channel = Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        Machine {
            place,
            memory,
            snapshotter,
            client: SnapshotsClient::new(channel.clone()),
            differ: DiffClient::new(channel),
            end,
            server,
        }
    }

    /// Stops the server, and starts another.
    async fn restart(self) -> Self {
        drop((self.client, self.differ));
        self.end.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        // Its threads may still be running.
        while Arc::strong_count(&self.snapshotter) > 1 {
            tokio::task::yield_now().await;
        }
        drop(self.snapshotter);
        Self::start(self.place).await
    }

    /// Returns the image of the snapshot in `dir`.
    fn image(&self, dir: &Path) -> PathBuf {
        let name = format!("{}.daxfs", dir.file_name().unwrap().to_str().unwrap());
        self.place.path().join("root/store/images").join(name)
    }

    /// Returns the directories of all snapshots.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.place.path().join("root/snapshots")).unwrap();
        let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    }

    async fn prepare(&self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        self.prepare_with(key, parent, Labels::new()).await
    }

    async fn prepare_with(&self, key: &str, parent: &str, labels: Labels) -> Answer<Vec<Mount>> {
        let answer = ask!(self, prepare, PrepareSnapshotRequest, key, parent, labels);
        Ok(answer?.into_inner().mounts)
    }

    async fn view(&self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        let labels = Labels::new();
        let answer = ask!(self, view, ViewSnapshotRequest, key, parent, labels);
        Ok(answer?.into_inner().mounts)
    }

    async fn mounts(&self, key: &str) -> Answer<Vec<Mount>> {
        let answer = ask!(self, mounts, MountsRequest, key);
        Ok(answer?.into_inner().mounts)
    }

    async fn commit(&self, name: &str, key: &str) -> Answer<()> {
        self.commit_with(name, key, Labels::new()).await
    }

    /// Commits a snapshot, and waits until its image is made and loaded. Returns both calls'
    /// errors.
    async fn commit_with(&self, name: &str, key: &str, labels: Labels) -> Answer<()> {
        ask!(self, commit, CommitSnapshotRequest, name, key, labels)?;
        let (snapshotter, name) = (self.snapshotter.clone(), name.to_owned());
        let finished = tokio::task::spawn_blocking(move || snapshotter.bring_up(&name));
        Ok(finished.await.unwrap()?)
    }

    async fn remove(&self, key: &str) -> Answer<()> {
        ask!(self, remove, RemoveSnapshotRequest, key).map(|_| ())
    }

    async fn stat(&self, key: &str) -> Answer<Info> {
        let answer = ask!(self, stat, StatSnapshotRequest, key);
        Ok(answer?.into_inner().info.unwrap())
    }

    async fn update(&self, name: &str, labels: Labels, paths: &[&str]) -> Answer<Info> {
        let info = Info {
            name: name.into(),
            labels,
            ..Info::default()
        };
        let update_mask = FieldMask {
            paths: paths.iter().map(|path| (*path).into()).collect(),
        };
        let answer = ask!(self, update, UpdateSnapshotRequest, info, update_mask);
        Ok(answer?.into_inner().info.unwrap())
    }

    async fn list(&self) -> Answer<Vec<String>> {
        let infos = self.infos().await?;
        Ok(infos.into_iter().map(|info| info.name).collect())
    }

    async fn infos(&self) -> Answer<Vec<Info>> {
        let filters = Vec::<String>::new();
        let answer = ask!(self, list, ListSnapshotsRequest, filters);
        let mut stream = answer?.into_inner();
        let mut infos = Vec::new();
        while let Some(part) = stream.message().await? {
            infos.extend(part.info);
        }
        Ok(infos)
    }

    async fn usage(&self, key: &str) -> Answer<UsageResponse> {
        Ok(ask!(self, usage, UsageRequest, key)?.into_inner())
    }

    async fn cleanup(&self) -> Answer<()> {
        ask!(self, cleanup, CleanupRequest).map(|_| ())
    }

    /// Prepares `key`, writes a file of its name and calls `fill`, and commits it as `name`.
    async fn layer(&self, name: &str, parent: &str, fill: impl FnOnce(&Path)) {
        let key = format!("extract {name}");
        let mounts = self.prepare(&key, parent).await.unwrap();
        let upper = upper(&mounts);
        std::fs::write(upper.join(name), name).unwrap();
        fill(&upper);
        self.commit(name, &key).await.unwrap();
        // The service may have made the image first, and still be removing the changes.
        while upper.exists() {
            tokio::task::yield_now().await;
        }
    }
}

/// Returns the option `name` of the only mount.
fn option(mounts: &[Mount], name: &str) -> Option<String> {
    assert_eq!(mounts.len(), 1);
    let options = mounts[0].options.iter();
    options
        .filter_map(|option| option.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
        .next()
}

/// Returns the directory that is written to.
fn upper(mounts: &[Mount]) -> PathBuf {
    option(mounts, "upperdir")
        .unwrap_or_else(|| mounts[0].source.clone())
        .into()
}

/// Returns the lower layer.
fn lower(mounts: &[Mount]) -> PathBuf {
    option(mounts, "lowerdir").unwrap().into()
}
