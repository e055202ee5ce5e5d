// SPDX-License-Identifier: GPL-2.0-only

//! The command line: exit statuses, messages, options, and no leftover files.

use crate::support::{available, chmod, is_root, place, skip, Place};
use daxfs_reader::layout::Superblock;
use daxfs_testing::builder::superblock;
use std::os::unix::fs::MetadataExt;

const TREE: &str = "mkdir -p tree/dir; printf content >tree/dir/file";

fn record(place: &Place, image: &str) -> Superblock {
    superblock(&place.read(image))
}

/// The image in the documentation of daxfs-reader.
#[test]
fn example_of_the_reader() {
    let place =
        place("umask 022; mkdir tree; echo 'Hello, world!' >tree/hello; ln -s hello tree/link");
    let options = "--label small --padding 4096 --mtime 0 --time 0 --all-root";
    place.ok(format!("mkdaxfs {options} tree image"));
    assert!(place.read("image") == include_bytes!("../../lib/reader/tests/small.daxfs"));
}

#[test]
fn help_and_version() {
    let place = place("");
    let help = place.ok("mkdaxfs --help");
    for word in ["Usage:", "Examples:", "--label", "--quiet", "Exit status"] {
        assert!(help.text().contains(word), "{word}");
    }
    let version = concat!("mkdaxfs ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(place.ok("mkdaxfs --version").text(), version);
}

/// Symlinks have the mode that Linux gives them.
#[test]
fn modes_of_archives() {
    let place = place(TREE);
    place.shell("ln -s file tree/link; tar --mode=640 -C tree -cf archive.tar .");
    place.ok("mkdaxfs -q archive.tar image");
    let mode = |path: &[u8]| place.listing("image")[path].mode & 0o7777;
    assert_eq!((mode(b"link"), mode(b"dir/file")), (0o777, 0o640));
}

#[test]
fn options_reach_the_image() {
    let place = place(TREE);
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let made = place.ok(format!(
        "mkdaxfs -L Größe -U {uuid} -T -5.25 -b 65536 tree image"
    ));
    let record = record(&place, "image");
    assert_eq!(&record.label[..8], "Größe\0".as_bytes());
    assert_eq!(record.uuid[..3], [0, 0x11, 0x22]);
    let time = (record.build_sec.get(), record.build_nsec.get());
    assert_eq!(time, (-5, 250_000_000));
    assert_eq!(record.block_size.get(), 65536);
    assert_eq!(record.data.offset.get() % 65536, 0);
    let digest = daxfs_files::digest::hex(&record.sha256);
    let size = place.read("image").len().to_string();
    for part in [uuid, &digest, "3 inodes", &size, "image: "] {
        assert!(made.text().contains(part), "{part} not in {made:?}");
    }
    assert_eq!(made.text().lines().count(), 1);
    assert_eq!(place.ok("mkdaxfs --quiet tree image").text(), "");
}

#[test]
fn build_time() {
    let place = place(TREE);
    let time = |make: &str| {
        place.ok(format!("{make} tree image"));
        let record = record(&place, "image");
        (record.build_sec.get(), i64::from(record.build_nsec.get()))
    };
    let newest = ["tree", "tree/dir", "tree/dir/file"].map(|name| {
        let metadata = place.path(name).metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    });
    assert_eq!(Some(time("mkdaxfs")), newest.into_iter().max());
    let epoch = time("SOURCE_DATE_EPOCH=1234567890 mkdaxfs");
    assert_eq!(epoch, (1_234_567_890, 0));
    assert_eq!(time("SOURCE_DATE_EPOCH=1 mkdaxfs -T 2"), (2, 0));
    place.mistakes("SOURCE_DATE_EPOCH=x mkdaxfs tree image | 2 | in SOURCE_DATE_EPOCH");
}

/// In the working directory, through a symlink to the tree, with paths that are not UTF-8.
#[test]
fn odd_paths() {
    let place = place(&format!("{TREE}; ln -s tree link; mkdir out"));
    place.ok("mkdaxfs -q link $'out/im\\xffage\\n'; mv out/im* image");
    let listing = place.listing("image");
    assert_eq!(listing[&b""[..]].mode & 0o170_000, 0o040_000);
    assert_eq!(listing.len(), 3);
    if !is_root() {
        place.shell("touch tree/$'new\\nline'; chmod 0 tree/new*");
        place.fails("mkdaxfs tree new", "new\\nline: cannot open");
    }
}

/// Characters that reorder others are escaped, like control characters.
#[test]
fn names_on_a_terminal() {
    let place = place(TREE);
    for (name, shown) in [
        ("a\u{202e}txt", "a\\u{202e}txt"),
        (
            "a\u{2066}b\u{feff}\u{e0041}",
            "a\\u{2066}b\\u{feff}\\u{e0041}",
        ),
        ("a\u{2028}b\x1b", "a\\u{2028}b\\u{1b}"),
        ("\u{e4}\u{5d0}\u{1f600}", "\u{e4}\u{5d0}\u{1f600}"),
    ] {
        place.fails(
            format!("mkdaxfs {name} image"),
            &format!("mkdaxfs: {shown}: "),
        );
        let made = place.ok(format!("mkdaxfs tree {name}"));
        assert!(made.text().starts_with(&format!("{shown}: ")), "{made:?}");
    }
    // Bytes that are not UTF-8.
    place.fails("mkdaxfs $'a\\xff\\\\b' image", r"mkdaxfs: a\xff\\b: ");
}

#[test]
fn unreadable_files() {
    let place = place(&format!(
        "{TREE}; mkdir output; chmod 755 .; chmod 777 output"
    ));
    let user = if is_root() {
        "setpriv --reuid=65534 --regid=65534 --clear-groups "
    } else {
        ""
    };
    if place.run(format!("{user}mkdaxfs --version")).status != 0 {
        return skip("another user may not run the binary");
    }
    let remedy = "Permission denied; run as a user who may read it, or leave it out of the tree";
    let file = format!("tree/dir/file: cannot open the file: {remedy}");
    for (change, part) in [
        ("chmod 0 tree/dir/file", file.as_str()),
        (
            "chmod 0 tree/dir",
            &format!("tree/dir: cannot open the directory: {remedy}"),
        ),
        (
            "chmod 444 tree/dir",
            "tree/dir/file: cannot examine: Permission",
        ),
        (
            "chmod 755 tree/dir; chmod 644 tree/dir/file; chmod 555 output",
            "run as a user who may write there",
        ),
    ] {
        place.shell(change);
        place.fails(format!("{user}mkdaxfs tree output/image"), part);
        assert_eq!(place.names("output"), [""; 0]);
    }
    chmod(place.path("output"), 0o755);
}

/// A bar appears on a terminal after a second, even while nothing arrives from a pipe.
#[test]
fn progress() {
    if !available("script") {
        return;
    }
    let place = place("");
    let shown = |wait: &str, options: &str| {
        let line = format!("{wait} | mkdaxfs {options} - image");
        let run = place.run(format!(": >log; TERM=vt100 script -f -q -c '{line}' log"));
        assert!(run.text().contains("mkdaxfs: standard input"), "{run:?}");
        run.text().contains("reading") && run.text().contains("0 B")
    };
    // On a busy machine, this may take longer.
    assert!(shown("until grep -q reading log; do sleep 0.1; done", ""));
    assert!(!shown("sleep 1.6", "--quiet"));
}
