// SPDX-License-Identifier: GPL-2.0-only

//! Options that change what goes into an image, and where the image goes.

use crate::support::{is_root, make, mkdaxfs, run, skip};
use daxfs_testing::builder::superblock;
use daxfs_testing::listing::{Listing, What};
use daxfs_testing::{listing_of, scratch};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Return a tree with some files, in `tree` of the directory.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("src/deep/target")).unwrap();
    fs::create_dir_all(tree.join("target")).unwrap();
    for name in [
        "src/a.c",
        "src/a.o",
        "src/deep/b.o",
        "src/deep/target/x",
        "target/y",
        "keep.o.txt",
    ] {
        fs::write(tree.join(name), name).unwrap();
    }
    symlink("src/a.c", tree.join("link")).unwrap();
    (directory, tree)
}

fn listing(options: &[&str], input: &Path) -> Listing {
    let scratch = scratch();
    let image = scratch.path().join("image");
    make(options, input, &image);
    listing_of(&image)
}

fn names(listing: &Listing) -> Vec<&str> {
    listing
        .keys()
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect()
}

/// Return an archive of the tree.
fn archive(tree: &Path) -> PathBuf {
    let archive = tree.with_extension("tar");
    let status = Command::new("tar")
        .args(["--format=posix", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    archive
}

#[test]
fn exclude() {
    let (directory, tree) = tree();
    let patterns = directory.path().join("patterns");
    fs::write(&patterns, "# objects\n\n*.o\n").unwrap();
    let from = format!("--exclude-from={}", patterns.display());
    for (options, expected) in [
        (
            &["-e", "*.o", "-e", "/target"][..],
            &[
                "",
                "keep.o.txt",
                "link",
                "src",
                "src/a.c",
                "src/deep",
                "src/deep/target",
                "src/deep/target/x",
            ][..],
        ),
        (
            &[from.as_str(), "--exclude=target/"],
            &["", "keep.o.txt", "link", "src", "src/a.c", "src/deep"],
        ),
        (&["-e", "src", "-e", "target"], &["", "keep.o.txt", "link"]),
        (
            &["-e", "src/**/x", "-e", "src/*.[co]", "-e", "{link,keep*}"],
            &[
                "",
                "src",
                "src/deep",
                "src/deep/b.o",
                "src/deep/target",
                "target",
                "target/y",
            ],
        ),
    ] {
        for input in [&tree, &archive(&tree)] {
            assert_eq!(names(&listing(options, input)), expected, "{options:?}");
        }
    }
    // The other name of a file stays.
    fs::hard_link(tree.join("src/a.o"), tree.join("src/z")).unwrap();
    let found = listing(&["-e", "a.o"], &archive(&tree));
    assert_eq!(
        found[&b"src/z"[..]].content,
        What::Bytes(b"src/a.o".to_vec())
    );
    assert_eq!(found[&b"src/z"[..]].nlink, 1);
    for wrong in ["[", "/", ""] {
        let output = run(mkdaxfs()
            .args(["-e", wrong])
            .arg(&tree)
            .arg(directory.path().join("image")));
        assert_eq!(output.status, 2, "{output:?}");
        let expected = format!("'{wrong}' for '--exclude <PATTERN>': the pattern '");
        assert!(output.stderr.contains(&expected), "{output:?}");
    }
}

#[test]
fn owners() {
    let (_directory, tree) = tree();
    if is_root() {
        for (name, uid, gid) in [
            ("src", 1000, 100),
            ("link", 1001, 101),
            ("target", 200_000, 5),
        ] {
            std::os::unix::fs::lchown(tree.join(name), Some(uid), Some(gid)).unwrap();
        }
    } else {
        skip("other owners need root");
    }
    let plain = listing(&[], &tree);
    let check = |options: &[&str], map: &dyn Fn(u32, u32) -> (u32, u32)| {
        for (path, entry) in listing(options, &tree) {
            let old = &plain[&path];
            assert_eq!((entry.uid, entry.gid), map(old.uid, old.gid), "{options:?}");
            assert_eq!((entry.mode, entry.mtime), (old.mode, old.mtime));
        }
    };
    check(&["--all-root"], &|_, _| (0, 0));
    check(&["--uid", "7"], &|_, gid| (7, gid));
    check(&["--uid", "7", "--gid", "4294967294"], &|_, _| {
        (7, u32::MAX - 1)
    });
    check(
        &[
            "--map-uid",
            "1000:5000:2",
            "--map-uid=200000:0:65536",
            "--map-gid=101:1",
        ],
        &|uid, gid| {
            let uid = match uid {
                1000 | 1001 => uid + 4000,
                200_000 => 0,
                uid => uid,
            };
            (uid, if gid == 101 { 1 } else { gid })
        },
    );
}

#[test]
fn modes_and_times() {
    let (directory, tree) = tree();
    fs::set_permissions(tree.join("src/a.c"), PermissionsExt::from_mode(0o4711)).unwrap();
    fs::set_permissions(tree.join("src/a.o"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(tree.join("src"), PermissionsExt::from_mode(0o2700)).unwrap();
    for (mode, program, object, source, link) in [
        ("u=rwX,go=rX", 0o755, 0o644, 0o2755, 0o777),
        ("a+r,o-x", 0o4754, 0o644, 0o2744, 0o777),
        ("-s", 0o711, 0o600, 0o700, 0o777),
        ("640", 0o640, 0o640, 0o2640, 0o777),
    ] {
        let found = listing(&[&format!("--mode={mode}")], &tree);
        let mode_of = |path: &str| found[path.as_bytes()].mode & 0o7777;
        assert_eq!(
            [
                mode_of("src/a.c"),
                mode_of("src/a.o"),
                mode_of("src"),
                mode_of("link")
            ],
            [program, object, source, link],
            "{mode}"
        );
    }
    let set = |name: &str, seconds: &str| {
        let status = Command::new("touch")
            .args(["-h", "-d", &format!("@{seconds}")])
            .arg(tree.join(name))
            .status();
        assert!(status.unwrap().success());
    };
    set("src/a.c", "1000.5");
    set("link", "999");
    let found = listing(&["--mtime", "1000.25"], &tree);
    assert!(found
        .values()
        .all(|entry| entry.mtime == (1000, 250_000_000)));
    let found = listing(&["--mtime", "1000.25", "--clamp-mtime"], &tree);
    assert_eq!(found[&b"src/a.c"[..]].mtime, (1000, 250_000_000));
    assert_eq!(found[&b"link"[..]].mtime, (999, 0));
    let image = directory.path().join("image");
    let output = run(mkdaxfs()
        .args(["-q", "--clamp-mtime"])
        .env("SOURCE_DATE_EPOCH", "1000")
        .arg(&tree)
        .arg(&image));
    assert_eq!(output.status, 0, "{output:?}");
    let found = listing_of(&image);
    assert_eq!(found[&b"src/a.c"[..]].mtime, (1000, 0));
    assert_eq!(found[&b"link"[..]].mtime, (999, 0));
    assert_eq!(superblock(&fs::read(&image).unwrap()).build_sec.get(), 1000);
    let output = run(mkdaxfs()
        .args(["-q", "--clamp-mtime"])
        .arg(&tree)
        .arg(&image));
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains("--clamp-mtime: needs a time"),
        "{output:?}"
    );
}

#[test]
fn labels() {
    let (directory, tree) = tree();
    let contexts = directory.path().join("file_contexts");
    fs::write(
        &contexts,
        "/.* system_u:object_r:default_t:s0\n/src(/.*)? -d dir_t\n/src/.*\\.o -- object_t\n/link -l link_t\n/target(/.*)? <<none>>\n",
    )
    .unwrap();
    let option = format!("--file-contexts={}", contexts.display());
    for input in [&tree, &archive(&tree)] {
        let found = listing(&[&option], input);
        let label = |path: &str| {
            let value = found[path.as_bytes()]
                .xattrs
                .get(&b"security.selinux"[..])?;
            Some(String::from_utf8(value.clone()).unwrap())
        };
        for (path, expected) in [
            ("", Some("system_u:object_r:default_t:s0\0")),
            ("src/deep", Some("dir_t\0")),
            ("src/deep/b.o", Some("object_t\0")),
            ("src/a.c", Some("system_u:object_r:default_t:s0\0")),
            ("link", Some("link_t\0")),
            ("target", None),
            ("target/y", None),
        ] {
            assert_eq!(label(path).as_deref(), expected, "{path}");
        }
    }
    fs::write(&contexts, "/( x\n").unwrap();
    let output = run(mkdaxfs()
        .arg(&option)
        .arg(&tree)
        .arg(directory.path().join("image")));
    assert_eq!(output.status, 1);
    assert!(
        output
            .stderr
            .contains("file_contexts: line 1: the expression '/(' is not understood"),
        "{output:?}"
    );
}

#[test]
fn sizes() {
    let (directory, tree) = tree();
    let image = directory.path().join("image");
    fs::write(tree.join("large"), vec![2; 1 << 20]).unwrap();
    fs::write(tree.join("huge"), vec![1; 3 << 20]).unwrap();
    let data = |options: &[&str], name: &str| {
        make(options, &tree, &image);
        let bytes = fs::read(&image).unwrap();
        let wanted = fs::read(tree.join(name)).unwrap();
        let at = bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
            .unwrap();
        (at as u64, bytes.len() as u64)
    };
    let huge = 2 << 20;
    let (at, size) = data(&[], "huge");
    assert_eq!((at % huge, size % huge), (0, 0));
    let (at, size) = data(&["--huge-threshold=1M", "--padding=4K"], "large");
    assert_eq!((at % huge, size % 4096), (0, 0));
    assert_ne!(size % huge, 0);
    let (at, _) = data(&["--huge-threshold=1G"], "huge");
    assert_ne!(at % huge, 0);
    assert_eq!(data(&["--padding=64M"], "huge").1, 64 << 20);
    assert_eq!(data(&["--padding=4K", "-b", "65536"], "huge").1 % 65536, 0);
    let output = run(mkdaxfs().args(["--max-size", "2M"]).arg(&tree).arg(&image));
    assert_eq!(output.status, 1);
    assert!(
        output
            .stderr
            .contains("bytes, the limit is 2097152; leave something out or raise the limit"),
        "{output:?}"
    );
    make(["-q", "--max-size", "1G"], &tree, &image);
}

/// The sums of the pieces follow the image, in its padding if they fit. They are independent of the
/// code that writes them: this computes them as format.rst says.
#[test]
fn sums() {
    let (directory, tree) = tree();
    let image = directory.path().join("image");
    fs::write(tree.join("large"), vec![1; (4 << 20) + 1]).unwrap();
    make(["--padding=4K"], &tree, &image);
    assert_eq!(superblock(&fs::read(&image).unwrap()).compat.get(), 0);
    for (padding, slack) in [("2M", 2 << 20), ("4K", 8192)] {
        make(["--sums", "--padding", padding], &tree, &image);
        let bytes = fs::read(&image).unwrap();
        let record = superblock(&bytes);
        assert_eq!(record.compat.get(), 1);
        let size = record.total_size.get() as usize;
        let mut content = bytes[..size].to_vec();
        content[220..256].fill(0);
        let pieces: Vec<[u8; 32]> = content
            .chunks(2 << 20)
            .map(|piece| Sha256::digest(piece).into())
            .collect();
        assert_eq!(pieces.len(), 4);
        let table = pieces.concat();
        assert_eq!(bytes[size..][..table.len()], table);
        assert_eq!(record.sha256, *Sha256::digest(&table));
        assert!(bytes[size + table.len()..].iter().all(|&byte| byte == 0));
        assert!(bytes.len() - size <= slack);
    }
    // An option that does not change the image's size in the usual case.
    let sizes = [&[][..], &["--sums"]].map(|options| {
        make(options, &tree, &image);
        image.metadata().unwrap().len()
    });
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn telling() {
    let (directory, tree) = tree();
    let image = directory.path().join("image");
    let output = run(mkdaxfs()
        .args(["--dry-run", "--json"])
        .arg(&tree)
        .arg(&image));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(!image.exists());
    let dry: Value = serde_json::from_str(&output.stdout).unwrap();
    let output = run(mkdaxfs().args(["--json", "-j", "1"]).arg(&tree).arg(&image));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let made: Value = serde_json::from_str(&output.stdout).unwrap();
    let bytes = fs::read(&image).unwrap();
    let record = superblock(&bytes);
    assert_eq!(made["image"], image.display().to_string());
    assert_eq!(made["size"], bytes.len() as u64);
    assert_eq!(made["sha256"], daxfs_check::digest::hex(&record.sha256));
    assert_eq!(made["uuid"].as_str().unwrap().len(), 36);
    assert_eq!(
        (&dry["size"], &dry["inodes"]),
        (&made["size"], &made["inodes"])
    );
    assert_eq!(
        (&dry["dry_run"], &made["dry_run"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    let output = run(mkdaxfs().arg("-n").arg(&tree).arg(&image));
    assert!(output.stdout.contains(&format!(
        "image: would have {} bytes, {} inodes",
        made["size"], made["inodes"]
    )));
}

/// More threads than processors only take time.
#[test]
fn jobs() {
    let directory = scratch();
    let mut child = mkdaxfs()
        .args(["-q", "--jobs", "4000", "tar:-"])
        .arg(directory.path().join("image"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // It has its threads before it reads.
    let tasks = format!("/proc/{}/task", child.id());
    let start = Instant::now();
    while directory.path().read_dir().unwrap().count() == 0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let threads = fs::read_dir(tasks).unwrap().count();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let processors = std::thread::available_parallelism().unwrap().get();
    // One for signals, one for the progress bar, and the first.
    assert!(threads <= processors + 3, "{threads} threads");
}
