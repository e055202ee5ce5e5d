// SPDX-License-Identifier: GPL-2.0-only

//! Images preserve all files: extreme sizes, times and names, and every file type.

use crate::support::{is_root, make, mkdaxfs, run, skip};
use daxfs_check::memory::FileMemory;
use daxfs_reader::{Content, Image, Superblock};
use daxfs_testing::{
    assert_same,
    listing::{of_directory, What},
    listing_of, scratch,
};
use rustix::fs::{
    fsetxattr, lsetxattr, mkdirat, mknodat, openat, utimensat, AtFlags, FileType, Mode, OFlags,
    Timespec, Timestamps, XattrFlags, CWD,
};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

const NONE: [&str; 0] = [];

/// Make an image of `tree` and compare the two.
fn round_trip(tree: &Path) -> tempfile::TempDir {
    let directory = scratch();
    let image = directory.path().join("image");
    make(["-q"], tree, &image);
    assert_same(&listing_of(&image), &of_directory(tree));
    directory
}

#[test]
fn names_of_every_byte_and_length() {
    let tree = tempfile::tempdir().unwrap();
    for byte in (1..=255u8).filter(|&byte| byte != b'/') {
        fs::write(tree.path().join(OsStr::from_bytes(&[byte, b'_'])), [byte]).unwrap();
        fs::write(tree.path().join(OsStr::from_bytes(&[byte; 255])), [byte]).unwrap();
    }
    for length in 1..=255 {
        fs::write(tree.path().join("n".repeat(length)), "").unwrap();
    }
    symlink("t".repeat(4095), tree.path().join("longest target")).unwrap();
    round_trip(tree.path());
}

/// A path far longer than `PATH_MAX`.
#[test]
fn deep_tree() {
    let tree = tempfile::tempdir().unwrap();
    let name = "d".repeat(200);
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = openat(CWD, tree.path(), directory_flags, Mode::empty()).unwrap();
    let mut attributes = 0;
    for depth in 1..=60u8 {
        mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &name, directory_flags, Mode::empty()).unwrap();
        let create = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&at, "file", create, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, &[depth]).unwrap();
        attributes +=
            u32::from(fsetxattr(&file, "user.depth", &[depth], XattrFlags::empty()).is_ok());
    }
    let directory = scratch();
    let image = directory.path().join("image");
    make(["-q"], tree.path(), &image);
    let listing = listing_of(&image);
    let mut path = Vec::new();
    let mut found = 0;
    for depth in 1..=60u8 {
        path.extend_from_slice(name.as_bytes());
        path.push(b'/');
        let entry = &listing[&[path.as_slice(), b"file"].concat()];
        assert_eq!(entry.content, What::Bytes(vec![depth]));
        if let Some(value) = entry.xattrs.get(&b"user.depth"[..]) {
            assert_eq!(*value, [depth]);
            found += 1;
        }
    }
    assert_eq!(found, attributes);
    drop(at);
    // The removal of temporary directories cannot handle the depth on some systems.
    let _ = Command::new("rm").arg("-rf").arg(tree.path()).status();
}

#[test]
fn times_before_1970_and_after_2106() {
    let tree = tempfile::tempdir().unwrap();
    let times = [
        -0x8000_0000i64,
        -1,
        0,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x2_0000_0000,
    ];
    for (number, seconds) in times.into_iter().enumerate() {
        let path = tree.path().join(format!("file{number}"));
        fs::write(&path, "").unwrap();
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: if number % 2 == 0 { 0 } else { 999_999_999 },
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        let metadata = path.metadata().unwrap();
        if (metadata.mtime(), metadata.mtime_nsec()) != (time.tv_sec, time.tv_nsec) {
            skip(&format!(
                "the file system does not store the time {seconds}"
            ));
        }
    }
    round_trip(tree.path());
}

#[test]
fn special_files_and_modes() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    mknodat(
        CWD,
        at("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    mknodat(
        CWD,
        at("socket"),
        FileType::Socket,
        Mode::from_raw_mode(0o777),
        0,
    )
    .unwrap();
    for mode in [0o4755, 0o2755, 0o1644, 0o7777, 0o600] {
        fs::write(at(&format!("{mode:o}")), "").unwrap();
        fs::set_permissions(at(&format!("{mode:o}")), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::create_dir(at("sticky")).unwrap();
    fs::set_permissions(at("sticky"), PermissionsExt::from_mode(0o3777)).unwrap();
    if is_root() {
        for (name, file_type, device) in [
            ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
            (
                "largest",
                FileType::BlockDevice,
                rustix::fs::makedev(0xfff, 0xf_ffff),
            ),
            ("whiteout", FileType::CharacterDevice, 0),
        ] {
            if let Err(error) =
                mknodat(CWD, at(name), file_type, Mode::from_raw_mode(0o600), device)
            {
                skip(&format!("device {name}: {error}"));
            }
        }
        symlink("fifo", at("link")).unwrap();
        lchown(at("link"), Some(12345), Some(0xffff_fffe)).unwrap();
        lchown(at("fifo"), Some(65534), Some(1)).unwrap();
    } else {
        skip("devices and other owners need root");
    }
    round_trip(tree.path());
}

#[test]
fn hard_links() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("one"), "x").unwrap();
    fs::hard_link(at("one"), at("a/two")).unwrap();
    fs::hard_link(at("one"), at("a/b/three")).unwrap();
    symlink("one", at("link")).unwrap();
    fs::hard_link(at("link"), at("a/link")).unwrap();
    // A name outside the tree does not count.
    let outside = tempfile::tempdir_in(tree.path().parent().unwrap()).unwrap();
    fs::write(at("alone"), "x").unwrap();
    fs::hard_link(at("alone"), outside.path().join("other")).unwrap();
    let directory = round_trip(tree.path());
    let listing = listing_of(&directory.path().join("image"));
    let links = |name: &str| listing[name.as_bytes()].nlink;
    assert_eq!(
        (
            links("one"),
            links("link"),
            links("alone"),
            links("a"),
            links("")
        ),
        (3, 2, 1, 3, 3)
    );
}

#[test]
fn extended_attributes() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    let mut names = vec![
        "user.comment".to_string(),
        format!("user.{}", "n".repeat(250)),
    ];
    if is_root() {
        names.push("trusted.overlay.opaque".into());
        names.push("security.test".into());
        symlink("x", at("link")).unwrap();
        lsetxattr(at("link"), "trusted.link", b"value", XattrFlags::empty()).unwrap();
    } else {
        skip("trusted and security attributes need root");
    }
    for number in 0..20 {
        fs::write(at(&format!("file{number}")), "").unwrap();
    }
    for path in [
        at("dir"),
        at("file1"),
        at("file2"),
        at("file3"),
        tree.path().into(),
    ] {
        for name in &names {
            if let Err(error) = lsetxattr(&path, name.as_str(), &[0xff, 0, 1], XattrFlags::empty())
            {
                skip(&format!("{name}: {error}"));
            }
        }
    }
    let value = vec![b'v'; 3000];
    let _ = lsetxattr(at("file3"), "user.large", &value, XattrFlags::empty());
    let _ = lsetxattr(at("file4"), "user.empty", b"", XattrFlags::empty());
    // An access control list as the kernel stores it: version 2, u::rw-, u:1:rw-, g::r--, m::rw-,
    // o::---
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 6, 1),
        (4, 4, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    for (path, name) in [
        ("file5", "system.posix_acl_access"),
        ("dir", "system.posix_acl_default"),
    ] {
        if let Err(error) = lsetxattr(at(path), name, &list, XattrFlags::empty()) {
            skip(&format!("{name}: {error}"));
        }
    }
    let directory = round_trip(tree.path());
    // The sets that three files share are stored once.
    let file = File::open(directory.path().join("image")).unwrap();
    let memory = FileMemory::new(&file).unwrap();
    let superblock = Superblock::load(&memory).unwrap();
    let image = Image::new(&memory, &superblock);
    let mut sets: Vec<u64> = (1..=superblock.inode_count() as u32)
        .map(|ino| image.inode(ino).unwrap().xattrs)
        .collect();
    sets.retain(|&set| set != 0);
    let all = sets.len();
    sets.sort_unstable();
    sets.dedup();
    assert!(all == 0 || all - sets.len() >= 2, "{sets:?}");
}

/// A file of more than 4 GiB with holes keeps its holes.
#[test]
fn sparse_and_large_files() {
    let tree = scratch();
    let size = (4u64 << 30) + 12_345_679;
    let sparse = File::create(tree.path().join("sparse")).unwrap();
    sparse.set_len(size).unwrap();
    sparse.write_all_at(b"middle", size / 2 + 12345).unwrap();
    sparse.write_all_at(b"end", size - 3).unwrap();
    let directory = scratch();
    let image = directory.path().join("image");
    make(["-q"], tree.path(), &image);
    let metadata = image.metadata().unwrap();
    assert!(metadata.len() > size);
    assert!(
        metadata.blocks() * 512 < 10 << 20,
        "{} blocks",
        metadata.blocks()
    );

    let file = File::open(&image).unwrap();
    let memory = FileMemory::new(&file).unwrap();
    let superblock = Superblock::load(&memory).unwrap();
    let reader = Image::new(&memory, &superblock);
    let Content::Directory(root) = reader.root().unwrap().content else {
        panic!("no root");
    };
    let entry = reader.lookup(&root, b"sparse").unwrap().unwrap();
    let inode = reader.inode(entry.ino).unwrap();
    let Content::Regular { data } = inode.content else {
        panic!("no file");
    };
    assert!(inode.size == size && inode.is_huge());
    let mut bytes = [0; 8];
    for (at, expected) in [
        (size / 2 + 12344, b"\0middle\0"),
        (size - 5, b"\0\0end\0\0\0"),
        (0, &[0; 8]),
    ] {
        file.read_exact_at(&mut bytes, data + at).unwrap();
        assert_eq!(&bytes, expected);
    }
}

/// Large files are at multiples of 2 MiB, and small files fill the gaps.
#[test]
fn alignment() {
    let tree = scratch();
    let mut content = 0;
    for number in 0..6u64 {
        let size = (2 << 20) + number * 300_001;
        fs::write(
            tree.path().join(format!("huge{number}")),
            vec![number as u8; size as usize],
        )
        .unwrap();
        content += size;
    }
    for number in 0..900u64 {
        let size = number * 13 % 19_000;
        fs::write(
            tree.path().join(format!("small{number}")),
            vec![1; size as usize],
        )
        .unwrap();
        content += size.next_multiple_of(4096);
    }
    fs::write(tree.path().join("almost"), vec![1; (2 << 20) - 1]).unwrap();
    let directory = round_trip(tree.path());
    let image = directory.path().join("image");
    let size = image.metadata().unwrap().len();
    assert_eq!(size % (2 << 20), 0);
    let slack = size - content - (2 << 20);
    assert!(slack < 5 << 19, "{slack} bytes of padding");
    make(["-b", "65536", "-q"], tree.path(), &image);
    assert_same(&listing_of(&image), &of_directory(tree.path()));
}

/// The same tree gives the same bytes: copied in another order, elsewhere, by one processor.
#[test]
fn reproducible() {
    let directory = scratch();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..400 {
        let sub = tree.join(format!("dir{}", number % 17));
        let _ = fs::create_dir(&sub);
        fs::write(
            sub.join(format!("file{number}")),
            vec![number as u8; number * 97],
        )
        .unwrap();
    }
    fs::hard_link(tree.join("dir3/file3"), tree.join("dir0/hard")).unwrap();
    fs::write(tree.join("huge"), vec![3; 7 << 20]).unwrap();
    let copy = directory.path().join("copy");
    let script = r#"mkdir "$2" && cd "$1" && ls -r | xargs cp -a -t "$2" && touch -r "$1" "$2""#;
    let status = Command::new("bash")
        .arg("-c")
        .arg(script)
        .arg("-")
        .args([&tree, &copy])
        .status();
    assert!(status.unwrap().success());
    // Hard links across arguments of cp are kept within one call only, which xargs made it.
    let (a, b, c) = (
        directory.path().join("a"),
        directory.path().join("b"),
        directory.path().join("c"),
    );
    make(NONE, &tree, &a);
    make(NONE, &copy, &b);
    let bytes = fs::read(&a).unwrap();
    assert!(
        bytes == fs::read(&b).unwrap(),
        "the copy gives another image"
    );
    let command = mkdaxfs();
    let one = run(Command::new("taskset")
        .arg("1")
        .arg(command.get_program())
        .arg("-q")
        .args([&tree, &c]));
    if one.status == 0 {
        assert!(
            bytes == fs::read(&c).unwrap(),
            "one processor gives another image"
        );
    } else {
        skip("no taskset");
    }
}
