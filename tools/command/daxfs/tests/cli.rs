// SPDX-License-Identifier: GPL-2.0-only

//! Every command through its command line: its output, and its errors.

use crate::support;
use crate::support::{fail, fixture, run, run_as, run_with, succeed};
use daxfs_testing::{image_of, scratch};
use std::ffi::OsStr;
use std::fs;

#[test]
fn info() {
    let fixture = fixture();
    let text = succeed(&fixture.with("info", &[])).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("Label:          a label\n"), "{text}");
    assert!(
        text.contains(&format!("SHA-256:        {}\n", fixture.digest)),
        "{text}"
    );
    let json = succeed(&fixture.with("info", &["--json"])).json();
    assert_eq!(json["label"], "a label");
    assert_eq!(json["sha256"], fixture.digest);
    assert_eq!(
        json["total_size"],
        fs::metadata(&fixture.image).unwrap().len()
    );
    let uuid = json["uuid"].as_str().unwrap();
    let udev = succeed(&fixture.with("info", &["--udev"]));
    let expected = format!(
        "ID_FS_TYPE=daxfs\nID_FS_USAGE=filesystem\nID_FS_VERSION=1\nID_FS_UUID={uuid}\nID_FS_UUID_ENC={uuid}\n\
         ID_FS_LABEL=a_label\nID_FS_LABEL_ENC=a\\x20label\n"
    );
    assert_eq!(udev.text(), expected);
}

#[test]
fn ls() {
    let fixture = fixture();
    let names = succeed(&fixture.with("ls", &[]));
    assert_eq!(names.text(), "dir\nfifo\nfile\nlink\nloop\n");
    let names = succeed(&fixture.with("ls", &["--zero", "/link"]));
    assert_eq!(names.text(), "deep\0");
    let all = succeed(&fixture.with("ls", &["-R"]));
    let expected = "/\n/dir\n/dir/absolute\n/dir/below\n/dir/below/deep\n/dir/empty\n/dir/other name\n/fifo\n/file\n\
                    /link\n/loop\n";
    assert_eq!(all.text(), expected);
    let long = succeed(&fixture.with("ls", &["-l", "dir"]));
    let lines: Vec<_> = long.text().lines().collect();
    assert!(
        lines[0].starts_with("lrwxrwxrwx ") && lines[0].ends_with(" absolute -> /dir/../file"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("-rw-r--r--    2 ") && lines[3].contains(" 10 20"),
        "{lines:?}"
    );
    let one = succeed(&fixture.with("ls", &["-ldi", "dir"]));
    assert!(
        one.text().trim_start().starts_with(char::is_numeric) && one.text().ends_with(" dir\n"),
        "{one:?}"
    );
}

#[test]
fn cat() {
    let fixture = fixture();
    assert_eq!(
        succeed(&fixture.with("cat", &["file"])).text(),
        "some text\n"
    );
    let both = succeed(&fixture.with(
        "cat",
        &["/dir/absolute", "/dir/empty", "link/../other name"],
    ));
    assert_eq!(both.text(), "some text\nsome text\n");
    assert_eq!(
        succeed(&fixture.with("cat", &["/../link/deep"])).stdout,
        vec![7; 10_000]
    );
}

#[test]
fn stat_and_dump() {
    let fixture = fixture();
    let text = succeed(&fixture.with("stat", &["/dir/other name", "link"]));
    assert!(
        text.text().contains("  Type: file  Size: 10  Inode: "),
        "{text:?}"
    );
    assert!(
        text.text().contains("  File: link -> dir/below\n"),
        "{text:?}"
    );
    let one = succeed(&fixture.with("stat", &["--json", "/file"])).json();
    assert_eq!(
        (&one["nlink"], &one["size"], &one["mode"]),
        (&2.into(), &10.into(), &"0644".into())
    );

    let dump = succeed(&fixture.with("dump", &["--sums"])).json();
    assert_eq!(dump["superblock"]["label"], "a label");
    let files = dump["files"].as_array().unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    let listed = succeed(&fixture.with("ls", &["-R"]));
    assert_eq!(paths, listed.text().lines().collect::<Vec<_>>());
    let file = files.iter().find(|file| file["path"] == "/file").unwrap();
    // sha256sum of "some text\n"
    let sum = "a23e5fdcd7b276bdd81aa1a0b7b963101863dd3f61ff57935f8c5ba462681ea6";
    assert_eq!(file["sha256"], sum);
    assert_eq!(file["ino"], one["ino"]);
    let link = files.iter().find(|file| file["path"] == "/link").unwrap();
    assert_eq!(
        (&link["type"], &link["target"]),
        (&"symlink".into(), &"dir/below".into())
    );
    let plain = succeed(&fixture.with("dump", &[])).json();
    assert!(plain["files"][0].get("sha256").is_none());
}

#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let directory = scratch();
    let (source, image) = (
        directory.path().join("source"),
        directory.path().join("image"),
    );
    fs::create_dir(&source).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"a\xff\n")), "x").unwrap();
    image_of(&source, &image).unwrap();
    let dump = succeed(&["dump".as_ref(), image.as_os_str()]).json();
    assert_eq!(dump["files"][1]["path"]["base64"], "L2H/Cg==");
    let raw = succeed(&["ls".as_ref(), "-0".as_ref(), image.as_os_str()]);
    assert_eq!(raw.stdout, b"a\xff\n\0");
    let cat = [
        "cat".as_ref(),
        image.as_os_str(),
        OsStr::from_bytes(b"a\xff\n"),
    ];
    assert_eq!(succeed(&cat).text(), "x");
    let line = fail(
        &["cat".as_ref(), image.as_os_str(), OsStr::from_bytes(b"b\n")],
        1,
    );
    assert!(line.contains(": b\\n: no such file"), "{line}");
}

#[test]
fn standard_input() {
    let fixture = fixture();
    let bytes = fs::read(&fixture.image).unwrap();
    let piped = run_with(&["ls", "-", "/dir/below"], &bytes);
    assert_eq!((piped.status, piped.text()), (0, "deep\n"));
    let digest = run_with(&["digest", "-"], &bytes);
    assert_eq!(digest.text().trim_end(), fixture.digest);
    let clean = run_with(&["fsck", "-"], &bytes);
    assert_eq!(clean.status, 0, "{clean:?}");
    let cut = run_with(&["info", "-"], &bytes[..bytes.len() - 1]);
    assert_eq!(cut.status, 1);
    assert!(
        cut.stderr
            .starts_with("daxfs: standard input: image larger than the region that holds it")
            && cut
                .stderr
                .ends_with("; the copy is incomplete: copy all of it\n"),
        "{cut:?}"
    );
    // A file as standard input is read where it is.
    let output = std::process::Command::new(support::DAXFS)
        .args(["digest", "-"])
        .stdin(fs::File::open(&fixture.image).unwrap())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim_end(),
        fixture.digest
    );
}

#[test]
fn block_devices() {
    let fixture = fixture();
    let output = std::process::Command::new("losetup")
        .args(["--find", "--show", "--read-only"])
        .arg(&fixture.image)
        .output();
    let device = match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => {
            println!("SKIP: losetup cannot set up a loop device");
            return;
        }
    };
    let device = device.trim_end();
    let digest = run(&["digest", device]);
    let clean = run_as("fsck.daxfs", &["-a", device]);
    std::process::Command::new("losetup")
        .args(["--detach", device])
        .status()
        .unwrap();
    assert_eq!(
        (digest.status, digest.text().trim_end()),
        (0, fixture.digest.as_str())
    );
    assert_eq!(clean.status, 0, "{clean:?}");
}

#[test]
fn usage() {
    let none = run(&[] as &[&str]);
    assert_eq!(none.status, 2);
    assert!(succeed(&["--version"]).text().starts_with("daxfs "));
}
