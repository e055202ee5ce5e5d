// SPDX-License-Identifier: GPL-2.0-only

//! Equal files give the same image from every kind of input: random trees as directory, tar
//! archive, container layers, and image.

use crate::support::layout::Layout;
use crate::support::place;
use daxfs_files::{Output, Silent};
use daxfs_testing::spec::{self, Item, Kind};
use mkdaxfs::input::{read, Input, Options};
use mkdaxfs::writer::make;
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Replaces files that archives cannot store: sockets, and hard links to FIFOs.
fn storable(item: &mut Item) {
    match &mut item.kind {
        Kind::Socket | Kind::Fifo => item.kind = Kind::Symlink(b"was special".to_vec()),
        Kind::Directory(entries) => entries.values_mut().for_each(storable),
        _ => (),
    }
}

/// Builds the image `at` from inputs. Returns the number of warnings.
fn image(inputs: &[Input], at: &Path) -> usize {
    let output = Output::create(at).unwrap();
    let warnings = AtomicUsize::new(0);
    let options = Options {
        output: output.directory().unwrap(),
        warn: &|warning| {
            assert!(warning.contains(": replaced a "), "{warning}");
            warnings.fetch_add(1, Ordering::Relaxed);
        },
        ..Options::new(at.parent().unwrap())
    };
    let tree = read(inputs, &options).unwrap();
    make(&tree, &daxfs_testing::options(), &output, &Silent).unwrap();
    output.commit(&Silent).unwrap();
    warnings.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..Default::default() })]

    #[test]
    fn inputs_agree(tree in spec::tree(), other in spec::tree(), sparse: bool, gzip: bool) {
        let (mut tree, mut other) = (tree, other);
        storable(&mut tree);
        storable(&mut other);
        let place = place("");
        let [source, noise, tar, below] = ["tree", "noise", "tree.tar", "noise.tar"].map(|name| place.path(name));
        spec::create(&tree, &source, false);
        spec::create(&other, &noise, true);
        // A layer that hides everything below, twice.
        let options = "--format=posix --xattrs --xattrs-include='*'";
        place.shell(format!(
            "tar {options} {} -cf tree.tar -C tree .; tar {options} -cf noise.tar -C noise .
             cp tree.tar marked.tar; touch .wh..wh..opq; tar -rf marked.tar ./.wh..wh..opq",
            if sparse { "-S" } else { "" },
        ));
        let program = if gzip { "gzip" } else { "" };
        let layout = Layout::new(&place.path(""));
        let layers = ["noise.tar", "marked.tar", "tree.tar"].map(|tar| layout.layer(tar, program));
        layout.index(&[layout.manifest(&layers)]);

        let out = place.path("out");
        let first = place.path("first");
        prop_assert_eq!(image(&[Input::Directory(source.clone())], &first), 0);
        for input in [
            vec![Input::Tar(tar.clone())],
            vec![Input::Oci(layout.path)],
            vec![Input::Image(first)],
            vec![Input::Tar(tar.clone()), Input::Directory(source.clone()), Input::Tar(tar.clone())],
        ] {
            println!("{input:?}");
            prop_assert_eq!(image(&input, &out), 0);
            place.same("out", "first");
        }

        // Stacking one on the other gives the same for every kind, even if that leaves files out.
        let both = [Input::Directory(noise.clone()), Input::Directory(source.clone())];
        let warnings = image(&both, &place.path("merged"));
        for pair in [
            [Input::Tar(below.clone()), Input::Tar(tar.clone())],
            [Input::Directory(noise), Input::Tar(tar)],
            [Input::Tar(below), Input::Directory(source)],
        ] {
            println!("{pair:?}");
            prop_assert_eq!(image(&pair, &out), warnings);
            place.same("out", "merged");
        }
    }
}
