// SPDX-License-Identifier: GPL-2.0-only

//! Commits of ready layers that crash, fail, or meet others.

use super::{for_layer, found, key, make};
use crate::crash::Faulty;
use crate::{code, lower, upper, Machine, Unpacked};
use daxfs_snapshotter::record::State;
use daxfs_snapshotter::snapshotter::Snapshotter;
use std::fs;
use tonic::Code;

/// A layer that is committed already, but whose image is damaged on disk, is unpacked.
#[tokio::test]
async fn damaged_layers_are_unpacked() {
    let machine = Machine::new().await;
    make(machine.place.path(), "a", "a");
    let answer = machine.unpack("first", "", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
    let image = machine.image(&machine.directories()[0]);
    let good = fs::read(&image).unwrap();

    // It is in memory.
    fs::write(&image, "no image").unwrap();
    let answer = machine.unpack("second", "", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
    fs::write(&image, &good).unwrap();

    // It is not.
    let machine = machine.restart().await;
    fs::write(&image, "no image").unwrap();
    machine.unpacked("damaged", "a").await;
    fs::remove_file(&image).unwrap();
    machine.unpacked("missing", "a").await;
    fs::write(&image, &good).unwrap();
    assert_eq!(machine.memory.count(), 2);
    let answer = machine.unpack("third", "", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
    assert_eq!(machine.memory.count(), 3);
}

/// If the disk fails while the layer is recorded, it is unpacked.
#[test]
fn the_disk_fails() {
    // The record is replaced once and synced twice.
    for (syncs, replacements) in [(vec![0], vec![]), (vec![1], vec![]), (vec![], vec![0])] {
        let case = format!("syncs {syncs:?}, replacements {replacements:?}");
        let place = tempfile::TempDir::new().unwrap();
        make(place.path(), "a", "a");
        let config = Machine::config(place.path());
        let disk = Faulty {
            syncs,
            replacements,
            ..Faulty::default()
        };
        let memory = || Box::new(Unpacked::default());
        let snapshotter = Snapshotter::open_on(&config, memory(), Box::new(disk)).unwrap();
        let key = key("x", "a");
        let made = snapshotter.create(&key, "", State::Active, for_layer("a"));
        assert!(upper(&made.unwrap()).exists(), "{case}");
        drop(snapshotter);
        // The next start finds nothing else.
        let snapshotter = Snapshotter::open(&config, memory()).unwrap();
        let found = snapshotter.list();
        assert!(
            found.len() == 1 && found[0].name == key,
            "{case}: {found:?}"
        );
        let dirs = fs::read_dir(place.path().join("root/snapshots")).unwrap();
        assert_eq!(dirs.count(), 1, "{case}");
        snapshotter.remove(&key).unwrap();
        let made = snapshotter.create(&key, "", State::Active, for_layer("a"));
        assert_eq!(made.unwrap_err().code(), Code::AlreadyExists, "{case}");
    }
}

/// A crash in the middle leaves an active snapshot, which containerd does not know, or the layer.
#[tokio::test]
async fn crashes() {
    let machine = Machine::new().await;
    let image = make(machine.place.path(), "a", "a");
    let mounts = machine.prepare("key", "").await.unwrap();
    let dir = upper(&mounts).parent().unwrap().to_owned();
    let part = fs::read(&image).unwrap();
    fs::write(machine.image(&dir), &part[..part.len() / 2]).unwrap();
    fs::create_dir(dir.join("layer")).unwrap();
    let answer = machine.unpack("other", "", "a").await;
    assert_eq!(code(answer), Code::AlreadyExists);
    // The record is written, but the directories are still there.
    let committed = machine.directories().pop().unwrap();
    fs::create_dir_all(committed.join("fs/dir")).unwrap();
    fs::create_dir_all(committed.join("work/work")).unwrap();

    let machine = machine.restart().await;
    assert_eq!(machine.mounts("key").await.unwrap(), mounts);
    assert!(!machine.image(&dir).exists() && !dir.join("layer").exists());
    assert!(!committed.join("fs").exists() && !committed.join("work").exists());
    let found = found(&machine, "", "a").await;
    let mounts = machine.prepare("new", &found[0]).await.unwrap();
    assert_eq!(
        fs::read(lower(&mounts)[0].join("ready a")).unwrap(),
        b"ready"
    );
}

/// Two calls for one layer at the same time: one commits it, and nothing remains of the other.
#[test]
fn two_at_once() {
    let place = tempfile::TempDir::new().unwrap();
    make(place.path(), "a", "a");
    let config = Machine::config(place.path());
    let memory = Unpacked::default();
    let snapshotter = Snapshotter::open(&config, Box::new(memory.clone())).unwrap();
    std::thread::scope(|scope| {
        for word in ["1", "2"] {
            let snapshotter = &snapshotter;
            let key = key(word, "a");
            scope.spawn(move || {
                let made = snapshotter.create(&key, "", State::Active, for_layer("a"));
                assert_eq!(made.unwrap_err().code(), Code::AlreadyExists, "{key}");
            });
        }
    });
    let found = snapshotter.list();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(memory.count(), 1);
    let dirs = fs::read_dir(place.path().join("root/snapshots")).unwrap();
    assert_eq!(dirs.count(), 1);
}
