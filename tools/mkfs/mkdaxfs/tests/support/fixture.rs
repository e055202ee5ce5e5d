// SPDX-License-Identifier: GPL-2.0-only

//! A tree with one of everything that archives can hold.

use super::{is_root, skip};
use rustix::fs::{
    lsetxattr, mknodat, utimensat, AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags, CWD,
};
use std::fs::{self, File};
use std::os::unix::fs::{lchown, symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Features of an archive format.
#[derive(Clone, Copy, Default)]
pub struct Can {
    /// Nanoseconds.
    pub times: bool,
    /// Times before 1970, with nanoseconds.
    pub early: bool,
    /// Names of any length and of any bytes.
    pub names: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

/// Everything.
pub const ALL: Can = Can {
    times: true,
    early: true,
    names: true,
    xattrs: true,
};

/// Make the tree in the directory `at`, which it creates.
pub fn make(at: &Path, can: Can) {
    let path = |name: &str| at.join(name);
    fs::create_dir_all(path("dir/sub/deep")).unwrap();
    fs::create_dir(path("empty dir")).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("dir/one"), "one").unwrap();
    fs::write(path("dir/block"), [7; 512]).unwrap();
    fs::write(path("dir/sub/more"), [1; 5000]).unwrap();
    let huge: Vec<u8> = (0..(2 << 20) + 17u32).map(|n| (n / 3) as u8).collect();
    fs::write(path("huge"), huge).unwrap();
    let sparse = File::create(path("sparse")).unwrap();
    for (offset, byte) in [(0, 1), (1 << 20, 2), ((1 << 20) + 4096 * 9, 3)] {
        sparse.write_all_at(&[byte; 4096], offset).unwrap();
    }
    // More pieces than one header of the old format has, and a hole at the end.
    for piece in 10..60u64 {
        let data = [piece as u8; 4096];
        sparse
            .write_all_at(&data, (piece << 16) + (2 << 20))
            .unwrap();
    }
    sparse.set_len(9 << 20).unwrap();
    File::create(path("only hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    fs::hard_link(path("dir/one"), path("dir/sub/again")).unwrap();
    fs::hard_link(path("huge"), path("dir/huge")).unwrap();
    symlink("dir/one", path("link")).unwrap();
    symlink("/absolute/../nowhere", path("dir/dangling")).unwrap();
    mknodat(
        CWD,
        path("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let name = "n".repeat(90);
    fs::create_dir_all(at.join("long").join(&name)).unwrap();
    fs::write(at.join("long").join(&name).join("prefix"), "split").unwrap();
    if can.names {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff\n \\name=1");
        fs::write(at.join(odd), "odd").unwrap();
        let long = "l".repeat(255);
        fs::create_dir_all(at.join(&long).join(&long)).unwrap();
        fs::write(at.join(&long).join(&long).join(&long), "long").unwrap();
        fs::hard_link(at.join(&long).join(&long).join(&long), at.join("short")).unwrap();
        symlink("t".repeat(500), path("long target")).unwrap();
    }
    if is_root() {
        for (name, kind, device) in [
            ("null", FileType::CharacterDevice, (1, 3)),
            ("disk", FileType::BlockDevice, (259, 70_000)),
        ] {
            let device = rustix::fs::makedev(device.0, device.1);
            if mknodat(CWD, path(name), kind, Mode::from_raw_mode(0o600), device).is_err() {
                skip("devices cannot be made here");
            }
        }
        lchown(path("dir/one"), Some(1234), Some(60_000)).unwrap();
        lchown(path("link"), Some(5), Some(6)).unwrap();
        if can.names {
            lchown(path("empty"), Some(3_000_000), Some(0xffff_fff0)).unwrap();
        }
    } else {
        skip("devices and other owners need root");
    }
    for (name, mode) in [
        ("dir", 0o3775),
        ("dir/block", 0o4755),
        ("empty", 0o600),
        ("huge", 0o444),
    ] {
        fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    if can.xattrs {
        let binary: Vec<u8> = (0..=255).collect();
        let mut stored = true;
        for (name, attribute, value) in [
            ("dir/one", "user.text", &b"value"[..]),
            ("dir/one", "user.binary", &binary),
            ("dir", "user.lines", b"\n=\n"),
            ("empty", "user.empty", b""),
        ] {
            stored &= lsetxattr(path(name), attribute, value, XattrFlags::empty()).is_ok();
        }
        if is_root() {
            let value = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            stored &= lsetxattr(
                path("dir/block"),
                "security.capability",
                value,
                XattrFlags::empty(),
            )
            .is_ok();
        }
        if !stored {
            skip("not all extended attributes can be stored here");
        }
    }
    set_times(at, can);
}

/// Give every file below `at`, and `at` itself, a different time.
pub fn set_times(at: &Path, can: Can) {
    let mut paths = vec![at.to_path_buf()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        if path.symlink_metadata().unwrap().is_dir() {
            let mut names: Vec<PathBuf> = path
                .read_dir()
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            names.sort();
            paths.extend(names);
        }
        next += 1;
    }
    for (number, path) in paths.iter().enumerate().rev() {
        let number = number as i64;
        let time = Timespec {
            tv_sec: if can.early && number % 3 == 0 {
                -5 - number
            } else {
                1_600_000_000 + number
            },
            tv_nsec: if can.times { 123_456_789 } else { 0 },
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Return a directory with the fixture in `tree`, and the bytes of its image.
pub fn imaged(can: Can) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    make(&tree, can);
    let image = directory.path().join("image");
    super::make(["-q"], &tree, &image);
    let bytes = fs::read(&image).unwrap();
    (directory, tree, bytes)
}
