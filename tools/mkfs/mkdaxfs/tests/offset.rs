// SPDX-License-Identifier: GPL-2.0-only

//! `--offset`: an image in the middle of a file.

use crate::support::{place, Place};

const MIB: usize = 1 << 20;

/// Make a small and a larger tree, images of them, and a file of 8 MiB with zeros from 1 MiB to 7 MiB.
fn files() -> Place {
    place(
        "mkdir small large; echo text >small/file; yes | head -c 100000 >large/file
         truncate -s 8M disk; tr '\\0' A </dev/zero | head -c 1M >some
         dd if=some of=disk bs=1M conv=notrunc; dd if=some of=disk bs=1M seek=7 conv=notrunc
         for name in small large; do mkdaxfs --padding 4K $name $name.img; done",
    )
}

/// Write the image of `tree` to byte `offset` of the disk. Return the disk.
#[track_caller]
fn put(place: &Place, offset: &str, words: &str) -> Vec<u8> {
    place.ok(format!(
        "mkdaxfs -q --padding 4K --offset {offset} {words} disk"
    ));
    place.read("disk")
}

/// Check that `disk` has the image file `name` at byte `start`, and return the end of it.
#[track_caller]
fn has(place: &Place, disk: &[u8], start: usize, name: &str) -> usize {
    let image = place.read(name);
    let end = start + image.len();
    assert!(disk[start..end] == image);
    end
}

#[test]
fn in_the_middle() {
    let place = files();
    let before = place.read("disk");
    let disk = put(&place, "1M", "small");
    let end = has(&place, &disk, MIB, "small.img");
    assert!(disk[..MIB] == before[..MIB] && disk[end..] == before[end..]);
    // An older image is replaced, whichever is larger.
    for name in ["large", "small", "small"] {
        let disk = put(&place, "1M", name);
        has(&place, &disk, MIB, &format!("{name}.img"));
        assert!(disk[..MIB] == before[..MIB] && disk[7 * MIB..] == before[7 * MIB..]);
    }
    // Images follow each other.
    let disk = put(&place, "2M", "small");
    has(&place, &disk, MIB, "small.img");
    has(&place, &disk, 2 * MIB, "small.img");
}

#[test]
fn at_the_end() {
    let place = files();
    let before = place.read("disk");
    let disk = put(&place, "8M", "large");
    let end = has(&place, &disk, 8 * MIB, "large.img");
    assert!(disk.len() == end && disk[..8 * MIB] == before);
    let disk = put(&place, "16M", "small");
    let end = has(&place, &disk, 16 * MIB, "small.img");
    assert_eq!(disk.len(), end);
    has(&place, &disk, 8 * MIB, "large.img");
}

#[test]
fn refused() {
    let place = files();
    let start = 7 * MIB - 8192;
    place.mistakes(&format!(
        "mkdaxfs --padding 4K --offset {start} large disk | 1 | in the bytes {start} to 
         mkdaxfs --padding 4K --offset 0 small disk | 1 | holds data other than a daxfs image
         mkdaxfs --padding 4K --offset 1M --max-size 8K large disk | 1 | 8192
         mkdaxfs --offset 1M small new | 1 | does not exist
         mkdaxfs --offset 1000 small disk | 2 | use a multiple of 4096"
    ));
    let disk = put(&place, &start.to_string(), "--force large");
    has(&place, &disk, start, "large.img");
}
