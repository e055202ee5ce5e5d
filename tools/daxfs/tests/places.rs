// SPDX-License-Identifier: GPL-2.0-only

//! `--offset` and `--image`: images in larger files.

use crate::support::{certificate, digest, fixture, Place, DECADES};
use daxfs_testing::image_of;

/// Creates `middle`, a file with the image in its middle, and `disk`, a store with another image
/// before "base". The sizes of the bytes around the image are odd.
const FILL: &str = "
    (head -c 5003 /dev/zero | tr '\\0' x; cat image; head -c 777 /dev/zero | tr '\\0' x) >middle
    rm -f disk; daxfs store init --size 16M disk
    daxfs store add disk first first.img; daxfs store add disk base image";

/// Returns a place with both files.
fn places() -> Place {
    let place = fixture();
    image_of(&place.path("source/dir"), &place.path("first.img")).unwrap();
    place.shell(FILL);
    place
}

/// Runs `words` with the image alone, in the middle, and by name. Returns the outputs.
fn outputs(place: &Place, words: &str) -> [Vec<u8>; 3] {
    let (command, rest) = words.split_once(' ').unwrap();
    let run = |file: &str, options: &str| {
        let rest = rest.replace("IMAGE", file);
        place.ok(format!("daxfs {command} {options} {rest}")).stdout
    };
    [
        run("image", ""),
        run("middle", "--offset 5003"),
        run("disk", "--image base"),
    ]
}

/// Returns the output without the size of the surrounding file.
fn without_region(output: Vec<u8>) -> Vec<u8> {
    let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(&output) else {
        return output;
    };
    let superblock = json.pointer_mut("/superblock");
    if let Some(superblock) = superblock.and_then(serde_json::Value::as_object_mut) {
        superblock.remove("region_size");
    }
    json.to_string().into_bytes()
}

#[test]
fn commands_that_read() {
    let place = places();
    for words in [
        "info --udev IMAGE",
        "ls -lR IMAGE",
        "cat IMAGE file dir/below/deep",
        "stat IMAGE /file /dir",
        "dump --sums IMAGE",
        "extract --tar IMAGE -",
        "digest IMAGE",
        "diff IMAGE ./image",
    ] {
        let [alone, middle, listed] = outputs(&place, words).map(without_region);
        assert!(alone == middle && alone == listed, "{words}");
    }
    // The output identifies the image.
    let text = |output| String::from_utf8(output).unwrap();
    let [_, middle, listed] = outputs(&place, "fsck IMAGE").map(text);
    assert!(listed.starts_with("disk: base: clean, "), "{listed}");
    assert!(middle.starts_with("middle: clean, "), "{middle}");
    place.ok("daxfs extract --no-same-owner --image base disk target");
    image_of(&place.path("target"), &place.path("again")).unwrap();
    place.ok("daxfs diff --ignore owner image again");
    // From standard input, too.
    let piped = place.ok("daxfs digest --offset 5003 - <middle");
    assert_eq!(piped.text().trim_end(), digest(&place));
}

/// Compares two images on one device.
#[test]
fn two_places() {
    let place = places();
    place.steps(
        "daxfs diff",
        "--image base --image base disk disk
        --image first --image base disk disk | 1
        --image base disk image
        --offset 5003 --offset 0 middle image
        --image base --image base --image base disk disk | 2 | there are 2 images; give --offset or --image twice",
    );
}

#[test]
fn a_signature() {
    let place = places();
    place.shell(certificate("owner", "owner", DECADES));
    place.ok("daxfs sign --key owner.key --cert owner.pem image");
    place.shell(FILL);
    let [alone, middle, listed] = outputs(&place, "verify --cert owner.pem IMAGE");
    assert!(alone == middle && alone == listed);
}

#[test]
fn nothing_there() {
    let place = places();
    place.mistakes(
        "daxfs info --image none disk | 1 | the store has no image 'none'; it has first, base
         daxfs info --image base middle | 1 | is not a store;
         daxfs info --offset 1 middle | 1 | not a daxfs image
         daxfs info disk | 1 | commands take --image NAME
         daxfs info --offset 1T middle | 1 | so nothing starts at byte 1099511627776",
    );
    // A store may also start in the middle, for example in a partition.
    place.shell("(head -c 512 /dev/zero; cat disk) >whole");
    let found = place.ok("daxfs digest --offset 512 --image base whole");
    assert_eq!(found.text().trim_end(), digest(&place));
    // An image cannot extend beyond its place.
    place.shell("truncate -s $((5003 + $(stat -c %s image) - 1)) middle");
    let why = "image larger than the region";
    place.fails("daxfs info --offset 5003 middle", why);
}
