// SPDX-License-Identifier: GPL-2.0-only

//! Inputs that are something else than they are taken for.

use crate::support::layout::{docker, Layout};
use crate::support::{make, mkdaxfs, run, shell, skip};
use daxfs_testing::listing_of;
use std::fs;
use std::process::{Command, Stdio};

/// A disk image may start with zeros, as an empty archive does.
#[test]
fn what_is_no_archive() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    shell(
        at,
        "tar -cf none.tar -T /dev/null; gzip -k none.tar
         truncate -s 1M zeros; truncate -s 4M ext4 btrfs; printf '\\123\\357' | dd of=ext4 bs=1 seek=1080 conv=notrunc
         printf _BHRfS_M | dd of=btrfs bs=1 seek=65600 conv=notrunc; gzip -k ext4
         printf 'QFI\\373%1020s' >qcow2; (printf hsqs; head -c 2000 /dev/urandom) >squashfs",
    );
    let told = |input: &str| {
        let image = at.join("image");
        let run = run(mkdaxfs().current_dir(at).args(["-q", input]).arg(&image));
        assert_eq!((run.status, run.stderr.lines().count()), (1, 1), "{run:?}");
        assert!(!image.exists());
        run.stderr
    };
    let known = [
        ("ext4", "an ext2, ext3 or ext4 file system"),
        ("ext4.gz", "an ext2, ext3 or ext4 file system"),
        ("tar:ext4", "an ext2, ext3 or ext4 file system"),
        ("btrfs", "a Btrfs file system"),
        ("qcow2", "a qcow2 disk image"),
        ("squashfs", "a SquashFS image"),
    ];
    for (input, what) in known {
        let expected = format!(
            "is neither a tar archive nor a daxfs image, but {what}; unpack or mount it, and name the directory"
        );
        let told = told(input);
        assert!(told.contains(&expected), "{input}: {told}");
    }
    for input in ["zeros", "none.tar", "none.tar.gz"] {
        let told = told(input);
        let expected = "is an archive without members; if it should be, write tar: before the path";
        assert!(told.contains(expected), "{input}: {told}");
        let output = run(mkdaxfs()
            .current_dir(at)
            .args(["-q", &format!("tar:{input}"), "image"]));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        assert_eq!(listing_of(&at.join("image")).len(), 1);
        fs::remove_file(at.join("image")).unwrap();
    }
    let empty = fs::read(at.join("none.tar")).unwrap();
    let piped = |input: &str| {
        let mut command = mkdaxfs();
        command.current_dir(at).args(["-q", input, "image"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &empty).unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!((piped("-"), piped("tar:-")), (Some(1), Some(0)));
}

/// Images that the programs make.
#[test]
fn foreign_images() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    shell(at, "mkdir tree; echo text >tree/file");
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
            "(cd tree && printf file | cpio -o -H newc --quiet) >x",
            "a cpio archive",
        ),
    ] {
        let path = "PATH=$PATH:/sbin:/usr/sbin";
        let made = Command::new("bash")
            .args(["-ec", &format!("{path}; rm -f x; {script}")])
            .current_dir(at)
            .output();
        if !made.unwrap().status.success() {
            skip(script);
            continue;
        }
        let run = run(mkdaxfs().current_dir(at).args(["-q", "x", "image"]));
        assert_eq!(run.status, 1, "{script}");
        assert!(run.stderr.contains(&format!(", but {what}")), "{run:?}");
    }
}

/// A container image without its prefix, and with one that takes it as it is.
#[test]
fn containers() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    shell(
        at,
        "mkdir tree; echo text >tree/file; tar -cf tree.tar tree",
    );
    let tar = at.join("tree.tar");
    let layout = Layout::new(&at.join("layout"));
    layout.index(&[layout.image(&[(&tar, "")])]);
    docker(&at.join("saved.tar"), &[tar], "a/b:1");
    shell(
        at,
        "tar -cf layout.tar -C layout .; tar -czf layout.tgz -C layout blobs index.json oci-layout; mv saved.parts saved",
    );
    let told = |input: &str, what: &str, prefix: &str, plain: &str| {
        let mut command = mkdaxfs();
        command.current_dir(at).args(["-q", input, "image"]);
        if input == "-" {
            command.stdin(fs::File::open(at.join("layout.tar")).unwrap());
        }
        let refused = run(&mut command);
        assert_eq!(refused.status, 1, "{refused:?}");
        let expected = format!(
            ": is {what}; write {prefix} before the path to read the files of the container, or {plain} to read"
        );
        assert!(refused.stderr.contains(&expected), "{refused:?}");
        assert!(!at.join("image").exists());
    };
    for (input, what, prefix, plain) in [
        ("layout", "an OCI image layout", "oci:", "dir:"),
        ("layout.tar", "an OCI image layout", "oci:", "tar:"),
        ("layout.tgz", "an OCI image layout", "oci:", "tar:"),
        ("-", "an OCI image layout", "oci:", "tar:"),
        (
            "saved",
            "a container image of docker save",
            "docker:",
            "dir:",
        ),
        (
            "saved.tar",
            "a container image of docker save",
            "docker:",
            "tar:",
        ),
    ] {
        told(input, what, prefix, plain);
        if input == "-" {
            continue;
        }
        for (prefix, file) in [
            (prefix, &b"tree/file"[..]),
            (
                plain,
                if input.starts_with("saved") {
                    b"manifest.json"
                } else {
                    b"oci-layout"
                },
            ),
        ] {
            let input = format!("{prefix}{}", at.join(input).display());
            make(["-q"], input.as_ref(), &at.join("image"));
            assert!(listing_of(&at.join("image")).contains_key(file), "{input}");
            fs::remove_file(at.join("image")).unwrap();
        }
    }
    // Other programs have files of these names.
    shell(
        at,
        "mkdir other; echo '{\"name\": \"x\"}' >other/manifest.json; echo '[]' >other/index.json; tar -cf other.tar -C other .",
    );
    for input in ["other", "other.tar"] {
        make(["-q"], &at.join(input), &at.join("image"));
    }
}

/// A configuration that has the digest of another archive than the layer's.
#[test]
fn wrong_diff_id() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    shell(
        at,
        "mkdir tree; echo text >tree/file; tar -cf one.tar tree; echo more >tree/file; tar -cf two.tar tree",
    );
    let (one, two) = (at.join("one.tar"), at.join("two.tar"));
    let layout = Layout::new(&at.join("layout"));
    let input = format!("oci:{}", layout.0.display());
    for program in ["", "gzip"] {
        let layer = layout.layer(&one, program);
        for (config, what) in [
            (layout.config(&[&two]), "does not have its digest"),
            (
                layout.config(&[&one, &one]),
                "has 1 layers and 2 digests for them",
            ),
        ] {
            layout.index(&[layout.manifest_of(config, &[layer.clone()])]);
            for options in [
                &[][..],
                &["--layers"],
                &["--layers=chain-id"],
                &["--image-store"],
                &["--dry-run"],
            ] {
                let output = at.join("output");
                let run = run(mkdaxfs().args(options).arg(&input).arg(&output));
                assert_eq!(run.status, 1, "{options:?}");
                assert!(run.stderr.contains(what), "{options:?}: {run:?}");
                assert!(!output.exists());
            }
        }
        layout.index(&[layout.manifest_of(layout.config(&[&one]), &[layer])]);
        make(["-q"], input.as_ref(), &at.join("image"));
    }
}
