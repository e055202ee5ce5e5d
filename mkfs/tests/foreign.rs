// SPDX-License-Identifier: GPL-2.0-only

//! Inputs that are not what they seem.

use crate::support::layout::Layout;
use crate::support::{place, skip};

/// A disk image may start with zeros, like an empty archive.
#[test]
fn what_is_no_archive() {
    let place = place(
        r"tar -cf none.tar -T /dev/null; gzip -k none.tar
        truncate -s 1M zeros; truncate -s 4M ext4 btrfs; printf '\123\357' | dd of=ext4 bs=1 seek=1080 conv=notrunc
        printf _BHRfS_M | dd of=btrfs bs=1 seek=65600 conv=notrunc; gzip -k ext4
        printf 'QFI\373%1020s' >qcow2; (printf hsqs; head -c 2000 /dev/urandom) >squashfs",
    );
    for (input, what) in [
        ("ext4", "an ext2, ext3 or ext4 file system"),
        ("ext4.gz", "an ext2, ext3 or ext4 file system"),
        ("tar:ext4", "an ext2, ext3 or ext4 file system"),
        ("btrfs", "a Btrfs file system"),
        ("qcow2", "a qcow2 disk image"),
        ("squashfs", "a SquashFS image"),
    ] {
        let why = format!(
            "is neither a tar archive nor a daxfs image, but {what}; unpack or mount it, and name the directory"
        );
        place.fails(format!("mkdaxfs -q {input} image"), &why);
    }
    for input in ["zeros", "none.tar", "none.tar.gz", "- <none.tar"] {
        let why = "is an archive without members; if it should be, write tar: before the path";
        place.fails(format!("mkdaxfs -q {input} image"), why);
        place.ok(format!("mkdaxfs -q tar:{input} image"));
        assert_eq!(place.listing("image").len(), 1);
        place.shell("rm image");
    }
}

/// Images made by other programs.
#[test]
fn foreign_images() {
    let place = place("mkdir tree; echo text >tree/file");
    for (script, what) in [
        (
            "truncate -s 4M x; mkfs.ext4 -q -F x",
            "an ext2, ext3 or ext4",
        ),
        ("mkfs.erofs -q x tree", "an EROFS image"),
        ("mksquashfs tree x -quiet -no-progress", "a SquashFS image"),
        ("qemu-img create -q -f qcow2 x 1M", "a qcow2 disk image"),
        ("qemu-img create -q -f vmdk x 1M", "a VMDK disk image"),
        ("qemu-img create -q -f vhdx x 1M", "a VHDX disk image"),
        ("qemu-img create -q -f vdi x 1M", "a VDI disk image"),
        (
            "cd tree && printf file | cpio -o -H newc --quiet >../x",
            "a cpio archive",
        ),
    ] {
        match place.run(format!("rm -f x; {script}")).status {
            0 => drop(place.fails("mkdaxfs -q x image", &format!(", but {what}"))),
            _ => skip(script),
        }
    }
}

/// A container image without its prefix, and with one that reads it as plain files.
#[test]
fn containers() {
    let place = place("mkdir tree; echo text >tree/file; tar -cf tree.tar tree");
    let layout = Layout::new(&place.path(""));
    layout.index(&[layout.image(&["tree.tar"])]);
    place.shell(
        "tar -cf layout.tar -C layout .; tar -czf layout.tgz -C layout blobs index.json oci-layout",
    );
    for (input, plain) in [
        ("layout", "dir:"),
        ("layout.tar", "tar:"),
        ("layout.tgz", "tar:"),
        ("- <layout.tar", "tar:"),
    ] {
        let why = format!(
            ": is an OCI image layout; write oci: before the path to read the files of the container, or write {plain} to read"
        );
        place.fails(format!("mkdaxfs -q {input} image"), &why);
        for (prefix, file) in [("oci:", &b"tree/file"[..]), (plain, b"oci-layout")] {
            place.ok(format!("rm -f made; mkdaxfs -q {prefix}{input} made"));
            assert!(place.listing("made").contains_key(file), "{input}");
        }
    }
    let why = "is a container image of docker save or skopeo; make a layout by skopeo copy, of docker-archive:FILE or dir:DIRECTORY, to oci:DIRECTORY:NAME";
    place.shell("mkdir saved; cd saved; echo '[]' | tee manifest.json >repositories; tar -cf ../saved.tar .");
    for input in ["saved", "saved.tar", "- <saved.tar"] {
        place.fails(format!("mkdaxfs -q {input} image"), why);
    }
    // skopeo's transport dir:, crane pull and kaniko write no such file.
    place.shell(
        r#"name=$(printf "%064d" 0); for file in $name sha256:$name $name.json; do
        rm -rf saved; mkdir saved; cp saved.tar saved/$file; echo '[]' >saved/manifest.json; tar -C saved -cf ./$file.tar .; done"#,
    );
    for input in ["saved", "00*00.tar", "sha256:*.tar", "0*.json.tar"] {
        place.fails(format!("mkdaxfs -q {input} image"), why);
    }
    place.fails(
        "mkdaxfs -q oci:saved.tar image",
        "has no 'oci-layout'; it is not a complete OCI image layout. skopeo copy",
    );
    // Other programs use this file name, too.
    place.shell(
        r#"mkdir other; echo '[]' >other/index.json; tar -cf other.tar -C other .
        mkdaxfs -q other image; mkdaxfs -q other.tar image"#,
    );
}
