// SPDX-License-Identifier: GPL-2.0-only

//! Look-ups and listings of directories of every size, with and without collisions; their reads.

use std::cell::Cell;

use daxfs_reader::hash::name_hash;
use daxfs_reader::{Content, Directory, Image, Memory, Superblock};
use daxfs_testing::builder::{Builder, DIRECTORY, FIFO};
use daxfs_testing::memory::Hooked;

/// Returns an image with one directory of `names`, which all lead to one FIFO.
fn directory_of(names: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = Builder::default();
    let root = builder.inode(DIRECTORY, 0, 0);
    let fifo = builder.inode(FIFO, 0, 0);
    builder.inodes[1].nlink = (names.len().max(1) as u32).into();
    let entries = names.iter().map(|name| (name.clone(), fifo)).collect();
    builder.directory(root, root, entries);
    builder.image()
}

/// Returns the image in `memory` and its root.
fn open<'a, M: Memory>(memory: &'a M, superblock: &'a Superblock) -> (Image<'a, M>, Directory) {
    let image = Image::new(memory, superblock);
    let Content::Directory(directory) = image.root().unwrap().content else {
        panic!("the root is not a directory");
    };
    (image, directory)
}

/// Looks up all of `names` and `missing`, and lists the directory.
fn exercise(names: &[Vec<u8>], missing: &[Vec<u8>]) {
    let bytes = directory_of(names);
    let memory = bytes.as_slice();
    let superblock = Superblock::load(&memory).unwrap();
    let (image, directory) = open(&memory, &superblock);
    let mut sorted: Vec<_> = names.iter().map(|name| (name_hash(name), name)).collect();
    sorted.sort_unstable();
    for ((_, name), position) in sorted.iter().zip(0..) {
        let entry = image
            .lookup(&directory, name)
            .unwrap()
            .expect("name is there");
        assert_eq!(entry.position, position);
    }
    for name in missing {
        assert_eq!(image.lookup(&directory, name).unwrap(), None);
    }
    list(&image, &directory, &sorted);
}

/// Lists the directory from many positions.
fn list(image: &Image<'_, &[u8]>, directory: &Directory, sorted: &[(u32, &Vec<u8>)]) {
    let step = (sorted.len() / 50).max(1);
    for start in (0..=sorted.len()).step_by(step) {
        let mut entries = image.entries(directory, start as u32);
        // List to the end from only a few positions, because that is quadratic.
        let end = if start % (7 * step) == 0 {
            sorted.len()
        } else {
            sorted.len().min(start + 40)
        };
        for (position, (hash, name)) in (start..).zip(&sorted[start..end]) {
            let (entry, found) = entries.next().unwrap().unwrap();
            assert_eq!(
                (entry.position as usize, entry.hash, found),
                (position, *hash, name.as_slice())
            );
        }
        assert_eq!(entries.next().is_none(), end == sorted.len());
    }
    assert!(image.entries(directory, u32::MAX).next().is_none());
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| format!("file-{n:06}.txt").into_bytes())
        .collect()
}

#[test]
fn directories_of_every_size() {
    let missing: Vec<_> = (0..2_000)
        .map(|n| format!("missing{n}").into_bytes())
        .collect();
    for size in (0..70).chain([127, 128, 129, 1000, 4095, 4097, 100_000]) {
        exercise(&numbered(size), &missing);
    }
}

/// Names with every length and every valid byte, including names that are not text.
#[test]
fn names_of_every_length_and_byte() {
    let mut names: Vec<Vec<u8>> = (1..=255)
        .map(|length| vec![0xff - (length % 7) as u8; length])
        .collect();
    names.extend(
        (1..=255u8)
            .filter(|&byte| byte != b'/')
            .map(|byte| vec![byte, b'x']),
    );
    // Names that differ only in the last byte or in length.
    names.extend((1..=46u8).map(|byte| [&[b'q'; 254][..], &[byte]].concat()));
    names.extend((1..255).map(|length| vec![b'q'; length]));
    let missing = vec![vec![b'q'; 255], vec![b'z'], b"x".to_vec()];
    exercise(&names, &missing);
}

/// Returns names of eight bytes with the hash `target`: the last word of XXH32 is invertible.
fn colliding(target: u32, count: usize) -> Vec<Vec<u8>> {
    const PRIMES: [u32; 5] = [
        0x9e37_79b1,
        0x85eb_ca77,
        0xc2b2_ae3d,
        0x27d4_eb2f,
        0x1656_67b1,
    ];
    // Newton's iteration doubles the correct bits.
    let inverse = |odd: u32| {
        (0..5).fold(odd, |x, _| {
            x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)))
        })
    };
    let unshift = |hash: u32, bits: u32| {
        let mut out = hash;
        for _ in 0..32 / bits + 1 {
            out = hash ^ (out >> bits);
        }
        out
    };
    let mut hash = unshift(target, 16).wrapping_mul(inverse(PRIMES[2]));
    hash = unshift(hash, 13).wrapping_mul(inverse(PRIMES[1]));
    hash = unshift(hash, 15);
    let before_last = hash.wrapping_mul(inverse(PRIMES[3])).rotate_right(17);
    let mut names = Vec::new();
    for number in 0u32.. {
        let start = number.wrapping_mul(0x0101_0101).wrapping_add(number << 9) | 0x4040_4040;
        let hash = PRIMES[4]
            .wrapping_add(8)
            .wrapping_add(start.wrapping_mul(PRIMES[2]));
        let hash = hash.rotate_left(17).wrapping_mul(PRIMES[3]);
        let end = before_last
            .wrapping_sub(hash)
            .wrapping_mul(inverse(PRIMES[2]));
        let name = [start.to_le_bytes(), end.to_le_bytes()].concat();
        if !name.contains(&0) && !name.contains(&b'/') && !names.contains(&name) {
            assert_eq!(name_hash(&name), target);
            names.push(name);
        }
        if names.len() == count {
            break;
        }
    }
    names
}

#[test]
fn all_names_collide() {
    for target in [0, 1, 0x8000_0000, u32::MAX - 1, u32::MAX] {
        let mut names = colliding(target, 1500);
        let missing = names.split_off(1000);
        exercise(&names, &missing);
    }
}

#[test]
fn some_names_collide() {
    let mut names = numbered(3000);
    let mut missing = Vec::new();
    for name in numbered(3000).iter().step_by(100) {
        let mut same = colliding(name_hash(name), 40);
        missing.append(&mut same.split_off(20));
        names.append(&mut same);
    }
    exercise(&names, &missing);
}

/// Returns the maximum number of reads per look-up, over existing and missing names.
fn most_reads(names: &[Vec<u8>], missing: &[Vec<u8>]) -> u32 {
    let bytes = directory_of(names);
    let count = Cell::new(0);
    let memory = Hooked(&bytes, |_, _: &mut [u8]| {
        count.set(count.get() + 1);
        Ok(())
    });
    let superblock = Superblock::load(&memory).unwrap();
    let (image, directory) = open(&memory, &superblock);
    let step = (names.len() / 2000).max(1);
    let reads = names.iter().step_by(step).chain(missing).map(|name| {
        count.set(0);
        image.lookup(&directory, name).unwrap();
        count.get()
    });
    reads.max().unwrap()
}

/// Returns names with hashes that are dense at the powers of two, which interpolation misses.
fn skewed(count: usize) -> Vec<Vec<u8>> {
    let part = count.div_ceil(32);
    let hash = |n: usize| (1 << (n / part)) + (n % part * 5 % (1 << (n / part))) as u32;
    let mut names: Vec<_> = (0..count).flat_map(|n| colliding(hash(n), 1)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Each step of a look-up reads one cache line of entries, and at most its four names.
#[test]
fn reads_grow_as_the_logarithm() {
    let missing = numbered(101_000).split_off(100_000);
    // Misled guesses and bisections.
    let most_steps = |count: usize| 12 + count.ilog2();
    for count in [1000, 10_000, 100_000] {
        let even = most_reads(&numbered(count), &missing);
        let skewed = most_reads(&skewed(count), &missing);
        println!("{count} names: {even} reads, {skewed} misled");
        assert!(even <= 8 && skewed <= most_steps(count));
    }
    for count in [1000, 2000] {
        let mut names = colliding(0x1234_5678, count + 100);
        let others = names.split_off(count);
        let same = most_reads(&names, &others);
        println!("{count} names with one hash: {same} reads");
        assert!(same <= 5 * most_steps(count));
    }
}
