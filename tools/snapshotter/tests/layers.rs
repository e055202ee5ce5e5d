// SPDX-License-Identifier: GPL-2.0-only

//! Content of layers' images.

use crate::{lower, upper, Machine};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::time::UNIX_EPOCH;

/// The same files give the same image, so the same memory content on each machine. Whiteouts and the root have the time of
/// unpacking.
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

/// The root of a container has the attributes of its image's.
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
