// SPDX-License-Identifier: GPL-2.0-only

//! What survives the end of the daemon, of the machine, and errors in the middle.

use crate::{code, labels, lower, upper, Machine};
use daxfs_snapshotter::memory::Kernel;
use daxfs_snapshotter::server::serve;
use std::path::Path;
use tonic::Code;

fn nothing(_: &Path) {}

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
    let before = machine.stat("active").await.unwrap();

    // Memory is lost; images are loaded again when they are needed.
    let machine = machine.restart().await;
    assert_eq!(machine.list(&[]).await.unwrap(), ["active", "one", "two"]);
    assert_eq!(machine.stat("active").await.unwrap(), before);
    assert_eq!(machine.memory.count(), 0);
    assert_eq!(machine.mounts("active").await.unwrap(), mounts);
    assert_eq!(machine.memory.count(), 2);
    assert_eq!(
        std::fs::read(lower(&mounts)[1].join("one")).unwrap(),
        b"one"
    );
    machine.commit("three", "active").await.unwrap();
    let view = machine.view("view", "three").await.unwrap();
    assert_eq!(
        std::fs::read(lower(&view)[0].join("kept")).unwrap(),
        b"kept"
    );
    // Numbers of directories are not used again.
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
    let layer = lower(&mounts)[0].parent().unwrap().to_owned();

    // During prepare or remove: no record.
    std::fs::create_dir_all(snapshots.join("77/fs/dir")).unwrap();
    std::fs::write(snapshots.join("77/snapshot.json.new"), "{").unwrap();
    // During commit: before the record changed, and after.
    std::fs::write(active.join(".mkdaxfs-x.tmp"), "part").unwrap();
    std::fs::copy(layer.join("layer.daxfs"), active.join("layer.daxfs")).unwrap();
    std::fs::create_dir(active.join("layer")).unwrap();
    std::fs::create_dir_all(layer.join("fs/dir")).unwrap();
    std::fs::create_dir_all(layer.join("work/work")).unwrap();
    // Somebody else's.
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
    assert_eq!(names(&layer), ["layer.daxfs", "snapshot.json"]);
    assert_eq!(machine.list(&[]).await.unwrap(), ["active", "layer"]);
    // The commit works now, and the number 77 is not used again.
    machine.commit("done", "active").await.unwrap();
    let mounts = machine.prepare("next", "done").await.unwrap();
    assert_eq!(
        std::fs::read(lower(&mounts)[0].join("changed")).unwrap(),
        b"changed"
    );
    assert!(
        upper(&mounts).starts_with(snapshots.join("78")),
        "{mounts:?}"
    );
}

#[tokio::test]
async fn full_memory() {
    let machine = Machine::new().await;
    machine.layer("base", "", nothing).await;
    let base = machine.usage("base").await.unwrap().size as u64;
    let mounts = machine.prepare("active", "base").await.unwrap();
    std::fs::write(upper(&mounts).join("large"), vec![7; 1 << 20]).unwrap();
    *machine.memory.limit.lock().unwrap() = base + (1 << 20);
    assert_eq!(
        code(machine.commit("layer", "active").await),
        Code::ResourceExhausted
    );
    // It is active, as before, and its image is gone.
    assert_eq!(code(machine.stat("layer").await), Code::NotFound);
    let dir = upper(&mounts).parent().unwrap().to_owned();
    assert!(dir.join("fs/large").exists() && dir.join("work").exists());
    assert!(!dir.join("layer.daxfs").exists() && !dir.join("layer").exists());
    assert_eq!(machine.mounts("active").await.unwrap(), mounts);
    *machine.memory.limit.lock().unwrap() = 0;
    machine.commit("layer", "active").await.unwrap();

    // After a restart there is no room for both.
    let machine = machine.restart().await;
    *machine.memory.limit.lock().unwrap() = base + 1;
    assert_eq!(
        code(machine.prepare("new", "layer").await),
        Code::ResourceExhausted
    );
    assert_eq!(machine.list(&[]).await.unwrap(), ["base", "layer"]);
    assert_eq!(machine.directories().len(), 2);
    *machine.memory.limit.lock().unwrap() = 0;
    machine.prepare("new", "layer").await.unwrap();
}

#[tokio::test]
async fn damaged_files_are_named() {
    let machine = Machine::new().await;
    machine.layer("layer", "", nothing).await;
    let machine = machine.restart().await;
    let dir = machine.directories().remove(0);
    let image = dir.join("layer.daxfs");
    std::fs::write(&image, "no image").unwrap();
    let status = machine.prepare("new", "layer").await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert!(status.message().contains("layer.daxfs"), "{status}");
    std::fs::remove_file(&image).unwrap();
    assert_ne!(code(machine.prepare("new", "layer").await), Code::Ok);
    assert_eq!(machine.list(&[]).await.unwrap(), ["layer"]);

    // A second daemon is refused, and so is a damaged record.
    let config = Machine::config(machine.place.path());
    let start = || {
        serve(
            &config,
            Box::new(Kernel::new(&config.memory)),
            || (),
            async {},
        )
    };
    let error = start().await.unwrap_err().to_string();
    assert!(error.contains("another daxfs-snapshotter"), "{error}");
    std::fs::write(dir.join("snapshot.json"), "{}").unwrap();
    let Machine {
        place,
        client,
        end,
        server,
        ..
    } = machine;
    drop(client);
    end.send(()).unwrap();
    server.await.unwrap().unwrap();
    let error = start().await.unwrap_err().to_string();
    assert!(error.contains("snapshot.json: missing field"), "{error}");
    drop(place);
}
