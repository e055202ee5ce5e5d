// SPDX-License-Identifier: GPL-2.0-only

//! Options that control an image's content and destination.

use crate::support::{is_root, place, skip, Place};
use daxfs_testing::builder::superblock;
use daxfs_testing::listing::{Listing, What};
use sha2::{Digest, Sha256};

/// Returns a place with a tree, an archive of it, and a list of patterns.
fn tree() -> Place {
    place(
        "mkdir -p tree/src/deep/target tree/target; cd tree; ln -s src/a.c link
         for name in src/a.c src/a.o src/deep/b.o src/deep/target/x target/y keep.o.txt; do
             printf $name >$name
         done
         cd ..; tar --format=posix -C tree -cf tree.tar .; printf '# objects\n\n*.o\n' >patterns",
    )
}

/// Builds an image with `words`, the options and the input, and lists it.
fn listing(place: &Place, words: &str) -> Listing {
    place.ok(format!("mkdaxfs -q {words} image"));
    place.listing("image")
}

#[test]
fn exclude() {
    let place = tree();
    for (options, expected) in [
        (
            "-e '*.o' -e /target",
            "/keep.o.txt/link/src/src/a.c/src/deep/src/deep/target/src/deep/target/x",
        ),
        (
            "--exclude-from=patterns --exclude=target/",
            "/keep.o.txt/link/src/src/a.c/src/deep",
        ),
        ("-e src -e target", "/keep.o.txt/link"),
        (
            "-e 'src/**/x' -e 'src/*.[co]' -e '{link,keep*}'",
            "/src/src/deep/src/deep/b.o/src/deep/target/target/target/y",
        ),
    ] {
        for input in ["tree", "tree.tar"] {
            let names: Vec<_> = listing(&place, &format!("{options} {input}"))
                .into_keys()
                .collect();
            assert_eq!(
                String::from_utf8_lossy(&names.join(&b'/')),
                expected,
                "{options}"
            );
        }
    }
    // The file's other name stays.
    place.shell("ln tree/src/a.o tree/src/z; tar --format=posix -C tree -cf tree.tar .");
    let found = &listing(&place, "-e a.o tree.tar")[&b"src/z"[..]];
    assert_eq!(found.content, What::Bytes(b"src/a.o".to_vec()));
    assert_eq!(found.nlink, 1);
    place.mistakes(
        "mkdaxfs -e '[' tree new | 2 | '[' for '--exclude <PATTERN>': the pattern '
         mkdaxfs -e / tree new | 2 | '/' for '--exclude <PATTERN>': the pattern '
         mkdaxfs -e '' tree new | 2 | '' for '--exclude <PATTERN>': the pattern '",
    );
}

#[test]
fn owners() {
    let place = tree();
    if is_root() {
        place.shell("cd tree; chown 1000:100 src; chown -h 1001:101 link; chown 200000:5 target")
    } else {
        skip("other owners need root")
    }
    let plain = listing(&place, "tree");
    let check = |options: &str, map: &dyn Fn(u32, u32) -> (u32, u32)| {
        for (path, entry) in listing(&place, &format!("{options} tree")) {
            let old = &plain[&path];
            assert_eq!((entry.uid, entry.gid), map(old.uid, old.gid), "{options}");
            assert_eq!((entry.mode, entry.mtime), (old.mode, old.mtime));
        }
    };
    check("--all-root", &|_, _| (0, 0));
    check("--uid 7", &|_, gid| (7, gid));
    check("--uid 7 --gid 4294967294", &|_, _| (7, u32::MAX - 1));
}

#[test]
fn times() {
    let place = tree();
    place.shell("touch -d @1000.5 tree/src/a.c; touch -h -d @999 tree/link");
    let found = listing(&place, "--mtime 1000.25 tree");
    assert!(found
        .values()
        .all(|entry| entry.mtime == (1000, 250_000_000)));
    let times = |found: &Listing| [&b"src/a.c"[..], b"link"].map(|path| found[path].mtime);
    let found = listing(&place, "--mtime 1000.25 --clamp-mtime tree");
    assert_eq!(times(&found), [(1000, 250_000_000), (999, 0)]);
    place.ok("SOURCE_DATE_EPOCH=1000 mkdaxfs -q --clamp-mtime tree image");
    assert_eq!(times(&place.listing("image")), [(1000, 0), (999, 0)]);
    assert_eq!(superblock(&place.read("image")).build_sec.get(), 1000);
}

#[test]
fn sizes() {
    let place = tree();
    place.write("tree/large", vec![2; 1 << 20]);
    place.write("tree/huge", vec![1; 3 << 20]);
    // Returns the offset of the file, and the size of the image.
    let data = |options: &str, name: &str| {
        place.ok(format!("mkdaxfs -q {options} tree image"));
        let (bytes, wanted) = (place.read("image"), place.read(format!("tree/{name}")));
        let mut windows = bytes.windows(wanted.len());
        let at = windows.position(|window| window == wanted).unwrap();
        (at as u64, bytes.len() as u64)
    };
    let huge = 2 << 20;
    let (at, size) = data("", "huge");
    assert_eq!((at % huge, size % huge), (0, 0));
    let (at, size) = data("--huge-threshold=1M --padding=4K", "large");
    assert_eq!((at % huge, size % 4096), (0, 0));
    assert_ne!(size % huge, 0);
    assert_ne!(data("--huge-threshold=1G", "huge").0 % huge, 0);
    assert_eq!(data("--padding=64M", "huge").1, 64 << 20);
    assert_eq!(data("--padding=4K -b 65536", "huge").1 % 65536, 0);
}

/// The sums of the pieces follow the image, in its padding if they fit. Computes them independently
/// of the code under test, following format.rst.
#[test]
fn sums() {
    let place = tree();
    place.write("tree/large", vec![1; (4 << 20) + 1]);
    place.ok("mkdaxfs --padding=4K tree image");
    assert_eq!(superblock(&place.read("image")).compat.get(), 0);
    for (padding, slack) in [("2M", 2 << 20), ("4K", 8192)] {
        place.ok(format!("mkdaxfs --sums --padding {padding} tree image"));
        let bytes = place.read("image");
        let record = superblock(&bytes);
        assert_eq!(record.compat.get(), 1);
        let size = record.total_size.get() as usize;
        let mut content = bytes[..size].to_vec();
        content[220..256].fill(0);
        let pieces = content
            .chunks(2 << 20)
            .map(|piece| Sha256::digest(piece).into());
        let pieces: Vec<[u8; 32]> = pieces.collect();
        assert_eq!(pieces.len(), 4);
        let table = pieces.concat();
        assert_eq!(bytes[size..][..table.len()], table);
        assert_eq!(record.sha256, *Sha256::digest(&table));
        assert!(bytes[size + table.len()..].iter().all(|&byte| byte == 0));
        assert!(bytes.len() - size <= slack);
    }
    // Usually, the option does not change the image's size.
    let sizes = ["", "--sums"].map(|options| {
        place.ok(format!("mkdaxfs {options} tree image"));
        place.read("image").len()
    });
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn telling() {
    let place = tree();
    let dry = place.ok("mkdaxfs --dry-run tree image");
    assert!(!place.exists("image"));
    let made = place.ok("mkdaxfs tree image");
    let size = place.read("image").len();
    let inodes = place.listing("image").len();
    let told = format!("{size} bytes, {inodes} inodes");
    assert_eq!(dry.text(), format!("image: would have {told}\n"));
    assert!(made.text().starts_with(&format!("image: {told}, ")));
}
