// SPDX-License-Identifier: GPL-2.0-only

//! State that survives the end of the daemon, of the machine, and errors along the way.

use crate::rules::nothing;
use crate::{active, labels, lower, refused, refused_for, says, upper, view, Machine, Unpacked};
use daxfs_snapshotter::api::{Kind, Labels};
use daxfs_snapshotter::error::{Error, Result};
use daxfs_snapshotter::loader::{KernelLoader, Loader};
use daxfs_snapshotter::record::{Disk, RealDisk, Record};
use daxfs_snapshotter::snapshotter::Snapshotter;
use daxfs_store::Store;
use daxfs_testing::can_mount;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tonic::Code;

#[tokio::test]
async fn snapshots_survive_a_restart() {
    let machine = Machine::new().await;
    machine.layer("one", "", nothing).await;
    machine.layer("two", "one", nothing).await;
    let mounts = machine
        .prepare_with("active", "two", labels(&[("a", "b")]))
        .await
        .unwrap();
    std::fs::write(upper(&mounts).join("kept"), "kept").unwrap();
    let changed = machine.update("active", labels(&[("a", "c")]), &["labels.a"]);
    let before = changed.await.unwrap();
    assert_eq!(before.labels, labels(&[("a", "c")]));

    // Memory is lost; images are loaded again when needed.
    let machine = machine.restart().await;
    assert_eq!(machine.list().await.unwrap(), ["active", "one", "two"]);
    assert_eq!(machine.stat("active").await.unwrap(), before);
    assert_eq!(machine.memory.count(), 0);
    assert_eq!(machine.mounts("active").await.unwrap(), mounts);
    assert_eq!(machine.memory.count(), 1);
    assert_eq!(std::fs::read(lower(&mounts).join("one")).unwrap(), b"one");
    machine.commit("three", "active").await.unwrap();
    let view = machine.view("view", "three").await.unwrap();
    assert_eq!(std::fs::read(upper(&view).join("kept")).unwrap(), b"kept");
    // Numbers of directories are not reused.
    assert_eq!(machine.directories().len(), 4);
}

#[tokio::test]
async fn a_start_removes_what_a_crash_has_left() {
    let machine = Machine::new().await;
    machine.layer("layer", "", nothing).await;
    let mounts = machine.prepare("active", "layer").await.unwrap();
    std::fs::write(upper(&mounts).join("changed"), "changed").unwrap();
    let snapshots = machine.place.path().join("root/snapshots");
    let active = upper(&mounts).parent().unwrap().to_owned();
    let layer = lower(&mounts).parent().unwrap().to_owned();

    // During prepare or remove: no record.
    std::fs::create_dir_all(snapshots.join("77/fs/dir")).unwrap();
    std::fs::write(snapshots.join("77/snapshot.json.new"), "{").unwrap();
    // During commit: before the record changed, and after.
    let store = machine.place.path().join("root/store");
    std::fs::write(store.join("packs/.mkdaxfs-x.tmp"), "part").unwrap();
    std::fs::copy(machine.image(&layer), machine.image(&active)).unwrap();
    std::fs::copy(machine.image(&layer), machine.image(Path::new("77"))).unwrap();
    std::fs::copy(machine.image(&layer), machine.image(Path::new("5"))).unwrap();
    std::fs::create_dir(active.join("layer")).unwrap();
    std::fs::create_dir_all(layer.join("fs/dir")).unwrap();
    std::fs::create_dir_all(layer.join("work/work")).unwrap();
    // Not ours.
    std::fs::create_dir(snapshots.join("lost+found")).unwrap();

    let machine = machine.restart().await;
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&snapshots), ["1", "2", "lost+found"]);
    assert_eq!(names(&active), ["fs", "snapshot.json", "work"]);
    assert_eq!(names(&layer), ["layer", "snapshot.json"]);
    assert_eq!(names(&store.join("images")), ["1.daxfs"]);
    assert_eq!(names(&store.join("packs")).len(), 1);
    assert_eq!(machine.list().await.unwrap(), ["active", "layer"]);
    // The commit works now, and the number 77 is not reused.
    machine.commit("done", "active").await.unwrap();
    let mounts = machine.prepare("next", "done").await.unwrap();
    assert_eq!(
        std::fs::read(lower(&mounts).join("changed")).unwrap(),
        b"changed"
    );
    assert!(
        upper(&mounts).starts_with(snapshots.join("78")),
        "{mounts:?}"
    );
}

#[tokio::test]
async fn damaged_files_are_named() {
    let machine = Machine::new().await;
    machine.layer("layer", "", nothing).await;
    let machine = machine.restart().await;
    let dir = machine.directories().remove(0);
    let image = machine.image(&dir);
    std::fs::write(&image, "no image").unwrap();
    let machine = machine.restart().await;
    let answer = machine.prepare("new", "layer").await;
    says("damaged", answer, Code::DataLoss, "images/1.daxfs");
    std::fs::remove_file(&image).unwrap();
    refused(machine.prepare("new", "layer").await, Code::DataLoss);
    assert_eq!(machine.list().await.unwrap(), ["layer"]);

    // A second daemon is refused.
    let config = Machine::config(machine.place.path());
    let opened = Snapshotter::open(
        &config,
        Box::new(KernelLoader::new(&config)),
        Box::new(RealDisk),
    );
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("another process uses this store"), "{error}");
}

/// An intact image that is not the committed one.
#[tokio::test]
async fn exchanged_images() {
    let machine = Machine::new().await;
    for name in ["a", "b"] {
        machine.layer(name, "", nothing).await;
    }
    let dirs = machine.directories();
    std::fs::copy(machine.image(&dirs[1]), machine.image(&dirs[0])).unwrap();
    let machine = machine.restart().await;
    let answer = machine.prepare("new", "a").await;
    says("exchanged", answer, Code::DataLoss, "images/1.daxfs");
    machine.prepare("new", "b").await.unwrap();
}

/// Records of another version stay unchanged, and the message reports them.
#[tokio::test]
async fn other_versions() {
    let mut machine = Machine::new().await;
    machine.layer("layer", "", nothing).await;
    let record = machine.directories()[0].join("snapshot.json");
    let text = std::fs::read_to_string(&record).unwrap();
    for (found, text) in [
        (
            7,
            text.replace("\"version\": 4", "\"version\": 7, \"more\": 1"),
        ),
        (0, text.replace("\"version\": 4,", "")),
    ] {
        std::fs::write(&record, &text).unwrap();
        machine = machine.restart().await;
        let why = format!("records have version {found} instead of 4");
        says("stat", machine.stat("layer").await, Code::DataLoss, &why);
        assert_eq!(std::fs::read_to_string(&record).unwrap(), text);
        assert!(machine.image(&machine.directories()[0]).exists());
    }
}

/// One damaged directory does not make others unusable.
#[tokio::test]
async fn damage_stays_where_it_is() {
    let machine = Machine::new().await;
    machine.layer("good", "", nothing).await;
    machine.layer("bad", "", nothing).await;
    machine.layer("on bad", "bad", nothing).await;
    machine.prepare("active on bad", "on bad").await.unwrap();
    machine.layer("lost", "", nothing).await;
    machine.prepare("on lost", "lost").await.unwrap();
    let snapshots = machine.place.path().join("root/snapshots");
    let record = |number: &str| snapshots.join(number).join("snapshot.json");
    // A value of a wrong type, and invalid JSON.
    let text = std::fs::read_to_string(record("2")).unwrap();
    let text = text.replace("\"sha256\": \"", "\"sha256\": 1, \"sha\": \"");
    std::fs::write(record("2"), text).unwrap();
    std::fs::write(record("5"), "{").unwrap();
    // Two with the same name, and one below itself.
    std::fs::create_dir_all(snapshots.join("90/fs")).unwrap();
    let text = std::fs::read_to_string(record("4")).unwrap();
    std::fs::write(record("90"), text.replace("on bad", "twice")).unwrap();
    std::fs::create_dir_all(snapshots.join("91/fs")).unwrap();
    std::fs::copy(record("90"), record("91")).unwrap();
    let text = std::fs::read_to_string(record("3")).unwrap();
    std::fs::create_dir(snapshots.join("92")).unwrap();
    let circle = text
        .replace("\"on bad\"", "\"o\"")
        .replace("\"bad\"", "\"o\"");
    std::fs::write(record("92"), circle).unwrap();
    // Not directories of snapshots.
    std::fs::write(snapshots.join("93"), "file").unwrap();
    std::fs::create_dir(snapshots.join("18446744073709551615")).unwrap();
    std::fs::create_dir(snapshots.join("007")).unwrap();

    let machine = machine.restart().await;
    let damaged = [
        "active on bad",
        "on bad",
        "bad",
        "on lost",
        "active twice",
        "o",
    ];
    for name in damaged {
        refused_for(name, machine.stat(name).await, Code::DataLoss);
        refused_for(name, machine.usage(name).await, Code::DataLoss);
        refused_for(name, machine.mounts(name).await, Code::DataLoss);
        refused_for(name, machine.prepare("new", name).await, Code::DataLoss);
        refused_for(name, machine.commit("new", name).await, Code::DataLoss);
    }
    let answer = machine.stat("on bad").await;
    says("on bad", answer, Code::DataLoss, "2/snapshot.json");
    refused(machine.stat("lost").await, Code::NotFound);
    machine.prepare("new", "good").await.unwrap();
    machine.commit("newer", "new").await.unwrap();
    for name in damaged {
        machine.remove(name).await.unwrap();
    }
    assert_eq!(machine.list().await.unwrap(), ["good", "newer"]);
    // Nothing with a record disappeared without being removed.
    assert!(record("5").exists() && (record("90").exists() != record("91").exists()));
    assert!(!record("2").exists() && snapshots.join("93").exists());
    machine.cleanup().await.unwrap();
}

/// A committed snapshot's changes are deleted only once its image is complete.
#[tokio::test]
async fn changes_without_an_image_remain() {
    let machine = Machine::new().await;
    for name in ["short", "other", "gone", "whole"] {
        machine.layer(name, "", nothing).await;
    }
    let dirs = machine.directories();
    for dir in &dirs {
        std::fs::create_dir(dir.join("fs")).unwrap();
        std::fs::write(dir.join("fs/changed"), "changed").unwrap();
    }
    let images: Vec<_> = dirs.iter().map(|dir| machine.image(dir)).collect();
    let length = images[0].metadata().unwrap().len();
    let file = std::fs::File::options()
        .write(true)
        .open(&images[0])
        .unwrap();
    file.set_len(length / 2).unwrap();
    std::fs::write(&images[1], vec![0; length as usize]).unwrap();
    std::fs::remove_file(&images[2]).unwrap();
    let machine = machine.restart().await;
    for (name, dir) in ["short", "other", "gone"].iter().zip(&dirs) {
        says(name, machine.stat(name).await, Code::DataLoss, "/fs");
        assert!(dir.join("fs/changed").exists(), "{name}");
    }
    assert!(images[0].exists() && images[1].exists());
    assert!(!dirs[3].join("fs").exists());
    machine.prepare("new", "whole").await.unwrap();

    // An active snapshot without changes, but with an image.
    let mounts = machine.prepare("active", "").await.unwrap();
    let dir = upper(&mounts).parent().unwrap().to_owned();
    std::fs::rename(dir.join("fs"), dir.join("aside")).unwrap();
    let image = machine.image(&dir);
    std::fs::copy(&images[3], &image).unwrap();
    let machine = machine.restart().await;
    refused(machine.mounts("active").await, Code::DataLoss);
    assert!(image.exists());
    machine.remove("active").await.unwrap();
    assert!(!dir.exists());
}

/// A disk on which some operations fail, given by the numbers of syncs and replacements so far.
#[derive(Default)]
pub struct Faulty {
    pub syncs: Vec<usize>,
    pub replacements: Vec<usize>,
    pub synced: AtomicUsize,
    pub replaced: AtomicUsize,
}

fn fault(faults: &[usize], count: &AtomicUsize, dir: &Path) -> Result<()> {
    if faults.contains(&count.fetch_add(1, Ordering::Relaxed)) {
        return Err(Error::io(dir, "sync")(std::io::Error::other("it broke")));
    }
    Ok(())
}

impl Disk for Faulty {
    fn replace(&self, record: &Record, dir: &Path) -> Result<()> {
        fault(&self.replacements, &self.replaced, dir)?;
        record.replace(dir)
    }

    fn sync(&self, dir: &Path) -> Result<()> {
        fault(&self.syncs, &self.synced, dir)?;
        RealDisk.sync(dir)
    }
}

/// Whatever fails while a commit and its image are recorded, the next start finds files or image.
#[test]
fn the_disk_fails_during_a_commit() {
    // Prepare replaces once and syncs twice. Then the commit, and its rollback or the image's
    // record.
    let cases: [(&[usize], &[usize], bool, bool); 7] = [
        (&[], &[1], false, false),
        (&[2], &[], false, false),
        // The old record is back, but maybe not after a crash.
        (&[2, 3], &[], false, false),
        // The new record is written, but maybe not after a crash.
        (&[2], &[2], false, false),
        (&[], &[2], true, false),
        // The record of the image is written, but maybe not after a crash.
        (&[3], &[], true, true),
        (&[], &[], true, true),
    ];
    for (syncs, replacements, committed, finished) in cases {
        let case = format!("syncs {syncs:?}, replacements {replacements:?}");
        let place = tempfile::TempDir::new().unwrap();
        let config = Machine::config(place.path());
        let disk = Faulty {
            syncs: syncs.into(),
            replacements: replacements.into(),
            ..Faulty::default()
        };
        let memory = || Box::new(Unpacked::default());
        let snapshotter = Snapshotter::open(&config, memory(), Box::new(disk)).unwrap();
        let dir = upper(&active(&snapshotter, "key", "").unwrap());
        std::fs::write(dir.join("file"), "precious").unwrap();
        let result = snapshotter.commit("layer", "key", Labels::new());
        assert_eq!(result.is_ok(), committed, "{case}: {result:?}");
        assert_eq!(snapshotter.stat("layer").is_ok(), committed, "{case}");
        assert_eq!(snapshotter.stat("key").is_ok(), !committed, "{case}");
        if committed {
            let result = snapshotter.finish("layer");
            assert_eq!(result.is_ok(), finished, "{case}: {result:?}");
        }
        let image = place.path().join("root/store/images/1.daxfs");
        assert_eq!(image.exists(), finished, "{case}");
        let sure = finished && syncs.is_empty();
        assert_eq!(dir.join("file").exists(), !sure, "{case}");
        drop(snapshotter);

        // After a crash, an uncertain record may be the old or the new one.
        let again = Snapshotter::open(&config, memory(), Box::new(RealDisk)).unwrap();
        if again.stat("layer").is_err() {
            again.commit("layer", "key", Labels::new()).unwrap();
        }
        let file = lower(&active(&again, "new", "layer").unwrap()).join("file");
        assert_eq!(std::fs::read(file).unwrap(), b"precious", "{case}");
        assert!(!dir.exists(), "{case}");
    }
}

/// After a crash between a commit and the record of its image, the next start makes the image.
#[tokio::test]
async fn crashes_before_the_image_is_made() {
    let mut machine = Machine::new().await;
    machine.layer("base", "", nothing).await;
    let store = machine.place.path().join("root/store");
    for name in ["first", "part", "whole", "last"] {
        let mounts = machine.prepare("key", "base").await.unwrap();
        let dir = upper(&mounts).parent().unwrap().to_owned();
        std::fs::write(dir.join("fs/file"), name).unwrap();
        machine
            .snapshotter
            .commit(name, "key", Labels::new())
            .unwrap();
        match name {
            "part" => {
                std::fs::write(store.join("packs/.mkdaxfs-x.tmp"), "part").unwrap();
                std::fs::write(store.join("images/.mkdaxfs-x.tmp"), "part").unwrap();
            }
            "whole" | "last" => {
                let record = std::fs::read(dir.join("snapshot.json")).unwrap();
                let aside = dir.join("aside");
                let mut copies = std::process::Command::new("cp");
                copies.arg("-a").arg(dir.join("fs")).arg(&aside);
                assert!(copies.status().unwrap().success());
                machine.snapshotter.finish(name).unwrap();
                // The files are still there, and the old record may be, too.
                std::fs::rename(&aside, dir.join("fs")).unwrap();
                if name == "whole" {
                    std::fs::write(dir.join("snapshot.json"), record).unwrap();
                }
            }
            _ => {}
        }
        machine = machine.restart().await;
        let mounts = machine.prepare("new", name).await.unwrap();
        assert!(
            !dir.join("fs").exists() && !dir.join("work").exists(),
            "{name}"
        );
        let lower = &lower(&mounts);
        assert_eq!(std::fs::read_to_string(lower.join("file")).unwrap(), name);
        assert_eq!(std::fs::read(lower.join("base")).unwrap(), b"base");
        machine.remove("new").await.unwrap();
        machine.remove(name).await.unwrap();
        assert_eq!(machine.directories().len(), 1, "{name}");
        for inner in ["images", "packs"] {
            assert_eq!(
                std::fs::read_dir(store.join(inner)).unwrap().count(),
                1,
                "{name}"
            );
        }
    }
}

/// A removed record counts as removed, even if the disk cannot confirm it.
#[test]
fn the_disk_fails_during_a_removal() {
    let place = tempfile::TempDir::new().unwrap();
    let config = Machine::config(place.path());
    let disk = Faulty {
        syncs: vec![2],
        ..Faulty::default()
    };
    let memory = Box::new(Unpacked::default());
    let snapshotter = Snapshotter::open(&config, memory, Box::new(disk)).unwrap();
    active(&snapshotter, "key", "").unwrap();
    snapshotter.remove("key").unwrap();
    assert_eq!(snapshotter.stat("key").unwrap_err().code(), Code::NotFound);
    active(&snapshotter, "key", "").unwrap();
}

/// A container's directory is not removed while it is mounted.
#[test]
fn a_commit_keeps_what_is_mounted() {
    if !can_mount("crash::a_commit_keeps_what_is_mounted") {
        return;
    }
    let (place, config, snapshotter) = Machine::alone(Unpacked::default());
    let dir = upper(&active(&snapshotter, "key", "").unwrap());
    let container = place.path().join("a container");
    std::fs::create_dir(&container).unwrap();
    rustix::mount::mount_bind(&dir, &container).unwrap();
    std::fs::write(container.join("before"), "before").unwrap();
    snapshotter.commit("layer", "key", Labels::new()).unwrap();
    snapshotter.finish("layer").unwrap();
    assert!(container.join("before").exists(), "it was removed");
    std::fs::write(container.join("after"), "after").unwrap();
    drop(snapshotter);

    // Nor by the next start, or by removing the snapshot.
    let snapshotter =
        Snapshotter::open(&config, Box::new(Unpacked::default()), Box::new(RealDisk)).unwrap();
    snapshotter.stat("layer").unwrap();
    assert!(container.join("after").exists(), "the start removed it");
    snapshotter.remove("layer").unwrap();
    let error = snapshotter.cleanup().unwrap_err().to_string();
    assert!(error.contains("a container"), "{error}");
    assert!(container.join("after").exists(), "the removal removed it");
    rustix::mount::unmount(&container, rustix::mount::UnmountFlags::empty()).unwrap();
    snapshotter.cleanup().unwrap();
    assert!(!dir.parent().unwrap().exists());
}

/// Memory that takes long to unload: until `go`.
struct Slow {
    begun: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

impl Slow {
    /// Returns such memory, a receiver of started operations, and a sender that lets them continue.
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((begin, begun), (go, wait)) = (channel(), channel());
        let memory = Slow {
            begun: Mutex::new(begin),
            go: Mutex::new(wait),
        };
        (memory, begun, go)
    }

    fn wait(&self) {
        self.begun.lock().unwrap().send(()).unwrap();
        let go = self.go.lock().unwrap();
        let _ = go.recv_timeout(Duration::from_secs(20));
    }
}

impl Loader for Slow {
    fn load(&self, _: &Store, _: &str, _: &Path) -> Result<()> {
        Ok(())
    }

    fn unload(&self, _: &Path) -> Result<()> {
        self.wait();
        Ok(())
    }

    fn evict(&self, _: &Path, _: &dyn Fn() -> bool) -> Result<bool> {
        Ok(false)
    }

    fn is_loaded(&self, _: &Path) -> bool {
        false
    }
}

/// After a failure, the next call makes the image.
#[test]
fn failures_are_retried() {
    let (place, _, snapshotter) = &Machine::alone(Unpacked::default());
    let dir = upper(&active(snapshotter, "key", "").unwrap());
    std::fs::write(dir.join("file"), "content").unwrap();
    snapshotter.commit("layer", "key", Labels::new()).unwrap();
    let images = place.path().join("root/store/images");
    std::fs::remove_dir(&images).unwrap();
    std::fs::write(&images, "").unwrap();
    for _ in 0..2 {
        let error = snapshotter.finish("layer").unwrap_err().to_string();
        assert!(
            error.contains("\"layer\": its image cannot be made: "),
            "{error}"
        );
    }
    std::fs::remove_file(&images).unwrap();
    std::fs::create_dir(&images).unwrap();
    snapshotter.finish("layer").unwrap();
    assert_eq!(snapshotter.stat("layer").unwrap().kind(), Kind::Committed);
}

/// While an image is made, its snapshot is committed, and only calls that need the image wait.
/// After a removal and a cleanup, which do not wait, neither the image nor its directory remains.
#[test]
fn calls_while_an_image_is_made() {
    let (memory, begun, go) = Slow::new();
    let (place, _, snapshotter) = &Machine::alone(memory);
    for removed in [false, true] {
        let dir = upper(&active(snapshotter, "key", "").unwrap());
        std::fs::write(dir.join("file"), "content").unwrap();
        snapshotter.commit("layer", "key", Labels::new()).unwrap();
        std::thread::scope(|scope| {
            let finish = scope.spawn(|| snapshotter.finish("layer"));
            begun.recv().unwrap();
            let info = snapshotter.stat("layer").unwrap();
            assert_eq!(info.kind(), Kind::Committed);
            assert!(snapshotter.usage("layer").unwrap().inodes == 2 && dir.exists());
            let start = Instant::now();
            snapshotter.cleanup().unwrap();
            assert!(start.elapsed() < Duration::from_secs(15), "it waited");
            if removed {
                let remove = scope.spawn(|| snapshotter.remove("layer"));
                begun.recv().unwrap();
                go.send(()).unwrap();
                go.send(()).unwrap();
                remove.join().unwrap().unwrap();
                // The image was made from the original files, or not at all.
                begun.recv().unwrap();
                go.send(()).unwrap();
            } else {
                let view = scope.spawn(|| view(snapshotter, "view", "layer").map(drop));
                std::thread::sleep(Duration::from_millis(100));
                assert!(!view.is_finished(), "a view did not wait");
                let error = snapshotter.remove("layer").unwrap_err();
                assert_eq!(error.code(), Code::FailedPrecondition);
                go.send(()).unwrap();
                // This test's memory cannot mount the layer.
                let error = view.join().unwrap().unwrap_err().to_string();
                assert!(error.contains("/layer: cannot examine"), "{error}");
            }
            finish.join().unwrap().unwrap();
        });
        if !removed {
            go.send(()).unwrap();
            snapshotter.remove("layer").unwrap();
            begun.recv().unwrap();
        }
        assert!(!dir.parent().unwrap().exists());
        assert!(snapshotter.list().is_empty());
        for inner in ["images", "packs"] {
            let left = std::fs::read_dir(place.path().join("root/store").join(inner));
            assert_eq!(left.unwrap().count(), 0, "{inner}");
        }
    }
}

/// Other calls proceed while a cleanup unmounts and removes.
#[test]
fn a_cleanup_holds_up_no_other_call() {
    let (memory, begun, go) = Slow::new();
    let (place, _, snapshotter) = Machine::alone(memory);
    let left = place.path().join("root/snapshots/77/fs");
    std::fs::create_dir_all(&left).unwrap();
    std::thread::scope(|scope| {
        let cleanup = scope.spawn(|| snapshotter.cleanup());
        begun.recv().unwrap();
        let (done, is_done) = channel();
        let snapshotter = &snapshotter;
        scope.spawn(move || done.send(snapshotter.list().len()).unwrap());
        let listed = is_done.recv_timeout(Duration::from_secs(5));
        go.send(()).unwrap();
        cleanup.join().unwrap().unwrap();
        assert_eq!(listed, Ok(0), "the list waited for the cleanup");
    });
    assert!(!left.exists());
}
