// SPDX-License-Identifier: GPL-2.0-only

//! The same files give the same image from every kind of input: random trees as directory, tar
//! archive, layers of a container image, and image.

use crate::support::layout::Layout;
use daxfs_check::Silent;
use daxfs_input::{read, Input, Options, Platform};
use daxfs_testing::spec::{self, Item, Kind};
use daxfs_writer::{make, Output};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Replace files that archives cannot store: sockets, and hard links to FIFOs.
fn storable(item: &mut Item) {
    match &mut item.kind {
        Kind::Socket | Kind::Fifo => item.kind = Kind::Symlink(b"was special".to_vec()),
        Kind::Directory(entries) => entries.values_mut().for_each(storable),
        _ => (),
    }
}

fn image(inputs: &[Input], at: &Path) -> Vec<u8> {
    let output = Output::create(at).unwrap();
    let options = Options {
        output: output.directory().unwrap(),
        one_file_system: false,
        exclude: None,
        scratch: at.parent().unwrap(),
        platform: &Platform::default(),
    };
    let tree = read(inputs, &options, &Silent, &mut |warning| {
        panic!("{warning}")
    })
    .unwrap();
    make(&tree, &daxfs_testing::options(), &output, &Silent).unwrap();
    output.commit(&Silent).unwrap();
    fs::read(at).unwrap()
}

fn archive(tree: &Path, at: &Path, options: &[&str]) {
    let status = Command::new("tar")
        .args(["--format=posix", "--xattrs", "--xattrs-include=*"])
        .args(options)
        .arg("-cf")
        .arg(at)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
}

/// Fail with what differs, if it is more than the order of things.
fn same(found: &[u8], wanted: &[u8], scratch: &Path, what: &dyn std::fmt::Debug) {
    if found != wanted {
        let [a, b] = ["found", "wanted"].map(|name| scratch.join(name));
        fs::write(&a, found).unwrap();
        fs::write(&b, wanted).unwrap();
        daxfs_testing::assert_same(
            &daxfs_testing::listing_of(&a),
            &daxfs_testing::listing_of(&b),
        );
        panic!("{what:?}: the same files in another image");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn inputs_agree(tree in spec::tree(), other in spec::tree(), sparse: bool, gzip: bool) {
        let (mut tree, mut other) = (tree, other);
        storable(&mut tree);
        storable(&mut other);
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let [source, noise, tar, below] = ["tree", "noise", "tree.tar", "noise.tar"].map(at);
        spec::create(&tree, &source, false);
        spec::create(&other, &noise, true);
        archive(&source, &tar, if sparse { &["-S"] } else { &[] });
        archive(&noise, &below, &[]);
        let scratch = daxfs_testing::scratch();
        let out = scratch.path().join("image");

        let expected = image(&[Input::Directory(source.clone())], &out);
        fs::rename(&out, scratch.path().join("first")).unwrap();
        let first = scratch.path().join("first");
        let program = if gzip { "gzip" } else { "" };

        // A layer that hides all that is below it, and is there twice.
        let mark = at("mark");
        fs::create_dir(&mark).unwrap();
        fs::write(mark.join(".wh..wh..opq"), "").unwrap();
        let marked = at("marked.tar");
        fs::copy(&tar, &marked).unwrap();
        let status = Command::new("tar").arg("-rf").arg(&marked).arg("-C").arg(&mark).arg("./.wh..wh..opq").status();
        prop_assert!(status.unwrap().success());
        let layout = Layout::new(&at("layout"));
        let layers: Vec<_> = [&below, &marked, &tar].iter().map(|tar| layout.layer(tar, program)).collect();
        layout.index(&[layout.manifest(&layers)]);

        let inputs: [Vec<Input>; 4] = [
            vec![Input::Tar(tar.clone())],
            vec![Input::Oci(layout.0.clone())],
            vec![Input::Image(first)],
            vec![Input::Tar(tar.clone()), Input::Directory(source.clone()), Input::Tar(tar.clone())],
        ];
        for input in inputs {
            same(&image(&input, &out), &expected, scratch.path(), &input);
        }

        // One over the other is the same for every kind.
        let merged = image(&[Input::Directory(noise.clone()), Input::Directory(source.clone())], &out);
        let pairs: [[Input; 2]; 3] = [
            [Input::Tar(below.clone()), Input::Tar(tar.clone())],
            [Input::Directory(noise.clone()), Input::Tar(tar.clone())],
            [Input::Tar(below.clone()), Input::Directory(source.clone())],
        ];
        for pair in pairs {
            same(&image(&pair, &out), &merged, scratch.path(), &pair);
        }
    }
}

#[test]
fn kinds_of_inputs() {
    let parse = |text: &str| Input::parse(text.as_ref());
    let path = || PathBuf::from("x");
    assert_eq!(parse("x"), Input::Any(path()));
    assert_eq!(parse("dir:x"), Input::Directory(path()));
    assert_eq!(parse("tar:x"), Input::Tar(path()));
    assert_eq!(parse("image:x"), Input::Image(path()));
    assert_eq!(parse("oci:x"), Input::Oci(path()));
    assert_eq!(parse("docker-archive:x"), Input::Docker(path()));
    assert_eq!(parse("./dir:x"), Input::Any("./dir:x".into()));
}
