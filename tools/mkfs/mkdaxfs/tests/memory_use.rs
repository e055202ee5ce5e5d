// SPDX-License-Identifier: GPL-2.0-only

//! Sizes of images, and memory use of mkdaxfs: identical files are stored once, small files are
//! packed, and the memory does not depend on the size of files.

use crate::support::{make, run};
use daxfs_testing::scratch;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn size_with(options: &[&str], tree: &Path, image: &Path) -> u64 {
    make(options.iter().chain(&["-q"]), tree, image);
    image.metadata().unwrap().len()
}

#[test]
fn dedupe_and_pack() {
    let directory = scratch();
    let (tree, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    fs::create_dir(&tree).unwrap();
    for number in 0..1200 {
        let content = vec![(number / 2) as u8; 1500 + number / 2];
        fs::write(tree.join(number.to_string()), content).unwrap();
    }
    let size = |options: &[&str]| size_with(options, &tree, &image);
    // A block each; a block for each pair; the bytes; the bytes of each pair.
    assert_eq!(size(&["--no-dedupe", "--no-pack"]), 6 * MIB);
    assert_eq!(size(&["--no-pack"]), 4 * MIB);
    assert_eq!(size(&["--no-dedupe"]), 4 * MIB);
    assert_eq!(size(&[]), 2 * MIB);
    assert_eq!(size(&["--pack"]), 2 * MIB);
}

/// Make an image with no more than `limit` bytes of memory to write to, and some for each
/// processor.
pub fn make_within(limit: u64, options: &str, tree: &Path, image: &Path) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let limit = limit + threads * 4 * MIB;
    let script = format!(
        "ulimit -d {} && exec \"$0\" -q {options} \"$1\" \"$2\"",
        limit / 1024
    );
    let program = env!("CARGO_BIN_EXE_mkdaxfs");
    let mut shell = Command::new("bash");
    let found = run(shell.args(["-c", &script, program]).arg(tree).arg(image));
    assert_eq!((found.status, found.stderr.as_str()), (0, ""));
}

/// A million files need less than 500 MB.
#[test]
fn many_files_in_little_memory() {
    let directory = scratch();
    let (tree, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    for number in 0..50_000 {
        if number % 1000 == 0 {
            fs::create_dir_all(tree.join((number / 1000).to_string())).unwrap();
        }
        let name = format!("{}/a file with the number {number}", number / 1000);
        fs::write(tree.join(name), number.to_string()).unwrap();
    }
    for options in ["", "--no-pack", "--pack"] {
        make_within(40 * MIB, options, &tree, &image);
    }
}

/// Large files need no more memory than small ones.
#[test]
fn large_files_in_little_memory() {
    let directory = scratch();
    let (tree, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    fs::create_dir(&tree).unwrap();
    for name in ["one", "like it"] {
        let file = File::create(tree.join(name)).unwrap();
        file.set_len(2048 * MIB).unwrap();
        for at in 0..64 {
            let content = vec![at as u8 + 1; MIB as usize];
            file.write_all_at(&content, at * 31 * MIB).unwrap();
        }
    }
    make_within(20 * MIB, "", &tree, &image);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&image.metadata().unwrap());
    assert!(blocks * 512 < 66 * MIB, "{blocks} blocks");
    make_within(20 * MIB, "--no-dedupe", &tree, &image);
}
