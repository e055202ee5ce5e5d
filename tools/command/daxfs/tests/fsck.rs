// SPDX-License-Identifier: GPL-2.0-only

//! `fsck` and `fsck.daxfs`.

use crate::support;
use crate::support::{fail, fixture, run, run_as, succeed};
use daxfs_testing::builder::{seal, specimen, superblock};
use daxfs_testing::{image_with, options, scratch};
use std::fs;

/// The table of sums after an image.
#[test]
fn sums() {
    let directory = scratch();
    let (source, image) = (
        directory.path().join("source"),
        directory.path().join("image"),
    );
    fs::create_dir(&source).unwrap();
    support::tree(&source);
    let mut options = options();
    options.sums = true;
    image_with(&source, &image, &options).unwrap();
    let name = image.display().to_string();
    assert!(succeed(&["fsck", &name]).text().contains(": clean, "));
    let mut bytes = fs::read(&image).unwrap();
    let size = superblock(&bytes).total_size.get();
    let info = succeed(&["info", &name]);
    let line = format!("Piece sums:     32 bytes from {size:#x}\n");
    assert!(info.text().contains(&line), "{info:?}");

    bytes[size as usize + 5] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let damaged = run(&["fsck", &name]);
    assert_eq!((damaged.status, damaged.text()), (4, ""));
    let start = format!("{name}: SHA-256 of piece 0 is ");
    assert!(damaged.stderr.starts_with(&start), "{damaged:?}");
    assert!(damaged.stderr.contains(", the table says "), "{damaged:?}");
    // The table is not part of the image.
    succeed(&["digest", &name]);

    // The memory may end with the table, in the middle of a block.
    bytes[size as usize + 5] ^= 1;
    fs::write(&image, &bytes[..size as usize + 32]).unwrap();
    succeed(&["fsck", &name]);
    succeed(&["digest", &name]);
    for end in [31, 0] {
        fs::write(&image, &bytes[..size as usize + end]).unwrap();
        let cut = run(&["fsck", &name]);
        assert_eq!(cut.status, 4, "{cut:?}");
        let said = "image larger than the region that holds it";
        assert!(cut.stderr.contains(said), "{cut:?}");
    }
}

#[test]
fn fsck() {
    let fixture = fixture();
    let clean = succeed(&fixture.with("fsck", &[]));
    let name = fixture.image.display().to_string();
    assert!(
        clean
            .text()
            .starts_with(&format!("{name}: clean, 10 inodes, ")),
        "{clean:?}"
    );
    assert_eq!(succeed(&fixture.with("fsck", &["--quiet"])).text(), "");

    // Data that nothing but the SHA-256 covers.
    let mut bytes = fs::read(&fixture.image).unwrap();
    let data = superblock(&bytes).data.offset.get() as usize;
    bytes[data] ^= 1;
    fs::write(&fixture.image, &bytes).unwrap();
    let damaged = run(&fixture.with("fsck", &[]));
    assert_eq!((damaged.status, damaged.text()), (4, ""));
    let lines: Vec<_> = damaged.stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{name}: SHA-256 is ")),
        "{lines:?}"
    );
    assert_eq!(
        lines[1],
        format!(
            "{name}: 1 error, nothing was changed; restore the image from a copy, or make it again"
        )
    );
    let line = fail(&fixture.with("digest", &[]), 1);
    assert!(line.contains(", the superblock says "), "{line}");
    // Without a superblock.
    bytes[0] = 0;
    fs::write(&fixture.image, &bytes).unwrap();
    let none = run(&fixture.with("fsck", &[]));
    assert_eq!(none.status, 4, "{none:?}");
    assert!(none.stderr.contains("no daxfs superblock"), "{none:?}");

    let both = run(&fixture.with("fsck", &["/missing"]));
    assert_eq!(both.status, 12);
    assert_eq!(run(&["fsck", "--help"]).status, 0);
}

#[test]
fn fsck_daxfs() {
    let fixture = fixture();
    let image = fixture.image.to_str().unwrap();
    for options in [
        &["-a"][..],
        &["-p", "-C0"],
        &["-n", "-f", "-V"],
        &["-y", "-C"],
        &["-a", "-T", "-l"][..2],
    ] {
        let options: Vec<_> = options
            .iter()
            .filter(|&&option| option != "-T")
            .copied()
            .collect();
        let run = run_as("/sbin/fsck.daxfs", &[&options[..], &[image]].concat());
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{options:?}");
    }
    assert_eq!(run_as("fsck.daxfs", &["-a"]).status, 16);
    assert_eq!(run_as("fsck.daxfs", &["/missing"]).status, 8);
    // The progress that fsck(8) asks for.
    let shell = "exec 3>&1; exec -a fsck.daxfs \"$0\" -a -C3 \"$1\" >/dev/null";
    let output = std::process::Command::new("bash")
        .args(["-c", shell, support::DAXFS, image])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("1 ") && last.ends_with(&format!(" 100 {image}")),
        "{text}"
    );
}

#[test]
fn findings_are_all_told_on_demand() {
    let directory = scratch();
    let image = directory.path().join("image");
    let mut bytes = specimen();
    let names = superblock(&bytes).names;
    let (start, length) = (names.offset.get() as usize, names.length.get() as usize);
    bytes[start..start + length].fill(b'/');
    seal(&mut bytes);
    fs::write(&image, &bytes).unwrap();
    let run = run(&["fsck".as_ref(), "-v".as_ref(), image.as_os_str()]);
    assert_eq!(run.status, 4);
    assert!(run.stderr.matches("invalid name").count() == 7, "{run:?}");
}
