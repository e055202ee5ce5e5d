// SPDX-License-Identifier: GPL-2.0-only

//! Content of layers' images.

use crate::rules::nothing;
use crate::{labels, lower, option, refused_for, upper, Machine};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::time::UNIX_EPOCH;
use tonic::Code;

/// The same files give the same image on each machine, although whiteouts and the root have the
/// time of unpacking.
#[tokio::test]
async fn images_are_the_same_each_time() {
    let machine = Machine::new().await;
    let mut images = Vec::new();
    for name in ["one", "two"] {
        let mounts = machine.prepare(name, "").await.unwrap();
        let dir = upper(&mounts);
        let file = std::fs::File::create(dir.join("file")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        let whiteout = dir.join("removed");
        let kind = FileType::CharacterDevice;
        mknodat(CWD, whiteout, kind, Mode::RUSR, makedev(0, 0)).unwrap();
        machine
            .commit(&format!("layer {name}"), name)
            .await
            .unwrap();
        images.push(std::fs::read(machine.image(dir.parent().unwrap())).unwrap());
    }
    assert!(images[0] == images[1], "the images differ");
}

/// A layer is made only on its parent's original image, not on one that has replaced it.
#[tokio::test]
async fn images_that_are_replaced() {
    let mut machine = Machine::new().await;
    machine.layer("one", "", nothing).await;
    machine.layer("two", "one", nothing).await;
    let [one, two] = [0, 1].map(|at| machine.image(&machine.directories()[at]));
    machine.prepare("key", "two").await.unwrap();
    let good = std::fs::read(&two).unwrap();
    std::fs::copy(&one, &two).unwrap();
    let answer = machine.commit("three", "key").await;
    refused_for("replaced", answer, Code::DataLoss);
    std::fs::write(&two, &good[..good.len() / 2]).unwrap();
    let answer = machine.prepare("container", "three").await;
    refused_for("cut", answer, Code::DataLoss);
    machine = machine.restart().await;
    let answer = machine.prepare("container", "three").await;
    refused_for("after a restart", answer, Code::DataLoss);
    std::fs::write(&two, good).unwrap();
    let mounts = machine.prepare("container", "three").await.unwrap();
    assert!(["one", "two"].map(|name| lower(&mounts).join(name).exists()) == [true; 2]);
}

/// A container's root has the attributes of its image's root.
#[tokio::test]
async fn roots_keep_their_attributes() {
    let root = rustix::process::geteuid().is_root();
    let machine = Machine::new().await;
    machine
        .layer("base", "", |dir| {
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o1751)).unwrap();
            if root {
                chown(dir, Some(1234), Some(5678)).unwrap();
            }
        })
        .await;
    let mounts = machine.prepare("new", "base").await.unwrap();
    for dir in [upper(&mounts), lower(&mounts)] {
        let status = dir.metadata().unwrap();
        assert_eq!(status.mode() & 0o7777, 0o1751, "{dir:?}");
        if root {
            assert_eq!((status.uid(), status.gid()), (1234, 5678), "{dir:?}");
        }
    }
}

/// containerd maps a container's lower layer in a user namespace; the upper has the host's owners.
#[tokio::test]
async fn user_namespaces() {
    let machine = Machine::new().await;
    machine.layer("base", "", nothing).await;
    let plain = machine.prepare("plain", "base").await.unwrap();
    assert_eq!(option(&plain, "uidmap"), None);
    let status = lower(&plain).metadata().unwrap();
    let ids = [status.uid(), status.gid()];
    // Only root may give files away.
    let far = if ids[0] == 0 { 100_000 } else { 0 };
    let [users, groups] = ids.map(|id| format!("7:8:1,{id}:{}:2", id + far));
    let map = |users: &str, groups: &str| {
        labels(&[
            ("containerd.io/snapshot/uidmapping", users),
            ("containerd.io/snapshot/gidmapping", groups),
        ])
    };
    for (key, parent) in [("new", "base"), ("first", "")] {
        let mounts = machine
            .prepare_with(key, parent, map(&users, &groups))
            .await;
        let status = upper(&mounts.unwrap()).metadata().unwrap();
        assert_eq!(
            [status.uid(), status.gid()],
            ids.map(|id| id + far),
            "{key}"
        );
    }
    let mounts = machine.mounts("new").await.unwrap();
    assert_eq!(option(&mounts, "uidmap").unwrap(), users);
    assert_eq!(option(&mounts, "gidmap").unwrap(), groups);
    let lower = option(&plain, "lowerdir").unwrap();
    assert_eq!(option(&mounts, "lowerdir").unwrap(), lower + "/.");

    let beyond = format!("{}:1:1", ids[0] + 1);
    for wrong in [
        "",
        "0",
        "0:1",
        "0:1:0",
        "0:1:2:3",
        "0:-1:1",
        "0:1:4294967295",
        "0:1:1,",
        "0:1:2,1:9:1",
        "0:1:2,5:2:1",
        &beyond,
    ] {
        let answer = machine
            .prepare_with("wrong", "base", map(wrong, &groups))
            .await;
        refused_for(wrong, answer, Code::InvalidArgument);
    }
    assert_eq!(
        machine.list().await.unwrap(),
        ["base", "first", "new", "plain"]
    );
}
