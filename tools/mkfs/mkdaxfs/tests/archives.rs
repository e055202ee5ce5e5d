// SPDX-License-Identifier: GPL-2.0-only

//! Archives of other programs give the same image as their directory, byte for byte.

use crate::support::fixture::{self, Can, ALL};
use crate::support::{available, everything, make, mkdaxfs, piped, produce, run, skip};
use daxfs_testing::scratch;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Check that the archive gives an image of exactly these bytes.
#[track_caller]
fn gives(archive: &Path, expected: &[u8]) {
    let scratch = scratch();
    let image = scratch.path().join("image");
    make(["-q"], archive, &image);
    if fs::read(&image).unwrap() != expected {
        let wanted = scratch.path().join("wanted");
        fs::write(&wanted, expected).unwrap();
        daxfs_testing::assert_same(
            &daxfs_testing::listing_of(&image),
            &daxfs_testing::listing_of(&wanted),
        );
        panic!("{}: the same files in another image", archive.display());
    }
}

/// Have Python write an archive of the format of its first argument, with the others as for tar.
const PYTHON: &str = "import sys, tarfile\n\
    with tarfile.open(sys.argv[3], 'w', format=getattr(tarfile, sys.argv[1])) as archive:\n    \
    archive.add(sys.argv[5], arcname='.')\n";

/// Each format of each program.
#[test]
fn formats() {
    let plain = Can::default();
    let names = Can {
        names: true,
        ..plain
    };
    let no_xattrs = Can {
        xattrs: false,
        ..ALL
    };
    // bsdtar gets fractions of negative numbers wrong, and Python's times do not hold nanoseconds.
    let late = Can {
        early: false,
        ..ALL
    };
    for (words, can) in [
        (
            &["tar", "--format=posix", "--xattrs", "--xattrs-include=*"][..],
            ALL,
        ),
        (
            &[
                "tar",
                "--format=posix",
                "--xattrs",
                "--xattrs-include=*",
                "-S",
            ],
            ALL,
        ),
        (
            &["tar", "--format=posix", "-S", "--sparse-version=0.0"],
            no_xattrs,
        ),
        (
            &["tar", "--format=posix", "-S", "--sparse-version=0.1"],
            no_xattrs,
        ),
        (&["tar", "--format=gnu"], names),
        (&["tar", "--format=gnu", "-S"], names),
        (&["tar", "--format=oldgnu", "-S"], names),
        (&["tar", "--format=ustar"], plain),
        (&["bsdtar", "--format=pax"], late),
        (&["bsdtar", "--format=gnutar"], names),
        (&["bsdtar", "--format=ustar"], plain),
        (&["python3", "-c", PYTHON, "PAX_FORMAT"], names),
        (&["python3", "-c", PYTHON, "GNU_FORMAT"], names),
        (&["python3", "-c", PYTHON, "USTAR_FORMAT"], plain),
    ] {
        if !available(words[0]) {
            skip(&format!("no {}", words[0]));
            continue;
        }
        let (directory, tree, expected) = fixture::imaged(can);
        let archive = directory.path().join("archive.tar");
        let mut command = Command::new(words[0]);
        produce(command.args(&words[1..]).args(everything(&tree, &archive)));
        println!("{words:?}");
        gives(&archive, &expected);
    }
}

/// Archives are plain or compressed, from a file or a pipe. A file on standard input is read from
/// its current offset.
#[test]
fn compression_and_pipes() {
    let (directory, tree, expected) = fixture::imaged(ALL);
    let at = directory.path();
    let archive = at.join("archive.tar");
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*", "-S"];
    produce(
        Command::new("tar")
            .args(options)
            .args(everything(&tree, &archive)),
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
            skip(&format!("no {program}"));
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
        piped(archive, &["-".as_ref(), image.as_os_str()]);
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
                .args(everything(&tree, &archive)),
        );
        assert!(archive.metadata().unwrap().len() < 1 << 20);
        let output = run(mkdaxfs().args(["-n"]).arg(&archive).arg(at.join("image")));
        assert_eq!(output.stdout, expected.stdout, "{output:?}");
    }
    if !available("python3") {
        return skip("no python3");
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

/// The last member with a name wins, and a file remains as long as it has a name.
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
    // The same from three inputs of different kinds.
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
        fs::remove_file(at.join("out")).unwrap();
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
    let (directory, tree, expected) = fixture::imaged(ALL);
    let image = directory.path().join("image");
    gives(&image, &expected);
    let out = directory.path().join("out");
    piped(&image, &["-".as_ref(), out.as_os_str()]);
    assert!(fs::read(&out).unwrap() == expected);
    fs::remove_file(&out).unwrap();
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
