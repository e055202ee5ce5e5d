// SPDX-License-Identifier: GPL-2.0-only

//! Fixtures of the tests and fuzz targets of all crates.
//!
//! * [`builder`]: images built record by record, without the writer
//! * [`reader`]: runs every function of the reader on an image
//! * [`everything`]: runs every function of the program `daxfs` on an image
//! * [`spec`]: random trees; [`listing`]: lists directories and images, for comparisons
//! * [`memory`]: memory that fails or changes
//! * [`place`]: runs programs in a directory, and returns their output and errors
//! * [`feed`]: archives and container images from any bytes; [`overlay`]: images from any bytes

#![allow(missing_docs)]

pub mod builder;
pub mod catalog;
pub mod everything;
pub mod feed;
pub mod listing;
pub mod memory;
pub mod overlay;
pub mod place;
mod random;
pub mod reader;
pub mod spec;
pub mod specimen;

use daxfs_check::check;
use daxfs_files::region::Region;
use daxfs_files::{Output, Silent};
use daxfs_reader::{Image, Inode, Superblock};
use mkdaxfs::input::scan;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::tree::{Kind, Location, Pack};
use mkdaxfs::writer::{make, Summary};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fails if a file of `package`'s tests is not a module in `main`, the text of their root.
pub fn every_file_is_named(package: &str, main: &str) {
    for entry in std::fs::read_dir(Path::new(package).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            let module = format!("\nmod {name};\n");
            assert!(main.contains(&module), "{} is not compiled", path.display());
        }
    }
}

/// Returns the path, mode and content of everything below `directory`, for comparisons.
pub fn snapshot(directory: &Path) -> Vec<(Vec<u8>, u32, listing::What)> {
    let found = listing::of_directory(directory).into_iter();
    let found = found.map(|(path, entry)| (path, entry.mode, entry.content));
    found.collect()
}

/// Returns true if this process can mount. Otherwise runs this program's test `name` in a process
/// that can, and returns false: the test has ended.
pub fn can_mount(name: &str) -> bool {
    if std::env::var_os("DAXFS_CAN_MOUNT").is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command.args(["--propagation", "private"]);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|it| it.success()) {
        eprintln!("skipped: this user cannot mount");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let mut again = unshare();
    again.arg(program).args(["--exact", name, "--nocapture"]);
    let output = again.env("DAXFS_CAN_MOUNT", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Returns a directory for images, in memory if possible, because every image is synced.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Creates a directory for a fuzz target, which never removes it. scripts/fuzz sets `TMPDIR`.
pub fn fuzz_directory() -> PathBuf {
    tempfile::tempdir().unwrap().keep()
}

/// Returns the tool's default options.
pub fn options() -> Options {
    Options::default()
}

/// Writes an image of `tree` to `image`.
pub fn image_of(tree: &Path, image: &Path) -> daxfs_files::Result<Summary> {
    image_with(tree, image, &options())
}

/// Writes an image of `tree` to `image`.
pub fn image_with(tree: &Path, image: &Path, options: &Options) -> daxfs_files::Result<Summary> {
    let output = Output::create(image)?;
    let tree = scan::scan(tree, output.directory()?, |warning| panic!("{warning}"))?;
    let summary = make(&tree, options, &output, &Silent)?;
    output.commit(&Silent)?;
    Ok(summary)
}

/// Writes a composed image of `tree` to `image`. `packs` are images of the same tree: `choose` maps
/// a file's number to the index of the pack with its content, or to `None` for the image itself.
/// Returns the indices of the used packs, in the order of the image's table.
pub fn composed_of(
    tree: &Path,
    image: &Path,
    packs: &[&Path],
    choose: impl Fn(usize) -> Option<usize>,
) -> Vec<usize> {
    let files: Vec<_> = packs
        .iter()
        .map(|path| std::fs::File::open(path).unwrap())
        .collect();
    let mut used = Vec::new();
    let mut tree = scan::scan(tree, None, |warning| panic!("{warning}")).unwrap();
    for node in 0..tree.nodes.len() {
        let Kind::Regular { size, .. } = tree.nodes[node].kind else {
            continue;
        };
        let Some(index) = choose(node).filter(|_| size > 0) else {
            continue;
        };
        let memory = Region::of(&files[index]).unwrap();
        let superblock = Superblock::load(&memory).unwrap();
        let path = tree.relative_path(node as u32);
        let found = Image::new(&memory, &superblock).find(path.as_os_str().as_bytes(), false);
        let found = found.unwrap();
        let number = used.iter().position(|&other| other == index);
        let number = number.unwrap_or_else(|| {
            used.push(index);
            tree.packs.push(Pack {
                sha256: superblock.sha256,
                total_size: superblock.total_size,
            });
            used.len() - 1
        });
        let location = Location::Pack {
            pack: number as u32,
            ino: match found.original {
                0 => found.ino,
                original => original,
            },
        };
        tree.nodes[node].kind = Kind::Regular { size, location };
    }
    let output = Output::create(image).unwrap();
    make(&tree, &options(), &output, &Silent).unwrap();
    output.commit(&Silent).unwrap();
    used
}

/// Returns the listing of the image in the file `image`, which must follow every rule.
pub fn listing_of(image: &Path) -> listing::Listing {
    let file = std::fs::File::open(image).unwrap();
    let memory = Region::of(&file).unwrap();
    let mut findings = Vec::new();
    check(&memory, &mut |finding| {
        findings.push(finding);
        ControlFlow::Continue(())
    });
    assert_eq!(findings, []);
    listing::of_image(&memory)
}

/// Returns the superblock and the inodes of the image in the file `image`.
pub fn inodes_of(image: &Path) -> (Superblock, Vec<Inode>) {
    let file = std::fs::File::open(image).unwrap();
    let memory = Region::of(&file).unwrap();
    let superblock = Superblock::load(&memory).unwrap();
    let image = Image::new(&memory, &superblock);
    let inodes = 1..=superblock.inode_count() as u32;
    let inodes = inodes.map(|ino| image.inode(ino).unwrap()).collect();
    (superblock, inodes)
}

/// Fails with the first path at which two listings differ.
pub fn assert_same(image: &listing::Listing, directory: &listing::Listing) {
    for (path, entry) in directory {
        let shown = String::from_utf8_lossy(path);
        assert_eq!(image.get(path), Some(entry), "{shown}");
    }
    assert_eq!(image.len(), directory.len());
}
