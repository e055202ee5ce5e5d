// SPDX-License-Identifier: GPL-2.0-only

//! containerd's rules for snapshots: which calls work in which order, and the errors of the others.

use crate::{lower, option, refused, refused_for, upper, Machine};
use daxfs_snapshotter::api::{Kind, Labels};
use daxfs_snapshotter::loader::Loader;
use std::path::Path;
use tonic::Code;

pub fn nothing(_: &Path) {}

#[tokio::test]
async fn mounts_of_views_and_of_active_snapshots() {
    let machine = Machine::new().await;
    machine.layer("one", "", nothing).await;
    machine.layer("two", "one", nothing).await;
    machine.layer("three", "two", nothing).await;

    // Images contain all files, so a view needs no overlay.
    let one = machine.view("view one", "one").await.unwrap();
    assert_eq!(
        (one[0].r#type.as_str(), &one[0].options[..]),
        ("bind", &["ro".to_owned(), "rbind".into()][..])
    );
    assert_eq!(
        std::fs::read(Path::new(&one[0].source).join("one")).unwrap(),
        b"one"
    );

    let three = machine.view("view three", "three").await.unwrap();
    assert_eq!(three[0].options, ["ro", "rbind"]);
    for name in ["three", "two", "one"] {
        let file = upper(&three).join(name);
        assert_eq!(std::fs::read_to_string(file).unwrap(), name);
    }

    // They share the image.
    let active = machine.prepare("active", "three").await.unwrap();
    assert_eq!(
        (active[0].r#type.as_str(), active[0].source.as_str()),
        ("overlay", "overlay")
    );
    assert_eq!(lower(&active), upper(&three));
    let options = ["index=off", "metacopy=off", "redirect_dir=off"];
    assert_eq!(active[0].options[..3], options);
    for name in ["upperdir", "workdir"] {
        let dir = option(&active, name).unwrap();
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "{name}");
    }
    assert_eq!(machine.memory.count(), 2);

    let empty = machine.view("empty", "").await.unwrap();
    assert_eq!(empty[0].options, ["ro", "rbind"]);
    assert_eq!(std::fs::read_dir(&empty[0].source).unwrap().count(), 0);
    assert_eq!(machine.stat("empty").await.unwrap().kind(), Kind::View);
}

#[tokio::test]
async fn metrics() {
    let machine = Machine::new().await;
    machine.layer("one", "", nothing).await;
    machine.layer("two", "one", nothing).await;
    machine.view("view", "two").await.unwrap();
    refused(machine.stat("none").await, Code::NotFound);
    let said = machine.snapshotter.metrics();
    assert_eq!(machine.memory.count(), 1);
    for line in [
        "# TYPE daxfs_snapshotter_layers gauge",
        "daxfs_snapshotter_layers 2",
        "daxfs_snapshotter_layers_pending 0",
        "daxfs_snapshotter_images_loaded 1",
        &format!("daxfs_snapshotter_loaded_bytes {}", machine.memory.bytes()),
        "daxfs_snapshotter_limit_bytes 0",
        "daxfs_snapshotter_failures_total{code=\"NotFound\"} 1",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
}

#[tokio::test]
async fn what_is_refused() {
    let machine = Machine::new().await;
    machine.layer("layer", "", nothing).await;
    machine.prepare("active", "layer").await.unwrap();
    machine.view("view", "layer").await.unwrap();
    for name in ["layer", "active", "view"] {
        refused_for(name, machine.prepare(name, "").await, Code::AlreadyExists);
        refused_for(name, machine.view(name, "layer").await, Code::AlreadyExists);
        let answer = machine.commit(name, "active").await;
        refused_for(name, answer, Code::AlreadyExists);
    }
    for parent in ["active", "view"] {
        let answer = machine.prepare("new", parent).await;
        refused_for(parent, answer, Code::InvalidArgument);
        let answer = machine.view("new", parent).await;
        refused_for(parent, answer, Code::InvalidArgument);
    }
    for path in ["name", "parent", "kind", "created_at"] {
        let answer = machine.update("active", Labels::new(), &[path]).await;
        refused_for(path, answer, Code::InvalidArgument);
    }
    refused(machine.prepare("", "layer").await, Code::InvalidArgument);
    refused(machine.prepare("new", "none").await, Code::NotFound);
    refused(
        machine.commit("new", "view").await,
        Code::FailedPrecondition,
    );
    refused(
        machine.commit("new", "layer").await,
        Code::FailedPrecondition,
    );
    refused(machine.mounts("layer").await, Code::FailedPrecondition);
    refused(machine.remove("layer").await, Code::FailedPrecondition);
    for name in ["none", "new", ""] {
        refused_for(name, machine.mounts(name).await, Code::NotFound);
        refused_for(name, machine.stat(name).await, Code::NotFound);
        refused_for(name, machine.usage(name).await, Code::NotFound);
        refused_for(name, machine.remove(name).await, Code::NotFound);
        refused_for(name, machine.commit("other", name).await, Code::NotFound);
        refused_for(
            name,
            machine.update(name, Labels::new(), &[]).await,
            Code::NotFound,
        );
    }
    // None of these calls left anything.
    assert_eq!(machine.list().await.unwrap(), ["active", "layer", "view"]);
    assert_eq!(machine.directories().len(), 3);
}

#[tokio::test]
async fn lists() {
    let machine = Machine::new().await;
    machine.layer("base", "", nothing).await;
    for number in 0..250 {
        machine
            .prepare(&format!("k{number:03}"), "base")
            .await
            .unwrap();
    }
    // They arrive in several parts.
    let all = machine.list().await.unwrap();
    assert_eq!(
        (all.len(), all[0].as_str(), all[250].as_str()),
        (251, "base", "k249")
    );
}

#[tokio::test]
async fn usage_counts_what_is_there() {
    let machine = Machine::new().await;
    let mounts = machine.prepare("a", "").await.unwrap();
    let empty = machine.usage("a").await.unwrap();
    assert_eq!(empty.inodes, 1);
    let dir = upper(&mounts);
    std::fs::write(dir.join("file"), vec![1; 1 << 20]).unwrap();
    std::fs::hard_link(dir.join("file"), dir.join("link")).unwrap();
    std::fs::create_dir(dir.join("dir")).unwrap();
    let full = machine.usage("a").await.unwrap();
    assert_eq!(full.inodes, 3);
    assert!(
        full.size >= empty.size + (1 << 20) && full.size < empty.size + (2 << 20),
        "{full:?}"
    );
    machine.commit("layer", "a").await.unwrap();
    // The size of the image and its pack.
    let layer = machine.usage("layer").await.unwrap();
    assert_eq!(layer.inodes, 3);
    assert_eq!(layer.size as u64, machine.memory.bytes());
    machine.view("view", "layer").await.unwrap();
    assert_eq!(machine.usage("view").await.unwrap().size, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once() {
    let machine = Machine::new().await;
    machine.layer("base", "", nothing).await;
    let machine = std::sync::Arc::new(machine);
    let spawn = |number: usize| {
        let machine = machine.clone();
        tokio::spawn(async move {
            let key = format!("key {number}");
            let mounts = machine.prepare(&key, "base").await.unwrap();
            std::fs::write(upper(&mounts).join("number"), key.as_bytes()).unwrap();
            // All want the same name: one gets it.
            let same = machine.commit("same", &key).await;
            if let Err(status) = &same {
                assert_eq!(status.code(), Code::AlreadyExists, "{status}");
                machine
                    .commit(&format!("layer {number}"), &key)
                    .await
                    .unwrap();
            }
            same.is_ok()
        })
    };
    let tasks: Vec<_> = (0..16).map(spawn).collect();
    let mut first = 0;
    for task in tasks {
        first += usize::from(task.await.unwrap());
    }
    assert_eq!(first, 1);
    let infos = machine.infos().await.unwrap();
    assert_eq!(infos.len(), 17);
    assert!(infos.iter().all(|info| info.kind() == Kind::Committed));
    assert_eq!(machine.memory.count(), 16);
    let base = machine.view("view", "same").await.unwrap();
    let text = std::fs::read_to_string(upper(&base).join("number")).unwrap();
    assert!(text.starts_with("key "));
}
