// SPDX-License-Identifier: GPL-2.0-only

//! Content of layers' images.

use crate::{lower, upper, Machine};
use rustix::fs::{lsetxattr, makedev, mknodat, FileType, Mode, XattrFlags, CWD};
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

#[tokio::test]
async fn files_come_back() {
    let machine = Machine::new().await;
    machine.layer("base", "", fill).await;
    let mounts = machine.prepare("new", "base").await.unwrap();
    let layer = &lower(&mounts)[0];
    let script = layer.join("script").symlink_metadata().unwrap();
    assert_eq!((script.mode() & 0o7777, script.nlink()), (0o4751, 2));
    assert_eq!(
        layer.join("dir/link").symlink_metadata().unwrap().ino(),
        script.ino()
    );
    assert_eq!(
        std::fs::read(layer.join("dir/large")).unwrap(),
        vec![3; 3 << 20]
    );
    assert_eq!(
        std::fs::read_link(layer.join("dir/symlink")).unwrap(),
        Path::new("../script")
    );
    assert!(layer.join("dir/empty").is_dir() && layer.join("fifo").symlink_metadata().is_ok());
    assert_eq!(std::fs::read(layer.join("base")).unwrap(), b"base");
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

/// overlayfs's marks have their effect; its private records are dropped. Only root can make them.
#[tokio::test]
async fn marks_of_overlayfs() {
    let machine = Machine::new().await;
    machine
        .layer("base", "", |dir| {
            fill(dir);
            std::fs::create_dir(dir.join("merged")).unwrap();
            std::fs::write(dir.join("merged/below"), "below").unwrap();
        })
        .await;
    let mounts = machine.prepare("new", "base").await.unwrap();
    let dir = upper(&mounts);
    std::fs::create_dir(dir.join("dir")).unwrap();
    let whiteout = mknodat(
        CWD,
        dir.join("script"),
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(0, 0),
    );
    let set =
        |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty());
    let opaque = set(&dir.join("dir"), "trusted.overlay.opaque", b"y");
    if whiteout.is_err() || opaque.is_err() {
        eprintln!("skipped: this user cannot make whiteouts");
        return;
    }
    set(&dir.join("dir"), "trusted.overlay.origin", b"\0\xfb").unwrap();
    set(&dir, "trusted.overlay.impure", b"y").unwrap();
    set(&dir, "trusted.other", b"kept").unwrap();
    // overlayfs shows it without the second word.
    set(&dir, "trusted.overlay.overlay.redirect", b"/else").unwrap();
    std::fs::create_dir(dir.join("merged")).unwrap();
    std::fs::write(dir.join("merged/above"), "above").unwrap();
    machine.commit("changed", "new").await.unwrap();

    let view = machine.view("view", "changed").await.unwrap();
    let layer = upper(&view);
    assert!(layer.join("script").symlink_metadata().is_err());
    assert_eq!(std::fs::read_dir(layer.join("dir")).unwrap().count(), 0);
    for name in ["above", "below"] {
        let found = std::fs::read_to_string(layer.join("merged").join(name));
        assert_eq!(found.unwrap(), name);
    }
    let names = |path: &Path| {
        let mut list = vec![0; 4096];
        let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
        let list = String::from_utf8(list[..length].to_vec()).unwrap();
        let mut names: Vec<_> = list.split_terminator('\0').map(str::to_owned).collect();
        names.retain(|name| name.starts_with("trusted."));
        names.sort();
        names
    };
    assert_eq!(names(&layer.join("dir")), [""; 0]);
    let shown = ["trusted.other", "trusted.overlay.redirect"];
    assert_eq!(names(&layer), shown);

    // A file that overlayfs marks as having its content elsewhere is refused, even if a user set the mark.
    let mounts = machine.prepare("bad", "changed").await.unwrap();
    let file = upper(&mounts).join("file");
    std::fs::write(&file, "").unwrap();
    set(&file, "trusted.overlay.metacopy", b"").unwrap();
    let status = machine.commit("never", "bad").await.unwrap_err();
    assert!(status.message().contains("metacopy=off"), "{status}");
}
