// SPDX-License-Identifier: GPL-2.0

//! Archives as others write them give the image that their directory gives, byte for byte.

#[path = "../../daxfs/tests/common/mod.rs"]
mod common;
mod support;

use common::scratch;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::fixture::{self, Can, ALL};
use support::{available, make, mkdaxfs, run, skip};

/// A directory with the fixture in `tree`, and the bytes of its image.
fn fixture(can: Can) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fixture::make(&tree, can);
    let image = directory.path().join("image");
    make(["-q"], &tree, &image);
    let bytes = fs::read(&image).unwrap();
    (directory, tree, bytes)
}

/// Runs `command`, which must succeed.
fn produce(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The archive must give an image of exactly these bytes.
#[track_caller]
fn gives(archive: &Path, expected: &[u8]) {
    let scratch = scratch();
    let image = scratch.path().join("image");
    make(["-q"], archive, &image);
    if fs::read(&image).unwrap() != expected {
        let wanted = scratch.path().join("wanted");
        fs::write(&wanted, expected).unwrap();
        common::assert_same(&common::listing_of(&image), &common::listing_of(&wanted));
        panic!("{}: the same files in another image", archive.display());
    }
}

#[test]
fn gnu_tar() {
    let plain = Can::default();
    let names = Can {
        names: true,
        ..plain
    };
    for (options, can) in [
        (
            &["--format=posix", "--xattrs", "--xattrs-include=*"][..],
            ALL,
        ),
        (
            &["--format=posix", "--xattrs", "--xattrs-include=*", "-S"],
            ALL,
        ),
        (
            &["--format=posix", "-S", "--sparse-version=0.0"],
            Can {
                xattrs: false,
                ..ALL
            },
        ),
        (
            &["--format=posix", "-S", "--sparse-version=0.1"],
            Can {
                xattrs: false,
                ..ALL
            },
        ),
        (&["--format=gnu"], names),
        (&["--format=gnu", "-S"], names),
        (&["--format=oldgnu", "-S"], names),
        (&["--format=ustar"], plain),
    ] {
        let (directory, tree, expected) = fixture(can);
        let archive = directory.path().join("archive.tar");
        produce(
            Command::new("tar")
                .args(options)
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&tree)
                .arg("."),
        );
        println!("{options:?}");
        gives(&archive, &expected);
    }
}

#[test]
fn bsdtar() {
    if !available("bsdtar") {
        return skip("there is no bsdtar");
    }
    for (options, can) in [
        (
            &["--format=pax"][..],
            Can {
                // It gets fractions of negative numbers wrong.
                early: false,
                ..ALL
            },
        ),
        (
            &["--format=gnutar"],
            Can {
                names: true,
                ..Can::default()
            },
        ),
        (&["--format=ustar"], Can::default()),
    ] {
        let (directory, tree, expected) = fixture(can);
        let archive = directory.path().join("archive.tar");
        produce(
            Command::new("bsdtar")
                .args(options)
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&tree)
                .arg("."),
        );
        println!("{options:?}");
        gives(&archive, &expected);
    }
}

#[test]
fn python() {
    if !available("python3") {
        return skip("there is no python3");
    }
    // Its times are floating-point numbers, which do not hold nanoseconds.
    for (format, can) in [
        (
            "PAX_FORMAT",
            Can {
                names: true,
                ..Can::default()
            },
        ),
        (
            "GNU_FORMAT",
            Can {
                names: true,
                ..Can::default()
            },
        ),
        ("USTAR_FORMAT", Can::default()),
    ] {
        let (directory, tree, expected) = fixture(can);
        let archive = directory.path().join("archive.tar");
        let script = "import sys, tarfile\n\
            with tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[3])) as archive:\n    \
            archive.add(sys.argv[2], arcname='.')\n";
        produce(
            Command::new("python3")
                .args(["-c", script])
                .arg(&archive)
                .arg(&tree)
                .arg(format),
        );
        println!("{format}");
        gives(&archive, &expected);
    }
}

/// Plain or compressed, from a file or a pipe; of a file that standard input is, what lies ahead.
#[test]
fn compression_and_pipes() {
    let (directory, tree, expected) = fixture(ALL);
    let at = directory.path();
    let archive = at.join("archive.tar");
    let options = [
        "--format=posix",
        "--xattrs",
        "--xattrs-include=*",
        "-S",
        "-cf",
    ];
    produce(
        Command::new("tar")
            .args(options)
            .arg(&archive)
            .arg("-C")
            .arg(&tree)
            .arg("."),
    );
    let mut archives = vec![archive.clone()];
    for (program, options) in [
        ("gzip", &["-9"][..]),
        ("zstd", &["-19"]),
        ("zstd", &["-1", "--long=27"]),
        ("xz", &["-1"]),
        ("xz", &["-T2", "--block-size=100KiB"]),
    ] {
        if !available(program) {
            skip(&format!("there is no {program}"));
            continue;
        }
        let compressed = at.join(format!("archive{}.{program}", archives.len()));
        let input = File::open(&archive).unwrap();
        let output = File::create(&compressed).unwrap();
        let status = Command::new(program)
            .args(options)
            .arg("-c")
            .stdin(input)
            .stdout(output)
            .status();
        assert!(status.unwrap().success());
        archives.push(compressed);
    }
    // Two compressed halves are one archive.
    let bytes = fs::read(&archive).unwrap();
    let (first, second) = bytes.split_at(1_000_000);
    for program in ["gzip", "zstd", "xz"]
        .into_iter()
        .filter(|program| available(program))
    {
        let mut both = Vec::new();
        for half in [first, second] {
            let path = at.join("half");
            fs::write(&path, half).unwrap();
            let input = File::open(&path).unwrap();
            both.extend(
                Command::new(program)
                    .arg("-c")
                    .stdin(input)
                    .output()
                    .unwrap()
                    .stdout,
            );
        }
        let path = at.join(format!("halves.{program}"));
        fs::write(&path, both).unwrap();
        archives.push(path);
    }
    let image = at.join("out");
    for archive in &archives {
        println!("{}", archive.display());
        gives(archive, &expected);
        let mut cat = Command::new("cat")
            .arg(archive)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = run(mkdaxfs()
            .args(["-q", "-"])
            .arg(&image)
            .stdin(cat.stdout.take().unwrap()));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        assert!(cat.wait().unwrap().success());
        assert!(fs::read(&image).unwrap() == expected);
        let input = File::open(archive).unwrap();
        let output = run(mkdaxfs().args(["-q", "tar:-"]).arg(&image).stdin(input));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        assert!(fs::read(&image).unwrap() == expected);
    }
    // Nothing is left of temporary files.
    let left = at.read_dir().unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(left.count(), 0);
}

/// A member of more than 8 GiB, which the classic header cannot describe.
#[test]
fn large_members() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let tree = at.join("tree");
    fs::create_dir(&tree).unwrap();
    let size = (8u64 << 30) + 4097;
    let file = File::create(tree.join("large")).unwrap();
    file.set_len(size).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(b"end", size - 3).unwrap();
    drop(file);
    fixture::set_times(&tree, Can::default());
    let expected = run(mkdaxfs().args(["-n"]).arg(&tree).arg(at.join("image")));
    assert_eq!(expected.status, 0);
    for options in [["--format=gnu", "-S"], ["--format=posix", "-S"]] {
        let archive = at.join("archive.tar");
        produce(
            Command::new("tar")
                .args(options)
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&tree)
                .arg("."),
        );
        assert!(archive.metadata().unwrap().len() < 1 << 20);
        let output = run(mkdaxfs().args(["-n"]).arg(&archive).arg(at.join("image")));
        assert_eq!(output.stdout, expected.stdout, "{output:?}");
    }
    if !available("python3") {
        return skip("there is no python3");
    }
    // Not sparse for tar, but the archive is a file with a hole.
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let archive = at.join("archive.tar");
        let script = "import os, sys, tarfile\n\
            archive = tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[3]))\n\
            for name in '.', 'large':\n    \
            info = archive.gettarinfo(sys.argv[2] + '/' + name, name)\n    \
            archive.fileobj.write(info.tobuf(archive.format, 'utf-8', 'surrogateescape'))\n\
            print(archive.fileobj.tell(), flush=True)\n\
            os._exit(archive.fileobj.flush() or 0)\n";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(&archive)
            .arg(&tree)
            .arg(format)
            .output();
        let offset = String::from_utf8(output.unwrap().stdout).unwrap();
        let start: u64 = offset.trim().parse().unwrap();
        let file = File::options().write(true).open(&archive).unwrap();
        file.set_len(start + size.next_multiple_of(512) + 1024)
            .unwrap();
        file.write_all_at(b"end", start + size - 3).unwrap();
        let output = run(mkdaxfs().arg("-n").arg(&archive).arg(at.join("image")));
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            (expected.stdout.as_str(), ""),
            "{format}"
        );
    }
}

/// What comes later wins, and a file stays as long as it has a name.
#[test]
fn repeated_members() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let script = r#"
        set -e; cd "$1"; mkdir a b c d
        echo old >a/file; ln a/file a/other; mkdir a/dir; echo x >a/dir/inside
        echo new >b/file; echo replaced >b/dir
        ln -s nowhere c/file; mkdir c/dir; echo y >c/dir/again
        for d in a b c; do find $d -exec touch -h -d @1600000000 {} +; done
        tar --format=posix -C a -cf archive.tar .
        tar --format=posix -C b -rf archive.tar .
        tar --format=posix -C c -rf archive.tar .
        ln -s nowhere d/file; echo old >d/other; mkdir d/dir; echo y >d/dir/again
        find d -exec touch -h -d @1600000000 {} +"#;
    produce(Command::new("bash").args(["-c", script, "-"]).arg(at));
    make(["-q"], &at.join("d"), &at.join("image"));
    gives(
        &at.join("archive.tar"),
        &fs::read(at.join("image")).unwrap(),
    );
    // The same from three inputs, whatever they are.
    let script =
        r#"set -e; cd "$1"; for d in a b c; do tar --format=posix -C $d -cf $d.tar .; done"#;
    produce(Command::new("bash").args(["-c", script, "-"]).arg(at));
    let expected = fs::read(at.join("image")).unwrap();
    make(["-q"], &at.join("c"), &at.join("c.img"));
    for inputs in [
        ["a", "b", "c"],
        ["a.tar", "b", "c.tar"],
        ["a", "b.tar", "c.img"],
        ["a.tar", "b.tar", "c"],
    ] {
        let inputs = inputs.map(|name| at.join(name));
        let output = run(mkdaxfs().arg("-q").args(&inputs).arg(at.join("out")));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        assert!(fs::read(at.join("out")).unwrap() == expected, "{inputs:?}");
    }
}

/// Directories that no member describes.
#[test]
fn implied_directories() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let script = r#"
        set -e; cd "$1"; mkdir -p tree/a/b; echo 1 >tree/a/b/c; echo 2 >tree/a/b/d
        touch -d @1600000000 tree/a/b/c; touch -d @1500000000 tree/a/b/d
        tar --format=posix -C tree -cf archive.tar a/b/c a/b/d
        touch -d @1600000000 tree/a/b tree/a tree; chmod 755 tree tree/a tree/a/b"#;
    produce(Command::new("bash").args(["-c", script, "-"]).arg(at));
    let options = ["-q", "--all-root"];
    make(options, &at.join("tree"), &at.join("image"));
    make(options, &at.join("archive.tar"), &at.join("out"));
    assert!(fs::read(at.join("image")).unwrap() == fs::read(at.join("out")).unwrap());
}

/// An image of an image is the same image.
#[test]
fn images() {
    let (directory, tree, expected) = fixture(ALL);
    let image = directory.path().join("image");
    gives(&image, &expected);
    let mut cat = Command::new("cat")
        .arg(&image)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = directory.path().join("out");
    let output = run(mkdaxfs()
        .args(["-q", "-"])
        .arg(&out)
        .stdin(cat.stdout.take().unwrap()));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(cat.wait().unwrap().success());
    assert!(fs::read(&out).unwrap() == expected);
    let output = run(mkdaxfs().arg("image:").arg(&out));
    assert_eq!(output.status, 1);
    let mut damaged = expected;
    damaged[5000] ^= 1;
    fs::write(&image, damaged).unwrap();
    let output = run(mkdaxfs().arg(&image).arg(&out));
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains("image: invalid image: "),
        "{output:?}"
    );
    let output = run(mkdaxfs()
        .arg(format!("image:{}", tree.join("huge").display()))
        .arg(&out));
    assert!(output.stderr.contains("invalid image"), "{output:?}");
}

/// Runs a script of Python that writes `archive`, an open tarfile; `f(name, type, data)` adds a member.
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
        return skip("there is no python3");
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
    let listing = common::listing_of(&image);
    let bytes = |path: &str| match &listing[path.as_bytes()].content {
        common::listing::What::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
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
        ("f('a'); f('a/b')", "'a' is no directory"),
        ("f('a', H, linkname='b')", "a hard link to 'b', which is not there"),
        ("f('d', D); f('a', H, linkname='d')", "a hard link to the directory 'd'"),
        ("f('x' * 256)", "has a name of more than 255 bytes"),
        ("f('a', L, linkname='t' * 4096)", "a symlink's target has 4096 bytes"),
        ("f('.', data=b'x')", "the root of the tree is no directory"),
        ("f('a', C, devmajor=4096, devminor=0)", "device number 4096:0 is beyond"),
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

/// What is no archive, or not all of one.
#[test]
fn damaged_archives() {
    let (directory, tree, _) = fixture(Can::default());
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
    says(b"", "is empty, which no archive is");
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
