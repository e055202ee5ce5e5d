// SPDX-License-Identifier: GPL-2.0-only

//! Composed images are read as the trees from which they were made.

use daxfs_check::check_with_packs;
use daxfs_files::region::Region;
use daxfs_reader::{Image, Problem, Superblock};
use daxfs_testing::listing::{of_composed, of_directory};
use daxfs_testing::{assert_same, composed_of, image_with, options, scratch, spec};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fs::File;
use std::ops::ControlFlow;

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..Default::default() })]

    /// Each file's content is in the image itself, or in one of two packs of the whole tree.
    #[test]
    fn composed_images(item in spec::tree(), places in vec(0..3usize, 7)) {
        let scratch = scratch();
        let [source, image, first, second] =
            ["source", "image", "first", "second"].map(|name| scratch.path().join(name));
        spec::create(&item, &source, false);
        for (path, label) in [(&first, "first"), (&second, "second")] {
            let mut options = options();
            options.label = label.into();
            image_with(&source, path, &options).unwrap();
        }
        let paths = [&*first, &*second];
        let choose = |node: usize| Some(places[node % places.len()]).filter(|&place| place < 2);
        let used = composed_of(&source, &image, &paths, choose);

        let open = |path| File::open(path).unwrap();
        let (file, files) = (open(&*image), paths.map(open));
        let memory = Region::of(&file).unwrap();
        let memories: Vec<_> =
            used.iter().map(|&index| Region::of(&files[index]).unwrap()).collect();
        let superblock = Superblock::load(&memory).unwrap();
        let superblocks: Vec<_> =
            memories.iter().map(|memory| Superblock::load(memory).unwrap()).collect();
        let composed = Image::new(&memory, &superblock);
        prop_assert_eq!(superblock.pack_count() as usize, used.len());
        for (index, pack) in (0..).zip(&superblocks) {
            let record = composed.pack(index).unwrap();
            prop_assert_eq!((record.sha256, record.total_size.get()), (pack.sha256, pack.total_size));
        }
        let after = composed.pack(superblock.pack_count()).unwrap_err();
        prop_assert_eq!(after.problem, Problem::Pack);

        let packs = memories.iter().zip(&superblocks);
        let packs: Vec<_> =
            packs.map(|(memory, superblock)| Some(Image::new(memory, superblock))).collect();
        let mut findings = Vec::new();
        check_with_packs(&memory, &packs, &mut |finding| {
            findings.push(finding);
            ControlFlow::Continue(())
        });
        prop_assert_eq!(findings, []);
        let memories: Vec<_> = memories.iter().collect();
        assert_same(&of_composed(&memory, &memories), &of_directory(&source));
    }
}
