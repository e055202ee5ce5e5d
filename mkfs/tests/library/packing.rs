// SPDX-License-Identifier: GPL-2.0-only

//! Files with the same content are stored once, small files occupy as little space as possible, and
//! neither changes the files.

use daxfs_reader::{layout, Content, Inode, Superblock};
use daxfs_testing::{
    assert_same, image_with, inodes_of, listing::of_directory, listing_of, options, spec,
};
use mkdaxfs::writer::options::{Options, Tails};
use proptest::prelude::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Builds an image of `tree`, compares it with the tree, and returns its superblock and inodes.
fn image(tree: &Path, options: &Options) -> (Superblock, Vec<Inode>) {
    let scratch = daxfs_testing::scratch();
    let path = scratch.path().join("image");
    image_with(tree, &path, options).unwrap();
    assert_same(&listing_of(&path), &of_directory(tree));
    let (superblock, inodes) = inodes_of(&path);
    inodes.iter().for_each(check_mappable);
    (superblock, inodes)
}

/// Checks which bytes of a file can be mapped directly.
fn check_mappable(inode: &Inode) {
    let Some(data) = data(inode) else { return };
    let expected = match (inode.packed, data % 4096 == 0) {
        (false, true) => inode.size.next_multiple_of(4096),
        (true, true) => inode.size / 4096 * 4096,
        (true, false) => 0,
        (false, false) => panic!("unaligned and not packed"),
    };
    assert_eq!(inode.mappable(4096), expected);
}

fn data(inode: &Inode) -> Option<u64> {
    match inode.content {
        Content::Regular { data } if inode.size > 0 => Some(data),
        _ => None,
    }
}

/// Returns the offsets of unshared data.
fn different(inodes: &[Inode]) -> usize {
    inodes
        .iter()
        .filter(|inode| data(inode).is_some() && inode.original == 0)
        .count()
}

fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n * 7 + n / 250 + seed) as u8)
        .collect()
}

/// Files smaller than a block may share even the last blocks of others.
fn packed() -> Options {
    Options {
        tails: Tails::All,
        ..options()
    }
}

/// No file shares blocks.
fn loose() -> Options {
    Options {
        tails: Tails::None,
        ..options()
    }
}

fn separate() -> Options {
    Options {
        dedupe: false,
        ..loose()
    }
}

#[test]
fn same_content_is_stored_once() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    let sizes = [1, 100, 4096, 4097, 70_000, 2 << 20, (2 << 20) + 1];
    for size in sizes {
        for copy in ["one", "two", "three"] {
            fs::write(root.join(format!("{size} {copy}")), bytes(size, size)).unwrap();
        }
        // One differs at the end, one at the beginning.
        let mut other = bytes(size, size);
        *other.last_mut().unwrap() ^= 1;
        fs::write(root.join(format!("{size} end")), &other).unwrap();
        let mut other = bytes(size, size);
        other[0] ^= 2;
        fs::write(root.join(format!("{size} start")), &other).unwrap();
    }
    fs::write(root.join("empty"), []).unwrap();
    fs::write(root.join("also empty"), []).unwrap();
    for options in [options(), loose(), packed()] {
        let (superblock, inodes) = image(root, &options);
        assert!(superblock.incompat & layout::INCOMPAT_SHARED != 0);
        assert_eq!(different(&inodes), 3 * sizes.len());
        for inode in &inodes {
            if inode.original == 0 {
                continue;
            }
            let original = &inodes[inode.original as usize - 1];
            assert!(original.ino < inode.ino && original.original == 0);
            assert_eq!(data(inode), data(original));
        }
    }
    let (superblock, inodes) = image(root, &separate());
    assert_eq!(superblock.incompat, 0);
    assert_eq!(different(&inodes), 5 * sizes.len());
}

/// Holes are equal to zeros.
#[test]
fn holes_and_zeros() {
    let tree = tempfile::tempdir().unwrap();
    let size = 3 << 20;
    let make = |name: &str, zeros: bool| {
        let file = File::create(tree.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        if zeros {
            file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        }
        file.write_all_at(b"data", 1_500_000).unwrap();
    };
    make("holes", false);
    make("zeros", true);
    make("more holes", false);
    let (_, inodes) = image(tree.path(), &options());
    assert_eq!(different(&inodes), 1);
}

#[test]
fn small_files_fill_the_gaps() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    let mut content = 0;
    for number in 0..200 {
        let size = 4096 * (1 + number % 5) + 1 + number * 13;
        fs::write(root.join(format!("large {number}")), bytes(size, number)).unwrap();
        let small = 1 + number * 20;
        fs::write(root.join(format!("small {number}")), bytes(small, number)).unwrap();
        let tiny = 1 + number * 9;
        fs::write(root.join(format!("tiny {number}")), bytes(tiny, number + 3)).unwrap();
        content += size + small + tiny;
    }
    let (superblock, inodes) = image(root, &packed());
    assert_eq!(superblock.incompat, layout::INCOMPAT_PACKED);
    let used = superblock.data.length;
    assert!(used < content as u64 * 103 / 100, "{used} for {content}");
    // Small files may start anywhere, all others at the start of a block.
    for inode in &inodes {
        let Some(data) = data(inode) else { continue };
        assert!(data % 4096 == 0 || inode.size < 4096);
        assert!(inode.packed || inode.size >= 4096);
    }
    let (superblock, inodes) = image(root, &loose());
    assert_eq!(superblock.incompat, 0);
    assert!(superblock.data.length > used * 12 / 10);
    assert!(inodes.iter().all(|inode| !inode.packed));
}

/// By default, only files smaller than 4 KiB share blocks. Every page of larger files is mapped
/// directly, whatever the block size.
#[test]
fn larger_files_have_their_blocks() {
    let tree = tempfile::tempdir().unwrap();
    let (mut blocks, mut content) = (0, 0);
    for number in 0..300 {
        let large = 4096 + number * 31;
        let path = tree.path().join(format!("large {number}"));
        fs::write(path, bytes(large, number)).unwrap();
        blocks += large.div_ceil(4096);
        let small = 1 + number * 13;
        let path = tree.path().join(format!("small {number}"));
        fs::write(path, bytes(small, number)).unwrap();
        content += small.next_multiple_of(8);
    }
    fs::write(tree.path().join("huge"), bytes((2 << 20) + 1, 0)).unwrap();
    fs::write(tree.path().join("edge"), bytes(4095, 0)).unwrap();
    for block_size in [4096, 65536] {
        let options = Options {
            block_size,
            ..options()
        };
        let (superblock, inodes) = image(tree.path(), &options);
        assert_eq!(superblock.incompat, layout::INCOMPAT_PACKED);
        for inode in &inodes {
            let Some(data) = data(inode) else { continue };
            assert_eq!(inode.packed, inode.size < 4096, "{}", inode.size);
            assert!(inode.packed || data % u64::from(block_size) == 0);
        }
        if block_size == 4096 {
            // One more block each for the smallest files and for the end of files of 2 MiB.
            let most = (blocks * 4096 + content + 4096) as u64 + (2 << 20) + 3 * 4096;
            let used = superblock.data.length - superblock.data.offset.next_multiple_of(2 << 20)
                + superblock.data.offset;
            assert!(used <= most, "{used}, not {most}");
        }
    }
}

/// Packing never makes an image larger. In a tree of huge and tiny files, the only gap is before
/// the first huge one.
#[test]
fn packing_saves() {
    let huge = 2 << 20;
    let trees: [&[usize]; 8] = [
        &[huge, 9, 9, 9],
        &[huge, 4095],
        &[huge, huge, 1, 4000, 4000],
        &[huge + 1, huge - 1, 9],
        &[huge - 4096, 100, 100],
        &[9, 9, 9],
        &[5000, 5000, 3000, 3000, 3000],
        &[(5 << 20) + 1, 70_000, 4096, 4097, 1, 2000],
    ];
    for sizes in trees {
        let tree = tempfile::tempdir().unwrap();
        for (number, &size) in sizes.iter().enumerate() {
            fs::write(tree.path().join(number.to_string()), bytes(size, number)).unwrap();
        }
        for block_size in [4096, 65536] {
            let size = |tails| {
                let options = Options {
                    block_size,
                    tails,
                    ..options()
                };
                image(tree.path(), &options).0.total_size
            };
            let [never, small, tails] = [Tails::None, Tails::Small, Tails::All].map(size);
            assert!(small <= never, "{sizes:?}: {small}, {never} unpacked");
            assert!(tails <= small, "{sizes:?}: {tails}, {small} without tails");
        }
    }
}

/// Small files alone are adjacent.
#[test]
fn small_files_alone() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..100 {
        let path = tree.path().join(number.to_string());
        fs::write(path, bytes(1 + number * 40, number)).unwrap();
    }
    let content: u64 = (0..100).map(|number| 1 + number * 40).sum();
    for options in [options(), packed()] {
        let (superblock, _) = image(tree.path(), &options);
        assert!(superblock.data.length < (content + 100 * 8).next_multiple_of(4096) + 4096);
    }
    // A single one gets its own block, and is mapped directly.
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "text").unwrap();
    let (superblock, inodes) = image(tree.path(), &options());
    assert!(superblock.incompat == 0 && inodes.iter().all(|inode| !inode.packed));
}

/// A last page that completes 2 MiB is not shared.
#[test]
fn huge_entries_stay() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("huge"), bytes((4 << 20) - 3000, 0)).unwrap();
    fs::write(tree.path().join("tail"), bytes((4 << 20) + 1000, 1)).unwrap();
    for number in 0..40 {
        let path = tree.path().join(number.to_string());
        fs::write(path, bytes(1 + number * 80, number)).unwrap();
    }
    let (_, inodes) = image(tree.path(), &packed());
    let of_size = |size| inodes.iter().find(|inode| inode.size == size).unwrap();
    let (huge, tail) = (of_size((4 << 20) - 3000), of_size((4 << 20) + 1000));
    assert!(huge.is_huge() && tail.is_huge());
    assert_eq!((huge.packed, huge.mappable(4096)), (false, 4 << 20));
    assert_eq!((tail.packed, tail.mappable(4096)), (true, 4 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// The image contains the tree's files, whatever their order of creation.
    #[test]
    fn whatever_the_options(tree in spec::tree(), block in 0..5u32, dedupe: bool, tails in 0..3usize) {
        let scratch = daxfs_testing::scratch();
        let images = scratch.path();
        let (a, b) = (images.join("tree a"), images.join("tree b"));
        spec::create(&tree, &a, false);
        spec::create(&tree, &b, true);
        // Two copies of everything.
        spec::create(&tree, &a.join("again and again and again"), false);
        spec::create(&tree, &b.join("again and again and again"), true);
        let time = fs::metadata(&a).unwrap().modified().unwrap();
        File::open(&b).unwrap().set_modified(time).unwrap();
        let tails = [Tails::None, Tails::Small, Tails::All][tails];
        let options = Options { block_size: 4096 << block, dedupe, tails, ..daxfs_testing::options() };
        image_with(&a, &images.join("a"), &options).unwrap();
        assert_same(&listing_of(&images.join("a")), &of_directory(&a));
        image_with(&b, &images.join("b"), &options).unwrap();
        let same = fs::read(images.join("a")).unwrap() == fs::read(images.join("b")).unwrap();
        prop_assert!(same, "the order of creation matters");
    }
}
