// SPDX-License-Identifier: GPL-2.0-only

//! `--offset`: an image in the middle of a file.

use crate::support::{make, mkdaxfs, run, shell};
use daxfs_testing::scratch;
use std::fs;
use std::path::Path;

const MIB: usize = 1 << 20;

/// Make a small and a larger tree, images of them, and a file of 8 MiB with zeros from 1 MiB to 7 MiB.
fn files() -> tempfile::TempDir {
    let directory = scratch();
    let at = directory.path();
    shell(
        at,
        "mkdir small large; echo text >small/file; yes | head -c 100000 >large/file
         truncate -s 8M disk; tr '\\0' A </dev/zero | head -c 1M >some
         dd if=some of=disk bs=1M conv=notrunc; dd if=some of=disk bs=1M seek=7 conv=notrunc",
    );
    for name in ["small", "large"] {
        let image = at.join(format!("{name}.img"));
        make(["--padding", "4K"], &at.join(name), &image);
    }
    directory
}

/// Write the image of `tree` to byte `offset` of the disk. Return the disk, or the error.
fn put(at: &Path, offset: &str, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = mkdaxfs();
    command
        .current_dir(at)
        .args(["--padding", "4K", "--offset", offset]);
    let run = run(command.args(words).arg("disk"));
    match run.status {
        0 => Ok(fs::read(at.join("disk")).unwrap()),
        1 => Err(run.stderr),
        _ => panic!("{run:?}"),
    }
}

/// Check that `disk` has the image file `name` at byte `start`, and return the end of it.
fn has(at: &Path, disk: &[u8], start: usize, name: &str) -> usize {
    let image = fs::read(at.join(name)).unwrap();
    let end = start + image.len();
    assert!(disk[start..end] == image);
    end
}

#[test]
fn in_the_middle() {
    let directory = files();
    let at = directory.path();
    let before = fs::read(at.join("disk")).unwrap();
    let disk = put(at, "1M", &["small"]).unwrap();
    let end = has(at, &disk, MIB, "small.img");
    assert!(disk[..MIB] == before[..MIB] && disk[end..] == before[end..]);
    // An older image is replaced, whichever is larger.
    for name in ["large", "small", "small"] {
        let disk = put(at, "1M", &[name]).unwrap();
        has(at, &disk, MIB, &format!("{name}.img"));
        assert!(disk[..MIB] == before[..MIB] && disk[7 * MIB..] == before[7 * MIB..]);
    }
    // Images follow each other.
    let disk = put(at, "2M", &["small"]).unwrap();
    has(at, &disk, MIB, "small.img");
    has(at, &disk, 2 * MIB, "small.img");
}

#[test]
fn at_the_end() {
    let directory = files();
    let at = directory.path();
    let before = fs::read(at.join("disk")).unwrap();
    let disk = put(at, "8M", &["large"]).unwrap();
    let end = has(at, &disk, 8 * MIB, "large.img");
    assert!(disk.len() == end && disk[..8 * MIB] == before);
    let disk = put(at, "16M", &["small"]).unwrap();
    let end = has(at, &disk, 16 * MIB, "small.img");
    assert_eq!(disk.len(), end);
    has(at, &disk, 8 * MIB, "large.img");
}

#[test]
fn refused() {
    let directory = files();
    let at = directory.path();
    let before = fs::read(at.join("disk")).unwrap();
    let unchanged = || assert!(fs::read(at.join("disk")).unwrap() == before);
    let start = 7 * MIB - 8192;
    let offset = start.to_string();
    let why = put(at, &offset, &["large"]).unwrap_err();
    assert!(why.contains(&format!("in the bytes {start} to ")), "{why}");
    let why = put(at, "0", &["small"]).unwrap_err();
    assert!(why.contains("holds data other than a daxfs image"), "{why}");
    let why = put(at, "1M", &["--max-size", "8K", "large"]).unwrap_err();
    assert!(why.contains("8192"), "{why}");
    unchanged();
    let disk = put(at, &offset, &["--force", "large"]).unwrap();
    has(at, &disk, start, "large.img");
    fs::remove_file(at.join("disk")).unwrap();
    let why = put(at, "1M", &["small"]).unwrap_err();
    assert!(why.contains("does not exist"), "{why}");
    let wrong = run(mkdaxfs()
        .current_dir(at)
        .args(["--offset", "1000", "small", "disk"]));
    assert_eq!(wrong.status, 2);
    assert!(wrong.stderr.contains("use a multiple of 4096"), "{wrong:?}");
}
