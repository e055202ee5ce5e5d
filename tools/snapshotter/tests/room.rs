// SPDX-License-Identifier: GPL-2.0-only

//! Unused layers make room in memory for others.

use crate::{active, lower, refused, upper, view, Machine, Unpacked};
use daxfs_snapshotter::api::Labels;
use daxfs_snapshotter::error::{Error, Result};
use daxfs_snapshotter::loader::Loader;
use daxfs_snapshotter::record::{Disk, RealDisk};
use daxfs_snapshotter::snapshotter::Snapshotter;
use daxfs_store::Store;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tonic::Code;

/// Returns the numbers of the snapshot directories with loaded images.
fn loaded(memory: &Unpacked) -> Vec<u64> {
    let number = |dir: &PathBuf| -> u64 {
        let name = dir.parent().unwrap().file_name().unwrap();
        name.to_str().unwrap().parse().unwrap()
    };
    let mut numbers: Vec<_> = memory.loaded.lock().unwrap().keys().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Unused layers make room, least recently used first. Images below others are not in memory.
/// in memory.
#[tokio::test]
async fn unused_layers_make_room() {
    let machine = Machine::new().await;
    for name in ["a", "b", "c"] {
        machine.layer(name, "", |_| ()).await;
    }
    let size = machine.usage("a").await.unwrap().size as u64;
    let loaded = || loaded(&machine.memory);
    assert_eq!(loaded(), [1, 2, 3]);
    // Two packs, and an image that replaces the one below.
    machine.layer("above", "b", |_| ()).await;
    assert_eq!(loaded(), [1, 3, 4]);
    machine.remove("above").await.unwrap();
    // A view of b; a was used after c.
    machine.view("view", "b").await.unwrap();
    machine.view("gone", "a").await.unwrap();
    machine.remove("gone").await.unwrap();
    assert_eq!(loaded(), [1, 2, 3]);
    machine.memory.set_limit(3 * size + size / 2);
    machine.layer("d", "", |_| ()).await;
    assert_eq!(loaded(), [1, 2, 7]);
    machine.layer("e", "", |_| ()).await;
    assert_eq!(loaded(), [2, 7, 8]);
    // They are loaded again.
    let mounts = machine.prepare("active", "a").await.unwrap();
    assert!(lower(&mounts).join("a").exists());
    assert_eq!(loaded(), [1, 2, 8]);
    machine.prepare("other", "c").await.unwrap();
    assert_eq!(loaded(), [1, 2, 3]);
    refused(machine.prepare("more", "d").await, Code::ResourceExhausted);
    assert_eq!(loaded(), [1, 2, 3]);
    machine.remove("other").await.unwrap();
    machine.prepare("more", "d").await.unwrap();
    assert_eq!(loaded(), [1, 2, 7]);
}

/// An image that would not fit even then unloads nothing, whatever packs the others share.
#[tokio::test]
async fn nothing_is_unloaded_in_vain() {
    let machine = Machine::new().await;
    let large = |byte: u8| {
        move |dir: &Path| std::fs::write(dir.join("large"), vec![byte; 1 << 20]).unwrap()
    };
    machine.layer("a", "", large(7)).await;
    machine.layer("b", "a", |_| ()).await;
    machine.view("of a", "a").await.unwrap();
    machine.layer("c", "", |_| ()).await;
    assert_eq!(loaded(&machine.memory), [1, 2, 4]);
    machine.memory.set_limit(machine.memory.bytes() + 4096);
    // b and a share a pack of 1 MiB, which the view keeps.
    let mounts = machine.prepare("large", "").await.unwrap();
    large(8)(&upper(&mounts));
    let _ = machine.commit("layer", "large").await;
    let answer = machine.view("of layer", "layer").await;
    refused(answer, Code::ResourceExhausted);
    assert_eq!(loaded(&machine.memory), [1, 2, 4]);
    machine.remove("of a").await.unwrap();
    machine.view("of layer", "layer").await.unwrap();
    assert_eq!(loaded(&machine.memory), [5]);
}

/// A layer that can never fit is refused based on its files' sizes, before they are read.
#[tokio::test]
async fn enormous_layers() {
    let machine = Machine::new().await;
    let mounts = machine.prepare("large", "").await.unwrap();
    let file = std::fs::File::create(upper(&mounts).join("file")).unwrap();
    file.set_len(1 << 40).unwrap();
    let _ = machine.commit("layer", "large").await;
    let answer = machine.view("of layer", "layer").await;
    refused(answer, Code::ResourceExhausted);
}

/// The end of a use counts, not its start.
#[tokio::test]
async fn last_use() {
    let machine = Machine::new().await;
    for name in ["a", "b", "c"] {
        machine.layer(name, "", |_| ()).await;
    }
    let size = machine.usage("a").await.unwrap().size as u64;
    machine.prepare("long", "a").await.unwrap();
    machine.view("short", "b").await.unwrap();
    machine.remove("short").await.unwrap();
    machine.remove("long").await.unwrap();
    machine.memory.set_limit(3 * size + size / 2);
    machine.layer("d", "", |_| ()).await;
    machine.layer("e", "", |_| ()).await;
    assert_eq!(loaded(&machine.memory), [1, 6, 7]);

    // After a restart, nothing is loaded.
    let machine = machine.restart().await;
    machine.memory.set_limit(3 * size + size / 2);
    for name in ["e", "b", "a", "c"] {
        machine.view("view", name).await.unwrap();
        machine.remove("view").await.unwrap();
    }
    assert_eq!(loaded(&machine.memory), [1, 2, 3]);
}

/// Memory that calls functions before each operation.
pub struct Hooked<L, E> {
    pub memory: Unpacked,
    pub load: L,
    pub evict: E,
}

impl<L, E> Loader for Hooked<L, E>
where
    L: Fn(&Path) -> Result<()> + Send + Sync + 'static,
    E: Fn() + Send + Sync + 'static,
{
    fn load(&self, store: &Store, name: &str, dir: &Path) -> Result<()> {
        (self.load)(dir)?;
        self.memory.load(store, name, dir)
    }

    fn unload(&self, dir: &Path) -> Result<()> {
        self.memory.unload(dir)
    }

    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool> {
        (self.evict)();
        self.memory.evict(dir, unused)
    }

    fn is_loaded(&self, dir: &Path) -> bool {
        self.memory.is_loaded(dir)
    }
}

/// Commits a layer with a file of its name and this size.
fn commit(snapshotter: &Snapshotter, name: &str, parent: &str, size: usize) -> Result<()> {
    let mounts = active(snapshotter, "key", parent)?;
    std::fs::write(upper(&mounts).join(name), vec![name.as_bytes()[0]; size]).unwrap();
    snapshotter.commit(name, "key", Labels::new())?;
    snapshotter.bring_up(name)
}

/// A layer that a call uses after it was chosen to be unloaded stays.
#[test]
fn a_layer_that_is_used_meanwhile() {
    let memory = Unpacked::default();
    let itself = Arc::new(OnceLock::<Arc<Snapshotter>>::new());
    let user = itself.clone();
    let hooked = Hooked {
        memory: memory.clone(),
        load: |_: &Path| Ok(()),
        evict: move || {
            let snapshotter = user.get().unwrap();
            // Only the first call can do this.
            let _ = view(snapshotter, "late", "a");
        },
    };
    let (_place, _, snapshotter) = Machine::alone(hooked);
    let snapshotter = Arc::new(snapshotter);
    assert!(itself.set(snapshotter.clone()).is_ok());
    for name in ["a", "b"] {
        commit(&snapshotter, name, "", 1).unwrap();
    }
    let size = snapshotter.usage("a").unwrap().bytes;
    memory.set_limit(2 * size + size / 2);
    commit(&snapshotter, "c", "", 1).unwrap();
    assert_eq!(loaded(&memory), [1, 3]);
}

/// Another call makes room for the same image and loads it, after this call found none.
#[test]
fn calls_that_make_room_for_the_same_image() {
    let memory = Unpacked::default();
    let itself = Arc::new(OnceLock::<Arc<Snapshotter>>::new());
    let (other, first) = (itself.clone(), AtomicBool::new(true));
    let hooked = Hooked {
        memory: memory.clone(),
        load: move |_: &Path| match other.get() {
            Some(snapshotter) if first.swap(false, Relaxed) => {
                view(snapshotter, "other", "a").unwrap();
                let full = daxfs_image::Error::Full {
                    name: "a".into(),
                    missing: 4096,
                    why: "no room".into(),
                };
                Err(full.into())
            }
            _ => Ok(()),
        },
        evict: || (),
    };
    let (_place, _, snapshotter) = Machine::alone(hooked);
    let snapshotter = Arc::new(snapshotter);
    commit(&snapshotter, "a", "", 1).unwrap();
    // There is room for one of them.
    memory.set_limit(memory.bytes());
    commit(&snapshotter, "b", "", 1).unwrap();
    assert_eq!(loaded(&memory), [2]);
    assert!(itself.set(snapshotter.clone()).is_ok());
    view(&snapshotter, "view", "a").unwrap();
    assert_eq!(loaded(&memory), [1]);
}

/// A full disk is not a lack of memory.
#[test]
fn a_full_disk() {
    let memory = Unpacked::default();
    let hooked = Hooked {
        memory: memory.clone(),
        load: |dir: &Path| {
            if dir.parent().unwrap().ends_with("2") {
                return Err(Error::io(dir, "create")(io::ErrorKind::StorageFull.into()));
            }
            Ok(())
        },
        evict: || panic!("the disk does not get emptier"),
    };
    let (_place, _, snapshotter) = Machine::alone(hooked);
    commit(&snapshotter, "a", "", 1).unwrap();
    let error = commit(&snapshotter, "b", "", 1).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(loaded(&memory), [1]);
}

/// Parts in memory need no room, even if the system reports only that there is none.
#[test]
fn parts_that_are_loaded() {
    let memory = Unpacked::default();
    let short = Arc::new(AtomicBool::new(false));
    let (loads, evicts) = (short.clone(), short.clone());
    let hooked = Hooked {
        memory: memory.clone(),
        load: move |_: &Path| {
            if loads.load(Relaxed) {
                let full = io::ErrorKind::OutOfMemory;
                return Err(daxfs_image::Error::system("", "cannot load", "", full).into());
            }
            Ok(())
        },
        evict: move || evicts.store(false, Relaxed),
    };
    let (_place, _, snapshotter) = Machine::alone(hooked);
    commit(&snapshotter, "a", "", 1 << 20).unwrap();
    view(&snapshotter, "view", "a").unwrap();
    commit(&snapshotter, "unused", "", 300_000).unwrap();
    short.store(true, Relaxed);
    commit(&snapshotter, "above", "a", 100_000).unwrap();
    assert_eq!(loaded(&memory), [1, 4]);
}

/// A snapshot that could not be mounted is refused, and does not remain.
#[test]
fn long_roots() {
    let place = tempfile::TempDir::new().unwrap();
    let mut config = Machine::config(place.path());
    config.root.extend(vec!["r".repeat(220); 6]);
    let memory = Unpacked::default();
    let snapshotter =
        Snapshotter::open(&config, Box::new(memory.clone()), Box::new(RealDisk)).unwrap();
    commit(&snapshotter, "a", "", 1).unwrap();
    let error = active(&snapshotter, "key", "a").unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let why = "use a root with a shorter name";
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(snapshotter.list().len(), 1);
    // The reason is reported even if the snapshot cannot be removed again.
    drop(snapshotter);
    let snapshotter = Snapshotter::open(&config, Box::new(memory), Box::new(Stuck)).unwrap();
    let error = active(&snapshotter, "key", "a").unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!(snapshotter.list().len(), 2);
}

/// A disk on which records of active snapshots cannot be removed.
struct Stuck;

impl Disk for Stuck {
    fn sync(&self, dir: &Path) -> Result<()> {
        for entry in dir.read_dir().unwrap() {
            let record = entry.unwrap().path().join("snapshot.json");
            if std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"key\"")) {
                std::fs::remove_file(&record).unwrap();
                std::fs::create_dir(&record).unwrap();
            }
        }
        Ok(())
    }
}
