// SPDX-License-Identifier: GPL-2.0-only

//! Replays the inputs that fuzzing found, in `tools/fuzz/corpus`, and tests how inputs become
//! images.

use daxfs::commands::fsck::examine;
use daxfs_files::Silent;
use daxfs_image::attach;
use daxfs_reader::{Content, Image, Inode, Superblock};
use daxfs_testing::specimen::{self, specimen};
use daxfs_testing::{everything, feed, overlay, scratch};
use std::fs;
use std::path::Path;

/// Calls `run` with each input of a fuzz target.
fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut count = 0;
    for entry in fs::read_dir(corpus.join(target)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 10, "{count} inputs of {target}");
}

#[test]
fn images() {
    let specimen = specimen::unpadded();
    replay("image", |input| {
        overlay::read_and_check(&overlay::overlaid(&specimen, input));
    });
}

#[test]
fn tools() {
    let specimen = specimen();
    let scratch = scratch();
    replay("tools", |input| {
        everything::everything(&overlay::overlaid(&specimen, input), scratch.path());
    });
}

#[test]
fn archives() {
    let scratch = scratch();
    replay("archive", |input| feed::feed(input, scratch.path()));
}

/// The specimens are valid and use all features of the format.
#[test]
fn specimens() {
    let pack = specimen::pack();
    let pack = pack.as_slice();
    let superblock_of_pack = Superblock::load(&pack).unwrap();
    for bytes in [specimen(), specimen::unpadded()] {
        let mut said = Vec::new();
        let bytes = bytes.as_slice();
        let packs = [Some(Image::new(&pack, &superblock_of_pack))];
        let superblock = examine(&bytes, &packs, &Silent, &mut |finding| {
            said.push(finding.to_string())
        });
        assert_eq!(said, [""; 0]);
        let superblock = superblock.unwrap();
        let image = Image::new(&bytes, &superblock);
        assert!(attach::load(&image).unwrap().is_some() && superblock.sums().is_some());
        let inodes = 1..=superblock.inode_count() as u32;
        let inodes: Vec<_> = inodes.map(|ino| image.inode(ino).unwrap()).collect();
        assert!(inodes.iter().any(|inode| inode.packed));
        assert!(inodes.iter().any(|inode| inode.original != 0));
        let in_pack = |inode: &Inode| matches!(inode.content, Content::InPack { .. });
        assert!(inodes.iter().any(in_pack));
    }
}

#[test]
fn empty_input_is_the_specimen() {
    let specimen = specimen();
    assert!(overlay::overlaid(&specimen, &[]) == specimen);
    assert!(overlay::overlaid(&specimen, &[1]) == specimen);
}

/// Each mutation changes exactly one field.
#[test]
fn mutations() {
    let specimen = specimen();
    let mut changed = 0;
    for seed in 0..10_000 {
        let mut data = [0; 8192];
        let size = overlay::mutate(&specimen, &mut data, 0, seed);
        let places = data[1..size].iter().filter(|&&byte| byte != 0).count();
        assert!(places <= 8 && data[size..].iter().all(|&byte| byte == 0));
        changed += usize::from(places > 0);
    }
    assert!(changed > 5_000, "{changed}");
}
