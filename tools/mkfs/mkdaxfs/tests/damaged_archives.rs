// SPDX-License-Identifier: GPL-2.0-only

//! Damaged and malicious archives.

use crate::memory_use::make_within;
use crate::support::fixture::{self, Can};
use crate::support::{available, make, mkdaxfs, produce, run, skip};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Run a script of Python that writes `archive`, an open tarfile; `f(name, type, data)` adds a
/// member.
fn crafted(at: &Path, script: &str) -> PathBuf {
    let archive = at.join("crafted.tar");
    let prelude = "import io, sys, tarfile, os\n\
        archive = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)\n\
        def f(name, kind=tarfile.REGTYPE, data=b'', **more):\n    \
        info = tarfile.TarInfo(name)\n    \
        info.type, info.size, info.mtime = kind, len(data), 1600000000\n    \
        for key, value in more.items(): setattr(info, key, value)\n    \
        archive.addfile(info, io.BytesIO(data))\n\
        D, L, H, C = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE\n";
    let script = format!("{prelude}{script}\narchive.close()\n");
    produce(Command::new("python3").args(["-c", &script]).arg(&archive));
    archive
}

/// Names that lead elsewhere stay within the image or are refused.
#[test]
fn hostile_names() {
    if !available("python3") {
        return skip("no python3");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let archive = crafted(
        at,
        "f('/etc/', D); f('/etc/passwd', data=b'1')\n\
         f('out', L, linkname='../../../..'); f('out/etc/shadow', data=b'2')\n\
         f('abs', L, linkname='/etc'); f('abs/group', data=b'3')\n\
         f('gone', L, linkname='new/dir'); f('gone/file', data=b'4')\n\
         f('hard', H, linkname='/etc/passwd'); f('./a/./b//c', data=b'5')\n\
         f('hard2', H, linkname='abs/group')",
    );
    let image = at.join("image");
    make(["-q"], &archive, &image);
    let listing = daxfs_testing::listing_of(&image);
    let bytes = |path: &str| match &listing[path.as_bytes()].content {
        daxfs_testing::listing::What::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => format!("{other:?}"),
    };
    for (path, content) in [
        ("etc/passwd", "1"),
        ("etc/shadow", "2"),
        ("etc/group", "3"),
        ("new/dir/file", "4"),
        ("hard", "1"),
        ("a/b/c", "5"),
        ("hard2", "3"),
    ] {
        assert_eq!(bytes(path), content, "{path}");
    }
    assert_eq!(listing.len(), 16);
    for (script, what) in [
        ("f('../evil')", "the name '../evil' leads out of the tree"),
        ("f('a/../../evil')", "leads out of the tree"),
        ("f('a', L, linkname='a'); f('a/b')", "the symlink 'a' leads nowhere"),
        ("f('a', L, linkname='b'); f('b', L, linkname='a'); f('a/x')", "leads nowhere"),
        ("f('a'); f('a/b')", "'a' is not a directory"),
        ("f('a', H, linkname='b')", "a hard link to 'b', which is not there"),
        ("f('d', D); f('a', H, linkname='d')", "a hard link to the directory 'd'"),
        ("f('x' * 256)", "has a name of more than 255 bytes"),
        ("f('a', L, linkname='t' * 4096)", "a symlink's target has 4096 bytes"),
        ("f('.', data=b'x')", "the root of the tree is not a directory"),
        ("f('a', C, devmajor=4096, devminor=0)", "device number 4096:0 is not supported"),
        ("f('a', pax_headers={'mtime': 'so\\non'})", "the extended header mtime has the value 'so\\non'"),
        ("f('a', pax_headers={'uid': '4294967296'})", "the extended header uid has the value '4294967296'"),
        (
            "f('a', data=b'x' * 512, pax_headers={'GNU.sparse.map': '0,512,100,1', 'GNU.sparse.size': '1000'})",
            "the map of a sparse file is malformed at 100",
        ),
        (
            "f('a', data=b'x' * 512, pax_headers={'GNU.sparse.map': '0,100', 'GNU.sparse.size': '1000'})",
            "the map of a sparse file has 100 bytes, the archive 512",
        ),
        (
            "f('a', data=b'x' * 512, pax_headers={'GNU.sparse.major': '1', 'GNU.sparse.realsize': '10'})",
            "the map of a sparse file is malformed",
        ),
    ] {
        let archive = crafted(at, script);
        let output = run(mkdaxfs().arg(&archive).arg(at.join("none")));
        assert_eq!((output.status, output.stderr.lines().count()), (1, 1), "{output:?}");
        assert!(output.stderr.contains(what) && output.stderr.contains("crafted.tar: "), "{output:?}");
        assert!(!at.join("none").exists());
    }
}

/// Directories can be nested only so deeply, whether the archive names each of them, only the
/// innermost, or part of the path by a symlink.
#[test]
fn nested_directories() {
    if !available("python3") {
        return skip("no python3");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let image = at.join("image");
    let archive = crafted(at, "f('d/' * 4096 + 'file', data=b'x')");
    make(["-q"], &archive, &image);
    assert_eq!(daxfs_testing::listing_of(&image).len(), 4098);
    fs::remove_file(&image).unwrap();
    for script in [
        "f('d/' * 4097, D)",
        "f('d/' * 4097 + 'file')",
        "for n in range(4097): f('d/' * (n + 1), D)",
        "f('d/' * 2000, D); f('l', L, linkname='d/' * 2000); f('l/' + 'd/' * 2097 + 'file')",
    ] {
        let archive = crafted(at, script);
        let output = run(mkdaxfs().arg(&archive).arg(&image));
        let expected =
            "more than 4096 directories are nested; leave the innermost out (member at byte ";
        assert!(
            output.status == 1 && output.stderr.contains(expected),
            "{output:?}"
        );
        assert!(!image.exists());
    }
}

/// Files that are not archives, and truncated archives.
#[test]
fn damaged_archives() {
    let (directory, tree, _) = fixture::imaged(Can::default());
    let at = directory.path();
    let archive = at.join("archive.tar");
    produce(
        Command::new("tar")
            .args(["--format=posix", "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(&tree)
            .arg("."),
    );
    let bytes = fs::read(&archive).unwrap();
    let compressed = Command::new("gzip")
        .arg("-c")
        .stdin(File::open(&archive).unwrap())
        .output()
        .unwrap()
        .stdout;
    let broken = at.join("broken");
    let says = |bytes: &[u8], what: &str| {
        fs::write(&broken, bytes).unwrap();
        for stdin in [false, true] {
            let input = if stdin { Path::new("-") } else { &broken };
            let mut cat = Command::new("cat")
                .arg(&broken)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let output = run(mkdaxfs()
                .arg(input)
                .arg(at.join("none"))
                .stdin(cat.stdout.take().unwrap()));
            let _ = cat.wait();
            assert_eq!(
                (output.status, output.stderr.lines().count()),
                (1, 1),
                "{what}: {output:?}"
            );
            assert!(output.stderr.contains(what), "{what}: {output:?}");
            assert!(!at.join("none").exists());
        }
    };
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    says(b"", "is empty and not an archive");
    says(b"hello", "it is cut short");
    says(&[b'x'; 2000], "is neither a tar archive nor a daxfs image");
    says(&bytes[..last - 1000], "it is cut short");
    says(
        &compressed[..compressed.len() / 2],
        "its compressed data end too early",
    );
    let mut flipped = compressed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    fs::write(&broken, &flipped).unwrap();
    let output = run(mkdaxfs().arg(&broken).arg(at.join("none")));
    assert_eq!(
        (output.status, output.stderr.lines().count()),
        (1, 1),
        "{output:?}"
    );
    let mut sum = compressed.clone();
    let length = sum.len();
    sum[length - 8] ^= 1;
    says(&sum, "is damaged");
    says(
        b"BZh91AY&SY00000000",
        "only bzip2 knows; use bzip2 -dc FILE | mkdaxfs - IMAGE",
    );
    let mut header = bytes.clone();
    let second = 512 * 3;
    header[second] ^= 1;
    header[second + 512 * 2] ^= 1;
    fs::write(&broken, &header).unwrap();
    let output = run(mkdaxfs().arg(&broken).arg(at.join("none")));
    assert_eq!(
        (output.status, output.stderr.lines().count()),
        (1, 1),
        "{output:?}"
    );
    // The end mark is missing, but nothing else.
    produce(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&tree)
            .arg("dir/one"),
    );
    let bytes = fs::read(&archive).unwrap();
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let end = (last + 1).next_multiple_of(512);
    fs::write(&broken, &bytes[..end]).unwrap();
    let output = run(mkdaxfs().arg("-q").arg(&broken).arg(at.join("marked")));
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stderr.contains("has no end mark"), "{output:?}");
}

/// The attributes of each file are in memory once.
#[test]
fn many_attributes_in_little_memory() {
    if !available("python3") {
        return skip("no python3");
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "for n in range(2000):\n    \
        value = {'SCHILY.xattr.user.a': str(n).zfill(60000)}\n    \
        f(str(n), pax_headers=value)";
    let archive = crafted(directory.path(), script);
    make_within(160 << 20, "", &archive, &directory.path().join("image"));
}
