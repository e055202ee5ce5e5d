// SPDX-License-Identifier: GPL-2.0-only

//! Runs every function of the program on an image, also for the fuzz target.

use crate::specimen;
use daxfs::commands::fsck::examine;
use daxfs::commands::info::{info, Form};
use daxfs::commands::ls::{ls, Listing};
use daxfs::commands::{cat::cat, diff::diff, dump::dump, stat::stat};
use daxfs_extract::{to_directory, to_tar};
use daxfs_files::signals::Interrupt;
use daxfs_files::Silent;
use daxfs_image::reader::Reader;
use daxfs_reader::{Image, Superblock};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

static PACK: LazyLock<Vec<u8>> = LazyLock::new(specimen::pack);

/// Runs everything on an image and the specimens' pack, and returns the messages.
pub fn everything(bytes: &[u8], directory: &Path) -> Vec<String> {
    everything_with(bytes, &PACK, directory)
}

/// Runs everything on an image and its `pack`, and returns the messages.
pub fn everything_with(bytes: &[u8], pack: &[u8], directory: &Path) -> Vec<String> {
    let mut said = Vec::new();
    let mut findings = 0;
    let superblock_of_pack = Superblock::load(&pack).ok();
    let pack_image = || {
        let superblock = superblock_of_pack.as_ref()?;
        Some(Image::new(&pack, superblock))
    };
    examine(&bytes, &[pack_image()], &Silent, &mut |_| findings += 1);
    let Ok(superblock) = Superblock::load(&bytes) else {
        assert!(findings > 0);
        return said;
    };
    let alone = Reader::new(Image::new(&bytes, &superblock), "image");
    let pack = pack_image().map(|pack| Reader::new(pack, "pack"));
    let reader = Reader::new(Image::new(&bytes, &superblock), "image").with_packs(vec![Ok(pack)]);
    let out = &mut std::io::sink();
    let mut note =
        |result: daxfs_image::Result<()>| said.extend(result.err().map(|error| error.to_string()));
    for form in [Form::Text, Form::Json, Form::Udev] {
        note(info(&reader, form, out));
    }
    let listing = Listing {
        long: true,
        recursive: true,
        ..Listing::default()
    };
    note(ls(&reader, b"/", listing, out));
    note(dump(&reader, true, out));
    note(cat(&alone, b"/other/elsewhere", out));
    for path in [
        &b"/dir/inner"[..],
        b"link",
        b"/other/../dir/../../again",
        b"/dir/again",
        b"/other/elsewhere",
    ] {
        note(cat(&reader, path, out));
        note(stat(&reader, path, true, out));
    }
    let interrupt = Interrupt::none();
    let differ = diff(&reader, &reader, &[], &mut |_, _| Ok(()));
    note(differ.map(|differ| assert!(!differ, "an image differs from itself")));
    if let Ok(root) = reader.root() {
        let failed = |error| daxfs_image::Error::system("archive", "cannot write", "", error);
        note(to_tar(&reader, &root, out, &failed, &interrupt).map(|_| ()));
        let target = directory.join("target");
        let made = to_directory(&reader, &root, &target, false, &interrupt);
        if made.is_ok() && fs::remove_dir_all(&target).is_err() {
            // A mode may lock its owner out.
            let rights = Command::new("chmod")
                .args(["-R", "u+rwX"])
                .arg(&target)
                .status();
            assert!(rights.unwrap().success());
            fs::remove_dir_all(&target).unwrap();
        }
        note(made.map(|_| ()));
        // A failure leaves neither the target nor anything else.
        assert_eq!(directory.read_dir().unwrap().count(), 0);
    }
    for line in &said {
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    said
}
