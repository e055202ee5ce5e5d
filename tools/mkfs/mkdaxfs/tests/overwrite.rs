// SPDX-License-Identifier: GPL-2.0-only

//! Existing files are not overwritten by mistake.

use crate::support::{make, mkdaxfs, run, shell};
use daxfs_testing::scratch;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Two archives, a list of patterns and some other files.
fn files() -> (tempfile::TempDir, PathBuf) {
    let directory = scratch();
    let at = directory.path().to_path_buf();
    shell(
        &at,
        "mkdir tree; echo text >tree/file; tar -cf one.tar tree; tar -cf two.tar tree
         gzip -k one.tar; ln -s two.tar link; ln two.tar hard; echo '*.o' >patterns; echo notes >notes
         truncate -s 1M zeros; : >empty; truncate -s 4M sparse; printf x | dd of=sparse bs=1 seek=3M conv=notrunc",
    );
    (directory, at)
}

/// Run with `words` in `at`, which must fail in one line and leave everything as it was; return the
/// line.
fn refused(at: &Path, words: &[&str]) -> String {
    let state = || {
        let mut files: Vec<_> = at
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).ok(), path))
            .collect();
        files.sort();
        files
    };
    let before = state();
    let run = run(mkdaxfs().current_dir(at).args(words));
    assert_eq!(
        (run.status, run.stderr.lines().count()),
        (1, 1),
        "{words:?}: {run:?}"
    );
    assert!(before == state(), "{words:?}");
    run.stderr
}

#[test]
fn what_is_no_image() {
    let (_directory, at) = files();
    for (name, what) in [
        ("two.tar", "a tar archive"),
        ("link", "a tar archive"),
        ("one.tar.gz", "a gzip file"),
        ("notes", "data other than a daxfs image"),
        ("sparse", "data other than a daxfs image"),
    ] {
        let message = refused(&at, &["one.tar", name]);
        let expected =
            format!("holds {what}, which would be lost; name another file, or give --force");
        assert!(message.contains(&expected), "{message}");
    }
    for name in ["zeros", "empty", "new"] {
        make(["-q"], &at.join("tree"), &at.join(name));
        // An image may be replaced by another.
        make(["-q"], &at.join("tree"), &at.join(name));
        // Also a damaged one.
        File::options()
            .write(true)
            .open(at.join(name))
            .unwrap()
            .set_len(100)
            .unwrap();
        make(["-q"], &at.join("tree"), &at.join(name));
    }
    for name in ["notes", "link", "sparse"] {
        make(["-q", "--force"], &at.join("tree"), &at.join(name));
        assert_eq!(&fs::read(at.join(name)).unwrap()[1..6], b"daxfs");
    }
    make(["-qf"], &at.join("tree"), &at.join("one.tar.gz"));
}

#[test]
fn inputs() {
    let (_directory, at) = files();
    make(["-q"], &at.join("tree"), &at.join("image"));
    symlink("image", at.join("image-link")).unwrap();
    for words in [
        &["one.tar", "one.tar"][..],
        &["tar:one.tar", "./one.tar"],
        &["one.tar", "two.tar", "link"],
        &["one.tar", "hard", "two.tar"],
        &["tree", "link", "hard"],
        &["image", "image"],
        &["image", "image-link"],
        &["image:image-link", "one.tar", "image"],
        &["--exclude-from", "patterns", "tree", "patterns"],
    ] {
        for force in [&[][..], &["--force"]] {
            let message = refused(&at, &[force, words].concat());
            let expected =
                "is an input as well; name another file for the output, which comes last";
            assert!(message.contains(expected), "{words:?}: {message}");
        }
    }
    let mut command = mkdaxfs();
    command.stdin(File::open(at.join("one.tar")).unwrap());
    let run = run(command.current_dir(&at).args(["--force", "-", "one.tar"]));
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("is an input as well"), "{run:?}");
}

/// Standard output may be an input.
#[test]
fn through_standard_output() {
    let (_directory, at) = files();
    let before = fs::read(at.join("one.tar")).unwrap();
    let file = File::options()
        .write(true)
        .open(at.join("one.tar"))
        .unwrap();
    let mut command = mkdaxfs();
    let status = command
        .current_dir(&at)
        .args(["one.tar", "-"])
        .stdout(file)
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
    assert_eq!(fs::read(at.join("one.tar")).unwrap(), before);
}

/// Images beside the layers of a container image would become part of it.
#[test]
fn containers() {
    let directory = scratch();
    let at = directory.path();
    let layout = crate::support::layout::Layout::new(&at.join("layout"));
    shell(
        at,
        "mkdir tree; echo text >tree/file; tar -cf tree.tar tree",
    );
    let layer = layout.layer(&at.join("tree.tar"), "");
    layout.index(&[layout.manifest(&[layer])]);
    let inside = "is part of an input; write the image to another directory";
    for words in [
        &["oci:layout", "layout/image"][..],
        &["--force", "oci:layout", "layout/blobs/image"],
        &["--layers", "oci:layout", "layout"],
        &["--layers", "oci:layout", "layout/new/directory"],
    ] {
        let message = refused(at, words);
        assert!(message.contains(inside), "{words:?}: {message}");
        assert!(!at.join("layout/new").exists());
    }
}

/// The last of several images may be an input, after which the output was forgotten.
#[test]
fn forgotten_output() {
    let (_directory, at) = files();
    for name in ["one.img", "two.img", "three.img"] {
        make(["-q"], &at.join("tree"), &at.join(name));
    }
    let input = || File::open(at.join("one.img")).unwrap();
    for words in [
        &["one.img", "two.img"][..],
        &["one.img", "two.img", "three.img"],
        &["tree", "one.img", "two.img"],
        &["image:one.img", "two.img"],
        &["one.img", "one.tar", "two.img"],
    ] {
        let message = refused(&at, words);
        let expected = "holds a daxfs image, and so does an input; name the output, which comes \
                        last, or give --force";
        assert!(message.contains(expected), "{words:?}: {message}");
    }
    let from_stdin = |words: &[&str]| {
        let mut command = mkdaxfs();
        command.stdin(input()).current_dir(&at).args(words);
        run(&mut command).status
    };
    assert_eq!(from_stdin(&["-", "two.img"]), 1);
    // The same output again, and another one.
    for (options, input) in [
        ("-q", "tree"),
        ("-q", "one.tar"),
        ("-qf", "one.img"),
        ("-qf", "two.img"),
    ] {
        make([options], &at.join(input), &at.join("three.img"));
    }
    make(["-q"], &at.join("one.img"), &at.join("new.img"));
}
