// SPDX-License-Identifier: GPL-2.0-only

//! The destination of images: standard output and devices.

use crate::support::place;

const TREE: &str = "mkdir tree; printf content >tree/file";

#[test]
fn standard_output() {
    let place = place(TREE);
    place.ok("mkdaxfs -q tree image; mkdaxfs -q tree - >out");
    place.same("out", "image");
    let told = place.run("mkdaxfs tree - 2>&1 >out");
    let (text, lines) = (told.text(), told.text().lines().count());
    assert!(text.starts_with("-: ") && lines == 1, "{told:?}");
    place.same("out", "image");
    let why = "standard output: cannot write the image: No space left";
    place.fails("mkdaxfs -q tree - >/dev/full", why);
}

#[test]
fn block_devices() {
    let place = place(TREE);
    place.write("tree/huge", vec![1; 3 << 20]);
    place.ok("mkdaxfs -q tree image");
    let bytes = place.read("image");
    let size = bytes.len();
    place.write("backing", vec![0xaa; size + 8192]);
    place.write("small", vec![0xaa; size - 4096]);
    let (Some(device), Some(small)) = (place.loop_device("backing"), place.loop_device("small"))
    else {
        return;
    };
    let (device, small) = (&device.0, &small.0);
    let untouched = |name| place.read(name).iter().all(|&byte| byte == 0xaa);
    let why = "holds data other than a daxfs image, which would be lost; name another device, or give --force";
    place.fails(format!("mkdaxfs tree {device}"), why);
    assert!(untouched("backing"));
    place.ok(format!("mkdaxfs -q --force tree {device}"));
    let backing = place.read("backing");
    assert!(backing[..size] == bytes);
    // Nothing is written beyond the image.
    assert!(backing[size..].iter().all(|&byte| byte == 0xaa));
    // The device as input.
    place.ok(format!("test -b {device}; mkdaxfs -q {device} out"));
    place.same("out", "image");
    // An image may be replaced, but not by itself.
    place.ok(format!("mkdaxfs -q tree {device}"));
    place.fails(
        format!("mkdaxfs --force {device} {device}"),
        "is an input as well",
    );
    let less = size - 4096;
    let why = format!("the image has {size} bytes, the device {less}; use a larger one");
    place.fails(format!("mkdaxfs --force tree {small}"), &why);
    assert!(untouched("small"));
}
