// SPDX-License-Identifier: GPL-2.0-only

//! `daxfs share`: the arguments for QEMU. tests/machines starts machines with them.

use crate::support::fixture;

#[test]
fn the_image_itself() {
    let place = fixture();
    let image = place.text("image");
    let size = place.read("image").len();
    assert_eq!(size % (2 << 20), 0);
    let expected = format!(
        "-object memory-backend-file,id=daxfs-pmem3,mem-path={image},size={size},share=on,readonly=on,align=2M \
         -device virtio-pmem-pci,memdev=daxfs-pmem3\n"
    );
    assert_eq!(place.ok("daxfs share --number 3 image").text(), expected);
    let run = place.run("daxfs share -n 3 image -- sh -c 'echo \"$*\"; exit 42' sh");
    assert_eq!((run.status, run.text()), (42, &*expected));
    // A file of another size.
    place.shell("truncate -s +4K image");
    place.fails("daxfs share image", &format!("has {} bytes", size + 4096));
    // The remedy in the message.
    place.shell("truncate -s %2M image");
    place.prints("daxfs share image", &format!("size={},", size + (2 << 20)));
    place.fails("daxfs share - <image", "name a file");
}

/// Machines see images that the host adds to a store.
#[test]
fn a_store() {
    let place = fixture();
    let add = "daxfs store add --activate disk";
    place.ok(format!(
        "truncate -s 16M disk && daxfs store init disk && {add} one image"
    ));
    let backend = format!("mem-path={},size=16777216,", place.text("disk"));
    let line = place.prints("daxfs share disk", &backend);
    place.ok(format!("{add} two image"));
    assert_eq!(place.ok("daxfs share disk").text(), line);
    place.shell("printf X | dd of=disk bs=1 seek=200 conv=notrunc status=none");
    place.shell("printf X | dd of=disk bs=1 seek=1048776 conv=notrunc status=none");
    place.fails("daxfs share disk", "no copy of the store's table is whole");
}

#[test]
fn names() {
    let place = fixture();
    place.shell("mv image \"it's a,b.img\"");
    let line = place.ok("daxfs share \"it's a,b.img\"");
    let words = place.ok(format!("printf '%s\\n' {}", line.text()));
    let words: Vec<_> = words.text().lines().collect();
    assert_eq!(words.len(), 4, "{line:?}");
    assert!(words[1].contains("/it's a,,b.img,size="), "{line:?}");
}
