// SPDX-License-Identifier: GPL-2.0-only

//! Images of random trees have the same files, and do not depend on the order in which the files
//! were created.

use daxfs_testing::{assert_same, image_of, listing::of_directory, listing_of, spec};
use proptest::prelude::*;
use std::sync::Once;

static ANNOUNCE: Once = Once::new();

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    #[test]
    fn image_equals_tree(tree in spec::tree()) {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let complete = spec::create(&tree, &a, false) & spec::create(&tree, &b, true);
        if !complete {
            ANNOUNCE.call_once(|| println!("SKIP: the file system stores no user xattrs"));
        }
        let scratch = daxfs_testing::scratch();
        let images = scratch.path();
        image_of(&a, &images.join("a")).unwrap();
        assert_same(&listing_of(&images.join("a")), &of_directory(&a));
        image_of(&b, &images.join("b")).unwrap();
        let same = std::fs::read(images.join("a")).unwrap() == std::fs::read(images.join("b")).unwrap();
        prop_assert!(same, "the order of creation matters");
    }
}
