// SPDX-License-Identifier: GPL-2.0-only

//! Every command through its command line: its output and its errors.

use crate::support::{digest, fixture, place};
use daxfs_testing::image_of;

#[test]
fn info() {
    let place = fixture();
    let digest = digest(&place);
    let text = place.prints("daxfs info image", "Label:          a label\n");
    assert!(
        text.contains(&format!("SHA-256:        {digest}\n")),
        "{text}"
    );
    let json = place.ok("daxfs info --json image").json();
    assert_eq!(json["label"], "a label");
    assert_eq!(json["sha256"], digest);
    assert_eq!(json["total_size"], place.read("image").len());
    let uuid = json["uuid"].as_str().unwrap();
    let expected = format!(
        "ID_FS_TYPE=daxfs\nID_FS_USAGE=filesystem\nID_FS_VERSION=1\nID_FS_UUID={uuid}\nID_FS_UUID_ENC={uuid}\n\
         ID_FS_LABEL=a_label\nID_FS_LABEL_ENC=a\\x20label\n"
    );
    assert_eq!(place.ok("daxfs info --udev image").text(), expected);
}

#[test]
fn ls() {
    let place = fixture();
    let all = "/\n/dir\n/dir/absolute\n/dir/below\n/dir/below/deep\n/dir/empty\n/dir/other name\n/fifo\n/file\n\
               /link\n/loop\n";
    for (line, expected) in [
        ("daxfs ls image", "dir\nfifo\nfile\nlink\nloop\n"),
        ("daxfs ls -p image", "dir/\nfifo\nfile\nlink\nloop\n"),
        ("daxfs ls --zero image /link", "deep\0"),
        ("daxfs ls -R image", all),
    ] {
        assert_eq!(place.ok(line).text(), expected, "{line}");
    }
    let long = place.ok("daxfs ls -l image dir");
    let lines: Vec<_> = long.text().lines().collect();
    let (first, fourth) = (lines[0], lines[3]);
    assert!(first.starts_with("lrwxrwxrwx ") && first.ends_with(" absolute -> /dir/../file"));
    assert!(
        fourth.starts_with("-rw-r--r--    2 ") && fourth.contains(" 10 20"),
        "{fourth}"
    );
    let one = place.ok("daxfs ls -ldi image dir");
    let number = one.text().trim_start().starts_with(char::is_numeric);
    assert!(number && one.text().ends_with(" dir\n"), "{one:?}");
    let sizes = place.ok("daxfs ls -lh image /dir/below").stdout;
    assert!(String::from_utf8_lossy(&sizes).contains("  9.8K "));
    let long = place.ok("daxfs ls -l --human-readable image /dir/below");
    assert_eq!(long.stdout, sizes);
}

#[test]
fn cat() {
    let place = fixture();
    let text = &b"some text\n"[..];
    let two = "/dir/absolute /dir/empty 'link/../other name'";
    for (paths, expected) in [
        ("file", text),
        (two, &text.repeat(2)),
        ("/../link/deep", &[7; 10_000]),
    ] {
        let found = place.ok(format!("daxfs cat image {paths}")).stdout;
        assert!(found == expected, "{paths}");
    }
}

#[test]
fn stat_and_dump() {
    let place = fixture();
    let line = "daxfs stat image '/dir/other name' link";
    let text = place.prints(line, "  Type: file  Size: 10  Inode: ");
    assert!(text.contains("  File: link -> dir/below\n"), "{text}");
    let dump = place.ok("daxfs dump --sums image").json();
    assert_eq!(dump["superblock"]["label"], "a label");
    let files = dump["files"].as_array().unwrap();
    let paths = files.iter().map(|file| file["path"].as_str().unwrap());
    let listed = place.ok("daxfs ls -R image");
    assert!(paths.eq(listed.text().lines()), "{listed:?}");
    let find = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    // sha256sum of "some text\n"
    let sum = "a23e5fdcd7b276bdd81aa1a0b7b963101863dd3f61ff57935f8c5ba462681ea6";
    let one = find("/file");
    let found = (&one["nlink"], &one["size"], &one["mode"], &one["sha256"]);
    assert_eq!(found, (&2.into(), &10.into(), &"0644".into(), &sum.into()));
    let link = (&find("/link")["type"], &find("/link")["target"]);
    assert_eq!(link, (&"symlink".into(), &"dir/below".into()));
    let plain = place.ok("daxfs dump image").json();
    assert!(plain["files"][0].get("sha256").is_none());
}

#[test]
fn names_that_are_no_text() {
    let place = place("mkdir source; printf x >source/$'a\\xff\\n'");
    image_of(&place.path("source"), &place.path("image")).unwrap();
    let dump = place.ok("daxfs dump image").json();
    assert_eq!(dump["files"][1]["path"]["base64"], "L2H/Cg==");
    assert_eq!(place.ok("daxfs ls -0 image").stdout, b"a\xff\n\0");
    assert_eq!(place.ok("daxfs cat image $'a\\xff\\n'").text(), "x");
    place.fails("daxfs cat image $'b\\n'", ": b\\n: no such file");
}

#[test]
fn standard_input() {
    let place = fixture();
    let digest = digest(&place) + "\n";
    for (line, expected) in [
        ("cat image | daxfs ls - /dir/below", "deep\n"),
        ("cat image | daxfs digest -", &digest),
        // A file as standard input is read in place.
        ("daxfs digest - <image", &digest),
    ] {
        assert_eq!(place.ok(line).text(), expected, "{line}");
    }
    place.ok("cat image | daxfs fsck -");
    let start = "daxfs: standard input: image larger than the region that holds it";
    let cut = place.fails("head -c -1 image | daxfs info -", start);
    let end = "; the copy is incomplete: copy all of it\n";
    assert!(cut.ends_with(end), "{cut}");
}

#[test]
fn block_devices() {
    let place = fixture();
    let Some(device) = place.loop_device("--read-only image") else {
        return;
    };
    let found = place.ok(format!("daxfs digest {}", device.0));
    assert_eq!(found.text().trim_end(), digest(&place));
    place.ok(format!("fsck.daxfs -a {}", device.0));
}

#[test]
fn usage() {
    let place = place("");
    assert_eq!(place.run("daxfs").status, 2);
    assert!(place.ok("daxfs --version").text().starts_with("daxfs "));
}
