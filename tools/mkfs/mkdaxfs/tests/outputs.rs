// SPDX-License-Identifier: GPL-2.0-only

//! Where the image goes: to standard output and to devices; and which file systems it is made of.

use crate::support::{is_root, make, mkdaxfs, run, skip, tree};
use daxfs_testing::listing_of;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn standard_output() {
    let (directory, tree) = tree();
    let image = directory.path().join("image");
    make(["-q"], &tree, &image);
    let output = mkdaxfs()
        .arg(&tree)
        .arg("-")
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(output.stdout == fs::read(&image).unwrap());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("-: ") && told.lines().count() == 1,
        "{told}"
    );
    let output = mkdaxfs()
        .arg("-q")
        .arg(&tree)
        .arg("-")
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.stderr, b"");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = mkdaxfs()
        .arg("-q")
        .arg(&tree)
        .arg("-")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("standard output: cannot write the image: No space left"),
        "{told}"
    );
}

/// A loop device backed by a file of this size.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path, size: u64) -> Option<Self> {
        let backing = File::create(file).unwrap();
        std::io::copy(
            &mut std::io::Read::take(std::io::repeat(0xaa), size),
            &mut &backing,
        )
        .unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Loop(
                String::from_utf8(output.stdout).unwrap().trim().into(),
            )),
            _ => {
                skip("no loop devices for us");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn block_devices() {
    let (directory, tree) = tree();
    let at = directory.path();
    let image = at.join("image");
    fs::write(tree.join("huge"), vec![1; 3 << 20]).unwrap();
    make(["-q"], &tree, &image);
    let bytes = fs::read(&image).unwrap();
    let Some(device) = Loop::new(&at.join("backing"), bytes.len() as u64 + 8192) else {
        return;
    };
    let output = run(mkdaxfs().arg(&tree).arg(&device.0));
    assert_eq!(output.status, 1);
    let expected = "holds data other than a daxfs image, which would be lost; name another device, or give --force";
    assert!(output.stderr.contains(expected), "{output:?}");
    let backing = fs::read(at.join("backing")).unwrap();
    assert!(backing.iter().all(|&byte| byte == 0xaa));
    make(["-q", "--force"], &tree, &device.0);
    let backing = fs::read(at.join("backing")).unwrap();
    assert!(backing[..bytes.len()] == bytes);
    assert!(
        backing[bytes.len()..].iter().all(|&byte| byte == 0xaa),
        "it wrote after the image"
    );
    assert!(device.0.metadata().unwrap().rdev() != 0);
    // The device as input.
    let out = at.join("out");
    make(["-q"], &device.0, &out);
    assert!(fs::read(&out).unwrap() == bytes);
    // An image may be replaced, but not by itself.
    make(["-q"], &tree, &device.0);
    let output = run(mkdaxfs().arg("--force").args([&device.0, &device.0]));
    assert!(
        output.status == 1 && output.stderr.contains("is an input as well"),
        "{output:?}"
    );
    let Some(small) = Loop::new(&at.join("small"), bytes.len() as u64 - 4096) else {
        return;
    };
    let output = run(mkdaxfs().arg("--force").arg(&tree).arg(&small.0));
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains(&format!(
            "the image has {} bytes, the device {}; use a larger one",
            bytes.len(),
            bytes.len() - 4096
        )),
        "{output:?}"
    );
    assert!(fs::read(at.join("small"))
        .unwrap()
        .iter()
        .all(|&byte| byte == 0xaa));
}

#[test]
fn other_file_systems() {
    let (directory, tree) = tree();
    let script = r#"
        cd "$2"; mkdir tree/mnt; mount -t tmpfs tmpfs tree/mnt; echo 1 >tree/mnt/file; chmod 700 tree/mnt
        "$1" -q tree all; "$1" -q --one-file-system tree one"#;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "bash", "-ec", script, "-"])
        .arg(mkdaxfs().get_program())
        .arg(directory.path());
    if !is_root() || run(Command::new("unshare").args(["-m", "true"])).status != 0 {
        return skip("mounting needs root");
    }
    let output = run(&mut command);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let all = listing_of(&directory.path().join("all"));
    let one = listing_of(&directory.path().join("one"));
    assert!(all.contains_key(&b"mnt/file"[..]));
    assert!(one.contains_key(&b"mnt"[..]) && !one.contains_key(&b"mnt/file"[..]));
    assert_eq!(one.len() + 1, all.len());
    assert!(tree.exists());
}
