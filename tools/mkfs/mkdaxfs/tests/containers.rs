// SPDX-License-Identifier: GPL-2.0-only

//! Container images: merged and separate layers, from every kind of layout and archive.

use crate::support::layout::{docker, named, oci, platform, Layout};
use crate::support::{available, make, mkdaxfs, piped, run, shell, skip};
use daxfs_testing::listing::{Listing, What};
use daxfs_testing::{assert_same, listing_of};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Three layers and, in `flat`, the files of all of them merged.
const LAYERS: &str = r#"
    mkdir one two three flat
    cd one; mkdir -p a/b/c d usr/lib opaque/sub keep
    echo 1 >a/one; echo 1 >a/b/two; echo 1 >a/b/c/three; echo 1 >d/file; echo 1 >opaque/sub/old; echo 1 >opaque/old
    ln -s usr/lib lib; echo 1 >usr/lib/libc; ln d/file d/hard; echo 1 >keep/x; echo 1 >gone; echo 1 >swap
    cd ../two; mkdir -p a/b opaque lib keep swap
    >a/.wh.one; >a/b/.wh.c; echo 2 >a/b/new; >opaque/.wh..wh..opq; echo 2 >opaque/new; rmdir lib
    >.wh.gone; echo 2 >keep/y; echo 2 >swap/inside; >d; rm d; mkdir -p .wh..wh.plnk; echo x >.wh..wh.plnk/1
    cd ../three; mkdir -p a/one d keep; echo 3 >a/one/dir; >keep/.wh.missing; echo 3 >d/other
    cd ../flat; mkdir -p a/b a/one d usr/lib opaque keep swap
    echo 3 >a/one/dir; echo 1 >a/b/two; echo 2 >a/b/new; echo 1 >d/file; ln d/file d/hard; echo 3 >d/other
    echo 2 >opaque/new; ln -s usr/lib lib; echo 1 >usr/lib/libc; echo 2 >usr/lib/libm; echo 1 >keep/x; echo 2 >keep/y
    echo 2 >swap/inside; ln d/file linked
    cd ..; mkdir -p extra/lib; echo 2 >extra/lib/libm
    find . -exec touch -h -d @1600000000 {} +
    pack() { tar --format=posix --sort=name --owner=0 --group=0 --numeric-owner -C "$1" -cf $1.tar .; }
    pack one; pack two; pack three
    # A file reached through a symlink of the layer below, and a hard link into it: the archive has no entry for either's parent.
    tar --format=posix --owner=0 --group=0 -C extra -rf two.tar lib/libm
    python3 - <<-'END'
	import tarfile
	with tarfile.open('two.tar', 'a', format=tarfile.PAX_FORMAT) as archive:
	    info = tarfile.TarInfo('linked'); info.type = tarfile.LNKTYPE; info.linkname = 'd/file'
	    archive.addfile(info)
	END
"#;

/// Return the layers in a directory, and the bytes of the image of all of them.
fn layers() -> Option<(tempfile::TempDir, [PathBuf; 3], Vec<u8>)> {
    if !available("python3") {
        skip("no python3");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    shell(at, LAYERS);
    make(["-q", "--all-root"], &at.join("flat"), &at.join("flat.img"));
    let expected = fs::read(at.join("flat.img")).unwrap();
    let tars = ["one.tar", "two.tar", "three.tar"].map(|name| at.join(name));
    Some((directory, tars, expected))
}

/// Make an image of `input` and compare it.
#[track_caller]
fn gives(input: &str, options: &[&str], expected: &[u8]) {
    let scratch = daxfs_testing::scratch();
    let image = scratch.path().join("image");
    let output = run(mkdaxfs().arg("-q").args(options).arg(input).arg(&image));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{input}");
    if fs::read(&image).unwrap() != expected {
        let wanted = scratch.path().join("wanted");
        fs::write(&wanted, expected).unwrap();
        assert_same(&listing_of(&image), &listing_of(&wanted));
        panic!("{input}: the same files in another image");
    }
}

/// Directories that became a file and a symlink, as umoci repack writes them: each file that was in
/// them is marked.
#[test]
fn marks_below_what_is_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let script = r#"
        mkdir one flat; mkdir -p one/a/b/d one/etc one/a/s; cd one; echo 1 >a/b/c; echo 1 >a/b/d/e; echo 1 >etc/c; echo 1 >a/s/c
        ln -s etc lower; echo 1 >etc/gone
        cd ../flat; mkdir -p a etc; echo 2 >a/b; ln -s ../etc a/s; echo 1 >etc/c; ln -s etc lower
        cd ..; mkdir -p two/a; cp -P flat/a/b flat/a/s two/a; mkdir -p marks/a/b/d marks/a/s marks/lower
        >marks/a/b/.wh.c; >marks/a/b/.wh.d; >marks/a/b/d/.wh.e; >marks/a/s/.wh.c; >marks/lower/.wh.gone
        find . -exec touch -h -d @1600000000 {} +
        pack() { tar --format=posix --no-recursion --owner=0 --group=0 --numeric-owner -C "$1" "$2"f two.tar "${@:3}"; }
        tar --format=posix --owner=0 --group=0 -C one -cf one.tar .
        pack two -c ./a ./a/b ./a/s
        pack marks -r ./a/b/.wh.c ./a/b/.wh.d ./a/b/d/.wh.e ./a/s/.wh.c ./lower/.wh.gone
    "#;
    shell(at, script);
    make(["-q", "--all-root"], &at.join("flat"), &at.join("flat.img"));
    let expected = fs::read(at.join("flat.img")).unwrap();
    let layout = Layout::new(&at.join("layout"));
    let layers = ["one.tar", "two.tar"].map(|tar| layout.layer(&at.join(tar), ""));
    layout.index(&[layout.manifest(&layers)]);
    let input = format!("oci:{}", at.join("layout").display());
    gives(&input, &[], &expected);
    // With separate layers, too.
    make(["-q", "--layers"], input.as_ref(), &at.join("images"));
}

/// Run a command that must fail. Return its message, which must be one line.
#[track_caller]
fn fails(input: &str, options: &[&str], what: &str) {
    let scratch = daxfs_testing::scratch();
    let output = run(mkdaxfs()
        .args(options)
        .arg(input)
        .arg(scratch.path().join("image")));
    assert_eq!(
        (output.status, output.stderr.lines().count()),
        (1, 1),
        "{output:?}"
    );
    assert!(output.stderr.contains(what), "{what}: {output:?}");
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
}

#[test]
fn flattened() {
    let Some((directory, tars, expected)) = layers() else {
        return;
    };
    let at = directory.path();
    let programs: Vec<&str> = ["", "gzip", "zstd"]
        .into_iter()
        .filter(|p| p.is_empty() || available(p))
        .collect();
    for program in &programs {
        let layout = Layout::new(&at.join(format!("oci{program}")));
        let layers: Vec<Value> = tars.iter().map(|tar| layout.layer(tar, program)).collect();
        layout.index(&[layout.manifest(&layers)]);
        let path = layout.0.display().to_string();
        gives(&format!("oci:{path}"), &[], &expected);
        // As an archive, and that compressed, and from a pipe.
        shell(
            at,
            &format!("tar -C '{path}' -cf oci.tar .; gzip -kf oci.tar"),
        );
        gives(
            &format!("oci:{}", at.join("oci.tar").display()),
            &[],
            &expected,
        );
        gives(
            &format!("oci-archive:{}", at.join("oci.tar.gz").display()),
            &[],
            &expected,
        );
        let out = at.join("out");
        piped(&at.join("oci.tar"), &["oci:-".as_ref(), out.as_os_str()]);
        assert!(fs::read(at.join("out")).unwrap() == expected);
    }
    docker(&at.join("docker.tar"), &tars, "example:1");
    let path = at.join("docker.tar").display().to_string();
    gives(&format!("docker:{path}"), &[], &expected);
    gives(&format!("docker-archive:{path}:example:1"), &[], &expected);
    fails(
        &format!("docker:{path}:example:2"),
        &[],
        "has no image called 'example:2'; it has: example:1",
    );
    // The same layer twice is one file and a symlink.
    docker(
        &at.join("twice.tar"),
        &[tars[0].clone(), tars[0].clone()],
        "example:1",
    );
    make(["-q"], &tars[0], &at.join("one.img"));
    let one = fs::read(at.join("one.img")).unwrap();
    gives(
        &format!("docker:{}", at.join("twice.tar").display()),
        &[],
        &one,
    );
    // Other inputs go on top.
    let output = run(mkdaxfs()
        .args(["-q", "--all-root"])
        .arg(&tars[0])
        .arg(format!("docker:{path}"))
        .arg(at.join("out")));
    assert_eq!(output.status, 0, "{output:?}");
}

#[test]
fn which_image() {
    let Some((directory, tars, expected)) = layers() else {
        return;
    };
    let at = directory.path();
    let layout = Layout::new(&at.join("layout"));
    let all: Vec<Value> = tars.iter().map(|tar| layout.layer(tar, "")).collect();
    let whole = layout.manifest(&all);
    let first = layout.manifest(&all[..1]);
    make(["-q"], &tars[0], &at.join("one.img"));
    let one = fs::read(at.join("one.img")).unwrap();
    let path = format!("oci:{}", layout.0.display());
    layout.index(&[
        named(whole.clone(), "whole"),
        named(first.clone(), "example.org:5000/first:tag"),
    ]);
    gives(&format!("{path}:whole"), &[], &expected);
    gives(&format!("{path}:example.org:5000/first:tag"), &[], &one);
    gives(
        &format!("{path}:{}", whole["digest"].as_str().unwrap()),
        &[],
        &expected,
    );
    fails(
        &path,
        &[],
        "has several images; name one after a colon: whole, example.org:5000/first:tag",
    );
    fails(
        &format!("{path}:other"),
        &[],
        "has no image called 'other'; it has: whole, example",
    );
    // For several processors, in a nested index.
    let arch = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let both = [
        platform(whole.clone(), arch),
        platform(first.clone(), "s390x"),
        platform(first.clone(), "unknown"),
    ];
    layout.index(&[named(layout.nested(&both), "multi")]);
    gives(&path, &[], &expected);
    gives(
        &format!("{path}:multi"),
        &["--platform", "linux/s390x"],
        &one,
    );
    fails(
        &path,
        &["--platform", "linux/mips"],
        "no image for linux/mips; choose one with --platform: linux/",
    );
    layout.index(&both);
    gives(&path, &[], &expected);
    layout.index(&[]);
    fails(&path, &[], "has no image");
}

#[test]
fn damaged_layouts() {
    let Some((directory, tars, _)) = layers() else {
        return;
    };
    let at = directory.path();
    let layout = Layout::new(&at.join("layout"));
    let path = format!("oci:{}", layout.0.display());
    fails(
        &path,
        &[],
        "has no 'index.json'; it is not a complete container image",
    );
    let layer = layout.layer(&tars[0], "gzip");
    layout.index(&[layout.manifest(&[layer.clone()])]);
    let blob = |value: &Value| {
        let digest = value["digest"].as_str().unwrap();
        layout.0.join("blobs/sha256").join(&digest[7..])
    };
    // One bit, one byte more, none at all.
    let bytes = fs::read(blob(&layer)).unwrap();
    let mut wrong = bytes.clone();
    wrong[20] ^= 4;
    fs::write(blob(&layer), &wrong).unwrap();
    fails(&path, &[], "does not have its digest sha256:");
    wrong.push(0);
    fs::write(blob(&layer), &wrong).unwrap();
    fails(
        &path,
        &[],
        &format!("has {} bytes instead of {}", bytes.len() + 1, bytes.len()),
    );
    fs::remove_file(blob(&layer)).unwrap();
    fails(&path, &[], "has no 'blobs/sha256/");
    fs::write(blob(&layer), &bytes).unwrap();
    let strange = layout.blob("application/x-encrypted", b"x");
    layout.index(&[layout.manifest(&[strange])]);
    fails(
        &path,
        &[],
        "has a layer of the type application/x-encrypted, which is not a file system",
    );
    let evil = serde_json::json!({"mediaType": oci("manifest.v1+json"), "digest": "sha256:../../../../etc/passwd", "size": 5});
    layout.index(&[evil]);
    fails(&path, &[], "index.json is not understood");
    fs::write(layout.0.join("index.json"), "{").unwrap();
    fails(&path, &[], "index.json is not understood");
    docker(&at.join("docker.tar"), &tars, "x");
    let mut bytes = fs::read(at.join("docker.tar")).unwrap();
    let place = bytes
        .windows(5)
        .position(|window| window == b"libc\0")
        .unwrap();
    bytes[place] = b'L';
    fs::write(at.join("docker.tar"), bytes).unwrap();
    fails(
        &format!("docker:{}", at.join("docker.tar").display()),
        &[],
        "does not have its digest",
    );
    fails(
        &format!("docker:{}", layout.0.display()),
        &[],
        "is an OCI image, not docker's; write oci: before the path",
    );
    fails(
        &format!("oci:{}", at.join("none").display()),
        &[],
        "none: cannot open the file: No such file",
    );
}

/// A FIFO in a directory is refused. Nothing waits for its writer.
#[test]
fn fifos_in_layouts() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(&directory.path().join("layout"));
    let manifest = layout.manifest(&[]);
    layout.index(&[manifest.clone()]);
    let digest = &manifest["digest"].as_str().unwrap()[7..];
    let blob = format!("blobs/sha256/{digest}");
    fs::write(layout.0.join("manifest.json"), "[]").unwrap();
    for (prefix, name) in [
        ("oci", "oci-layout"),
        ("oci", "index.json"),
        ("oci", &blob),
        ("docker", "manifest.json"),
    ] {
        let (path, kept) = (layout.0.join(name), directory.path().join("kept"));
        let index = layout.0.join("index.json");
        fs::rename(&path, &kept).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        if prefix == "docker" {
            fs::remove_file(index).unwrap();
        }
        let mut command = std::process::Command::new("timeout");
        let program = env!("CARGO_BIN_EXE_mkdaxfs");
        let input = format!("{prefix}:{}", layout.0.display());
        let output = directory.path().join("image");
        let found = run(command.args(["60", program, &input]).arg(&output));
        assert_eq!(found.status, 1, "{name}: {found:?}");
        let what = format!("{name}: is not a regular file\n");
        assert!(found.stderr.ends_with(&what), "{found:?}");
        assert!(!output.exists());
        fs::rename(&kept, &path).unwrap();
    }
}

/// Return the files that overlayfs shows for layers, the lowest first.
fn overlay(layers: &[Listing]) -> Listing {
    let mut shown = Listing::new();
    for layer in layers {
        let opaque = |path: &[u8]| {
            layer[path].xattrs.get(&b"trusted.overlay.opaque"[..]) == Some(&b"y".to_vec())
        };
        let whiteout = |path: &[u8]| layer[path].content == What::Device(0, 0);
        let mut hidden: Vec<Vec<u8>> = Vec::new();
        for (path, entry) in layer {
            let directory = entry.mode & 0o170_000 == 0o040_000;
            let below = shown
                .get(path)
                .is_some_and(|old| old.mode & 0o170_000 == 0o040_000);
            if whiteout(path) || !(directory && below) || opaque(path) {
                hidden.push(path.clone());
            }
        }
        shown.retain(|path, _| {
            !hidden
                .iter()
                .any(|top| path == top || path.starts_with(&[top.as_slice(), b"/"].concat()))
        });
        for (path, entry) in layer {
            if !whiteout(path) {
                shown.insert(path.clone(), entry.clone());
            }
        }
    }
    for entry in shown.values_mut() {
        entry.xattrs.remove(&b"trusted.overlay.opaque"[..]);
        // Links between layers are copies.
        (entry.nlink, entry.same_as) = (0, Vec::new());
    }
    shown
}

#[test]
fn kept_apart() {
    let Some((directory, tars, expected)) = layers() else {
        return;
    };
    let at = directory.path();
    let layout = Layout::new(&at.join("layout"));
    let all: Vec<Value> = tars.iter().map(|tar| layout.layer(tar, "gzip")).collect();
    layout.index(&[layout.manifest(&all)]);
    let input = format!("oci:{}", layout.0.display());
    let images = at.join("images");
    let output = run(mkdaxfs()
        .args(["--layers", "--json"])
        .arg(&input)
        .arg(&images));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let paths: Vec<PathBuf> = output
        .stdout
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            PathBuf::from(line["image"].as_str().unwrap())
        })
        .collect();
    let mut names: Vec<PathBuf> = images
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(paths, names);
    assert_eq!(paths.len(), 3);
    let layers: Vec<Listing> = paths.iter().map(|path| listing_of(path)).collect();
    assert_eq!(layers[1][&b"gone"[..]].content, What::Device(0, 0));
    assert_eq!(layers[1][&b"a/b/c"[..]].content, What::Device(0, 0));
    assert!(!layers[1].contains_key(&b"a/.wh.one"[..]));
    assert!(layers[1][&b"opaque"[..]]
        .xattrs
        .contains_key(&b"trusted.overlay.opaque"[..]));
    fs::write(at.join("wanted"), expected).unwrap();
    let mut wanted = listing_of(&at.join("wanted"));
    for entry in wanted.values_mut() {
        (entry.nlink, entry.same_as) = (0, Vec::new());
    }
    assert_same(&overlay(&layers), &wanted);
    fails(
        &at.join("one").display().to_string(),
        &["--layers"],
        "has no layers; name a container image with oci:",
    );
}
