// SPDX-License-Identifier: GPL-2.0-only

//! Content of layers' images.

use crate::{lower, upper, Machine};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::Path;

/// Write files of each kind that any user can make.
fn fill(dir: &Path) {
    std::fs::create_dir_all(dir.join("dir/empty")).unwrap();
    std::fs::write(dir.join("dir/large"), vec![3; 3 << 20]).unwrap();
    std::fs::write(dir.join("script"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("script"), PermissionsExt::from_mode(0o4751)).unwrap();
    std::fs::hard_link(dir.join("script"), dir.join("dir/link")).unwrap();
    symlink("../script", dir.join("dir/symlink")).unwrap();
    let fifo = dir.join("fifo");
    mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

/// The same files give the same image, so the same memory content on each machine.
#[tokio::test]
async fn images_are_the_same_each_time() {
    let machine = Machine::new().await;
    let mut images = Vec::new();
    for name in ["one", "two"] {
        let mounts = machine.prepare(name, "").await.unwrap();
        let dir = upper(&mounts);
        fill(&dir);
        let whiteout = dir.join("removed");
        let kind = FileType::CharacterDevice;
        mknodat(CWD, whiteout, kind, Mode::RUSR, makedev(0, 0)).unwrap();
        for path in [
            "dir/empty",
            "dir/large",
            "dir/symlink",
            "dir",
            "script",
            "fifo",
        ] {
            let time = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                },
                last_modification: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                },
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(CWD, dir.join(path), &time, flags).unwrap();
        }
        machine
            .commit(&format!("layer {name}"), name)
            .await
            .unwrap();
        images.push(std::fs::read(machine.image(dir.parent().unwrap())).unwrap());
    }
    assert_eq!(images[0].len(), images[1].len());
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
    for dir in [upper(&mounts), lower(&mounts).remove(0)] {
        let status = dir.metadata().unwrap();
        assert_eq!(status.mode() & 0o7777, 0o1751, "{dir:?}");
        if root {
            assert_eq!((status.uid(), status.gid()), (1234, 5678), "{dir:?}");
        }
    }
}
