// SPDX-License-Identifier: GPL-2.0-only

//! Composed images: commands read content that is in packs.

use crate::support::{certificate, fixture, Place, DECADES};
use daxfs_reader::layout;
use daxfs_testing::builder::{seal, set_digest, superblock};
use daxfs_testing::{composed_of, image_with, options};
use serde_json::Value;
use std::mem::offset_of;

/// Returns a place with a tree, `source`, its `image`, and `composed`, with content in `first` and
/// `second`.
fn composed() -> Place {
    let place = fixture();
    for label in ["first", "second"] {
        let mut options = options();
        options.label = label.into();
        image_with(&place.path("source"), &place.path(label), &options).unwrap();
    }
    let [first, second] = ["first", "second"].map(|name| place.path(name));
    let [source, image] = ["source", "composed"].map(|name| place.path(name));
    let used = composed_of(&source, &image, &[&first, &second], |node| Some(node % 2));
    assert_eq!(used.len(), 2);
    place
}

/// Arranges the images of `place` in a directory like a store's.
fn store(place: &Place) {
    place.shell(
        "mkdir -p store/images store/packs; mv composed store/images/one.daxfs
         for pack in first second; do mv $pack store/packs/$(daxfs digest $pack).daxfs; done
         ln -s store/images/one.daxfs composed",
    );
}

const PACKS: &str = "--pack first --pack second";

/// Returns the files from `dump --sums` without their places.
fn files(place: &Place, words: &str) -> Vec<Value> {
    let mut dump = place.ok(format!("daxfs dump --sums {words}")).json();
    let files = dump["files"].as_array_mut().unwrap();
    for file in &mut *files {
        let file = file.as_object_mut().unwrap();
        file.remove("data_offset");
        file.remove("pack");
    }
    files.clone()
}

#[test]
fn content() {
    let place = composed();
    let tar = |image: &str| place.ok(format!("daxfs extract --tar {image} -")).stdout;
    assert_eq!(
        files(&place, &format!("{PACKS} composed")),
        files(&place, "image")
    );
    assert_eq!(tar(&format!("{PACKS} composed")), tar("image"));
    place.ok(format!("daxfs extract {PACKS} composed there"));
    place.shell("diff -r --no-dereference -x fifo -x loop source there");
    let cat = place.ok(format!("daxfs cat {PACKS} composed file dir/below/deep"));
    assert_eq!(
        cat.stdout,
        place.ok("daxfs cat image file dir/below/deep").stdout
    );
    // The bytes are where stat reports them.
    let stat = place.ok(format!("daxfs stat {PACKS} composed dir/below/deep"));
    let (_, found) = stat.text().split_once("Data: from 0x").unwrap();
    let (offset, digest) = found.split_once(" of the pack ").unwrap();
    let start = usize::from_str_radix(offset, 16).unwrap();
    let is_there =
        |pack: &&str| digest.starts_with(place.ok(format!("daxfs digest {pack}")).text());
    let pack = ["first", "second"].into_iter().find(is_there).unwrap();
    assert_eq!(place.read(pack)[start..start + 10_000], [7; 10_000]);
    place.steps(
        "daxfs",
        &format!(
            "diff {PACKS} image composed
            diff {PACKS} composed composed
            fsck {PACKS} composed image"
        ),
    );
    let clean = place.prints(format!("daxfs fsck {PACKS} composed"), "");
    assert!(clean.ends_with(" bytes\n"), "{clean}");

    // In a store, packs need not be named.
    let expected = files(&place, "image");
    store(&place);
    assert_eq!(files(&place, "store/images/one.daxfs"), expected);
    assert_eq!(files(&place, "composed"), expected);
    place.shell("cd store/images; daxfs cat one.daxfs file | cmp - ../../source/file");
    place.ok("daxfs fsck composed");
}

#[test]
fn without_packs() {
    let place = composed();
    let digests = ["first", "second"].map(|name| place.ok(format!("daxfs digest {name}")));
    let digests = digests.each_ref().map(|run| run.text().trim());
    for command in ["ls -lR", "dump", "digest", "stat", "info --udev"] {
        let path = if command == "stat" { "file" } else { "" };
        place.ok(format!("daxfs {command} composed {path}"));
    }
    let stat = place.ok("daxfs stat composed file");
    let named = |digest: &&str| stat.text().contains(&format!(" of the pack {digest}\n"));
    assert!(
        stat.text().contains("  Data: inode ") && digests.iter().any(named),
        "{stat:?}"
    );
    let info = place.ok("daxfs info composed");
    let size = place.path("first").metadata().unwrap().len();
    for digest in digests {
        let line = format!("Pack:           {digest}, {size} bytes\n");
        assert!(info.text().contains(&line), "{info:?}");
    }
    let json = place.ok("daxfs info --json composed").json();
    crate::json::check("daxfs-info-1", &json);
    assert_eq!(json["packs"].as_array().unwrap().len(), 2);
    crate::json::check("daxfs-dump-1", &place.ok("daxfs dump composed").json());
    let clean = place.prints("daxfs fsck composed", "");
    assert!(clean.ends_with(", without 2 of 2 packs\n"), "{clean}");

    // The message contains the file, the pack, and the remedy.
    let missing = place.run("daxfs cat composed file");
    let of_pack = |digest: &&str| {
        let said = format!(
            "daxfs: composed: file: its content is in the pack {digest}, which is missing; name its file with --pack\n"
        );
        missing.stderr == said
    };
    assert!(
        missing.status == 1 && digests.iter().any(of_pack),
        "{missing:?}"
    );
    place.shell("mkdir mnt");
    for (command, status) in [
        ("extract composed there", 1),
        ("extract --tar composed -", 1),
        ("diff composed image", 2),
        ("fuse composed mnt", 1),
    ] {
        let why = ", which is missing; name its file with --pack";
        place.says(format!("daxfs {command}"), status, why);
    }
    assert!(!place.exists("there"));
}

#[test]
fn wrong_packs() {
    let place = composed();
    place.steps(
        "daxfs",
        &format!(
            "cat --pack image composed file | 1 | image: is not a pack of composed; daxfs info lists the packs of an image
            dump {PACKS} --pack image composed | 1 | image: is not a pack of composed; daxfs info lists
            diff --pack first image image | 2 | first: is not a pack of image or image; daxfs info lists
            fsck {PACKS} --pack image composed | 8 | image: is not a pack of composed
            cat --pack none composed file | 1 | none: cannot open
            fsck {PACKS} composed"
        ),
    );

    // Data covered by nothing but the SHA-256.
    let good = place.read("first");
    let mut bytes = good.clone();
    let data = superblock(&bytes).data.offset.get() as usize;
    bytes[data] ^= 1;
    place.write("first", &bytes);
    let run = place.run(format!("daxfs fsck {PACKS} composed composed"));
    assert_eq!((run.status, run.text()), (4, ""), "{run:?}");
    let count = |part: &str| run.stderr.matches(part).count();
    // Each pack is read once.
    assert_eq!(count("first: SHA-256 is "), 1, "{run:?}");
    let said = "composed: 1 of 2 packs damaged or unreadable; restore from copies\n";
    assert_eq!(count(said), 2, "{run:?}");

    // A pack without the files: the same superblock, but different inodes.
    let mut bytes = good;
    let inodes = superblock(&bytes).inodes;
    let (start, length) = (inodes.offset.get() as usize, inodes.length.get() as usize);
    for record in bytes[start + 64..start + length].chunks_mut(64) {
        record[16] ^= 1;
    }
    seal(&mut bytes);
    place.write("first", &bytes);
    for (command, status) in [("dump --sums", 1), ("fsck", 4)] {
        let line = format!("daxfs {command} {PACKS} composed");
        place.says(line, status, "data shared with an unsuitable file");
    }
}

/// Unusable packs in a store hide neither each other nor the content of other packs.
#[test]
fn damaged_packs() {
    let place = composed();
    let digest = place.ok("daxfs digest first").text().trim().to_owned();
    store(&place);
    let pack = format!("store/packs/{digest}.daxfs");
    let good = place.read(&pack);
    place.shell(format!("cp image {pack}"));
    let said = format!(
        "its content is in a pack that cannot be used: {}: has another SHA-256 or size than the image says; restore it from a copy",
        place.path(&pack).display()
    );
    // Half of the files have their content in the other pack.
    let (mut read, mut failed) = (0, 0);
    for path in place
        .ok("cd source; find * -type f -size +0")
        .text()
        .lines()
    {
        let run = place.run(format!(
            "daxfs cat composed '{path}' | cmp - 'source/{path}'"
        ));
        match run.status {
            0 => read += 1,
            _ => {
                assert!(run.stderr.contains(&said), "{run:?}");
                failed += 1;
            }
        }
    }
    assert!(read > 0 && failed > 0, "{read} {failed}");
    place.ok("daxfs dump composed");
    place.shell("mkdir mnt");
    let why = "has content in a pack that cannot be used";
    place.fails("daxfs fuse composed mnt", why);

    // All others of the same image are reported as well.
    place.shell(format!(
        "for pack in store/packs/*; do [ $pack = {pack} ] || : >$pack; done"
    ));
    let fsck = |packs: &str, words: &[&str]| {
        let run = place.run("daxfs fsck composed");
        assert_eq!((run.status, run.text()), (4, ""), "{run:?}");
        let last = format!("composed: {packs} packs damaged or unreadable; restore from copies");
        assert_eq!(run.stderr.lines().last(), Some(&*last), "{run:?}");
        for word in words {
            assert_eq!(run.stderr.matches(word).count(), 1, "{run:?}");
        }
    };
    fsck("2 of 2", &["another SHA-256 or size", "not a daxfs image"]);
    place.write(&pack, &good);
    fsck("1 of 2", &["not a daxfs image"]);
}

/// A pack cannot have packs.
#[test]
fn composed_packs() {
    let place = composed();
    let [source, image] = ["source", "twice"].map(|name| place.path(name));
    composed_of(&source, &image, &[&place.path("composed")], |_| Some(0));
    let said = "composed: has packs itself, so it cannot be a pack";
    place.fails("daxfs cat --pack composed twice file", said);
    place.says(
        "daxfs fsck --pack composed twice",
        4,
        "pack has packs itself",
    );
}

/// A pack without a root, which its files do not need; and what the kernel refuses to mount,
/// whatever files are wanted: a bad record in the table of packs.
#[test]
fn structure() {
    let place = composed();
    let mut pack = place.read("first");
    let mut image = place.read("composed");
    let before = superblock(&pack).sha256;
    pack[offset_of!(layout::Superblock, root)] += 1;
    set_digest(&mut pack);
    place.write("first", &pack);
    let record = image.windows(32).position(|bytes| bytes == before);
    let record = record.unwrap();
    image[record..record + 32].copy_from_slice(&superblock(&pack).sha256);
    set_digest(&mut image);
    place.write("composed", &image);
    place.ok(format!("daxfs cat composed file {PACKS}"));
    let fsck = |found: &str| place.says(format!("daxfs fsck composed {PACKS}"), 4, found);
    let found = fsck("first: root inode is not a root directory");
    assert!(found.stderr.contains("composed: 1 of 2 packs damaged"));

    // Reserved bytes of a record, and a pack listed twice.
    let good = image.clone();
    let table = layout::PACKS_OFFSET as usize;
    let table = u64::from_le_bytes(good[table..table + 8].try_into().unwrap()) as usize;
    let invalid = "composed: invalid table of packs";
    type Change = fn(&mut [u8]);
    let changes: [(Change, _); 2] = [
        (|record| record[63] = 1, invalid),
        (
            |record| record.copy_within(..64, 64),
            "pack is in the table twice",
        ),
    ];
    for (change, found) in changes {
        image.copy_from_slice(&good);
        change(&mut image[table..]);
        set_digest(&mut image);
        place.write("composed", &image);
        for command in [
            "cat composed file",
            "extract composed there",
            "fuse composed dir",
        ] {
            place.fails(format!("mkdir -p dir; daxfs {command} {PACKS}"), invalid);
        }
        place.fails("daxfs ls composed", invalid);
        fsck(found);
    }
}

#[test]
fn verified() {
    let place = composed();
    place.shell(certificate("owner", "owner", DECADES));
    place.ok("daxfs sign --key owner.key --cert owner.pem composed");
    let verify = format!("daxfs verify --cert owner.pem {PACKS} composed");
    assert_eq!(
        place.ok(&verify).text(),
        place.ok("daxfs digest composed").text()
    );
    let mut bytes = place.read("second");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    place.write("second", &bytes);
    place.fails(&verify, "second: SHA-256 is ");
    place.fails(
        "daxfs verify --cert owner.pem --pack first composed",
        ", which is missing; name its file with --pack",
    );
}

/// Packs may outnumber the files that a process can open.
#[test]
fn many_packs() {
    let place = composed();
    place.ok(format!("ulimit -Sn 5; daxfs cat {PACKS} composed file"));
    place.fails(
        format!("ulimit -n 5; daxfs cat {PACKS} composed file"),
        "cannot open: Too many open files; raise the limit (ulimit -n)",
    );
    store(&place);
    // Only one image's packs are open at a time, and packs shared by two images once.
    place.ok(format!(
        "ulimit -n 10; daxfs fsck {}",
        "composed ".repeat(10)
    ));
    place.ok("ulimit -n 8; daxfs diff composed composed");
}
