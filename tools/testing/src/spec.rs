// SPDX-License-Identifier: GPL-2.0-only

//! Random trees: their descriptions, and how to create them on disk in either order.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rustix::fs::{
    linkat, mknodat, setxattr, symlinkat, utimensat, AtFlags, FileType, Mode, Timespec, Timestamps,
    XattrFlags, CWD,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file and its attributes.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub mode: u32,
    pub mtime: (i64, i64),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Type of a file.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Data at some offset, and the size.
    File(u64, Vec<u8>, u64),
    Directory(BTreeMap<Vec<u8>, Item>),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    /// Another name for the file at this index in the tree, if such a file may have two names.
    HardLink(usize),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = (1..=255u8).prop_filter("no slash", |&byte| byte != b'/');
    let long = vec(byte.clone(), 200..=255);
    let short = vec(byte, 1..12);
    prop_oneof![1 => long, 6 => short, 3 => "[a-z]{1,3}".prop_map(String::into_bytes)]
        .prop_filter("no dots", |name| name != b"." && name != b"..")
}

fn leaf() -> impl Strategy<Value = Kind> {
    let small =
        (vec(any::<u8>(), 0..9000)).prop_map(|data| Kind::File(0, data.clone(), data.len() as u64));
    let sparse = (0..1_500_000u64, vec(any::<u8>(), 1..5000), 0..1_500_000u64)
        .prop_map(|(at, data, more)| Kind::File(at, data.clone(), at + data.len() as u64 + more));
    let target = vec((1..=255u8).prop_map(|byte| byte), 1..200);
    prop_oneof![
        8 => small,
        1 => sparse,
        2 => target.prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        2 => (0..50usize).prop_map(Kind::HardLink),
    ]
}

fn item(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Item> {
    let xattrs = btree_map(
        "user\\.[a-z]{1,20}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..40),
        0..3,
    );
    let times = (-0x8000_0000i64..0x2_0000_0000, 0..1_000_000_000i64);
    (
        kind,
        0..0o10000u32,
        times,
        prop_oneof![3 => Just(BTreeMap::new()), 1 => xattrs],
    )
        .prop_map(|(kind, mode, mtime, xattrs)| Item {
            kind,
            mode,
            mtime,
            xattrs,
        })
}

/// Returns a directory with up to a hundred files in it and below.
pub fn tree() -> impl Strategy<Value = Item> {
    let directory = item(leaf()).prop_recursive(4, 100, 20, |inner| {
        let entries = btree_map(name(), inner, 0..20);
        item(entries.prop_map(Kind::Directory))
    });
    item(btree_map(name(), directory, 0..20).prop_map(Kind::Directory))
}

/// Creates `item` at `path`, and the entries of directories from last to first if `backwards`.
/// Returns whether everything could be stored.
pub fn create(item: &Item, path: &Path, backwards: bool) -> bool {
    let mut all = Vec::new();
    collect(item, path.to_path_buf(), &mut all);
    let numbered: Vec<PathBuf> = all
        .iter()
        .filter(|(item, _)| !matches!(item.kind, Kind::Directory(_) | Kind::HardLink(_)))
        .map(|(_, path)| path.clone())
        .collect();
    // Parents come before their children.
    for (item, path) in &all {
        if matches!(item.kind, Kind::Directory(_)) {
            std::fs::create_dir(path).unwrap();
        }
    }
    if backwards {
        all.reverse();
    }
    for (item, path) in &all {
        make(item, path);
    }
    for (item, path) in &all {
        if let (Kind::HardLink(which), Some(count)) = (&item.kind, numbered.len().checked_sub(1)) {
            let target = &numbered[which % (count + 1)];
            linkat(CWD, target, CWD, path, AtFlags::empty()).unwrap();
        }
    }
    let mut complete = true;
    for (item, path) in &all {
        if !matches!(item.kind, Kind::HardLink(_) | Kind::Directory(_)) {
            complete &= attributes(item, path);
        }
    }
    // Children come before their parents, whose times they would change.
    all.sort_by_key(|(_, path)| std::cmp::Reverse(path.components().count()));
    for (item, path) in &all {
        if matches!(item.kind, Kind::Directory(_)) {
            complete &= attributes(item, path);
        }
    }
    complete
}

fn collect<'a>(item: &'a Item, path: PathBuf, all: &mut Vec<(&'a Item, PathBuf)>) {
    all.push((item, path.clone()));
    if let Kind::Directory(entries) = &item.kind {
        for (name, entry) in entries {
            collect(entry, path.join(OsStr::from_bytes(name)), all);
        }
    }
}

fn make(item: &Item, path: &Path) {
    match &item.kind {
        Kind::File(offset, data, size) => {
            let file = std::fs::File::create(path).unwrap();
            file.write_all_at(data, *offset).unwrap();
            file.set_len(*size).unwrap();
        }
        Kind::Symlink(target) => symlinkat(target.as_slice(), CWD, path).unwrap(),
        Kind::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::empty(), 0).unwrap(),
        Kind::Socket => mknodat(CWD, path, FileType::Socket, Mode::empty(), 0).unwrap(),
        Kind::Directory(_) | Kind::HardLink(_) => (),
    }
}

fn attributes(item: &Item, path: &Path) -> bool {
    let mut complete = true;
    if matches!(item.kind, Kind::File(..) | Kind::Directory(_)) {
        for (name, value) in &item.xattrs {
            match setxattr(path, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => (),
                Err(Errno::NOTSUP) => complete = false,
                Err(error) => panic!("{error}"),
            }
        }
    }
    if !matches!(item.kind, Kind::Symlink(_)) {
        // A user who is not root must be able to read it.
        let more = match item.kind {
            _ if rustix::process::geteuid().is_root() => 0,
            Kind::Directory(_) => 0o700,
            _ => 0o400,
        };
        let mode = PermissionsExt::from_mode(item.mode | more);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let time = Timespec {
        tv_sec: item.mtime.0,
        tv_nsec: item.mtime.1 as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    complete
}
