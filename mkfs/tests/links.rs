// SPDX-License-Identifier: GPL-2.0-only

//! Symbolic links that lead out of a directory or are followed, hard links, and changing inode
//! numbers.

use crate::support::{place, with_mounts};
use daxfs_testing::listing::What;

/// A snapshot as in Hugging Face's cache: its files are in a directory next to it.
#[test]
fn links_out_of_the_tree() {
    let place = place(
        "mkdir -p cache/blobs cache/snapshots/1/dir etc; echo 1 >cache/blobs/a; echo 2 >cache/blobs/b; echo >etc/passwd
         cd cache/snapshots/1; ln -s ../../blobs/a config.json; ln -s ../../../blobs/b dir/model.bin
         ln -s dir/model.bin again; ln -s ../../../nowhere dir/dangling; ln -s /etc/passwd absolute",
    );
    let why = "the symlink leads out of the tree, to a file that the image lacks; --dereference stores it (and 2 other files)\n";
    let run = place.says("mkdaxfs -q cache/snapshots/1 image", 0, why);
    let is_one = run.stderr.lines().count() == 1;
    assert!(is_one && run.stderr.contains("cache/snapshots/1/"));
    let links = place.listing("image");
    assert!(matches!(
        links[&b"config.json"[..]].content,
        What::Symlink(_)
    ));

    let line = "mkdaxfs -q --dereference cache/snapshots/1 image";
    place.says(
        line,
        0,
        "dir/dangling: the symlink leads to no file and is kept\n",
    );
    let files = place.listing("image");
    for (name, content) in [
        ("config.json", "1\n"),
        ("dir/model.bin", "2\n"),
        ("again", "2\n"),
    ] {
        let wanted = What::Bytes(content.into());
        assert_eq!(files[name.as_bytes()].content, wanted, "{name}");
    }
    assert!(matches!(files[&b"absolute"[..]].content, What::Bytes(_)));
    // The tree is a root filesystem, where `..` in the root is the root.
    place.shell(
        "mkdir -p root/etc root/lib; echo >root/etc/passwd; ln -s ../../../etc/passwd root/lib/users; ln -s .. root/lib/up
         ln -s /etc/passwd root/lib/absolute; ln -s /proc/self/mounts root/etc/mtab; ln -s ../../../dev/null root/lib/null
         mkdir -p root/usr/bin root/etc/alternatives; echo >root/usr/bin/mine; ln -s /usr/bin/mine root/etc/alternatives/sh
         ln -s /etc/alternatives/sh root/usr/bin/awk; ln -s /bin/sh root/lib/sh; mkdir root/bin; ln -s /usr/bin/mine root/bin/sh",
    );
    place.ok("mkdaxfs -q root image");
    // Excluded files are not mentioned.
    place.ok("mkdaxfs -q -e '*.json' -e dir -e again -e absolute cache/snapshots/1 image");
    place.ok("mkdaxfs -q --dereference -e dangling cache/snapshots/1 image");
}

/// A model's whole cache: each revision is a directory, and its weights are stored once.
#[test]
fn revisions_of_a_model() {
    let place = place(
        "mkdir -p model/{blobs,refs,snapshots/{1,2}}; head -c 3M /dev/urandom >model/blobs/w; printf 2 >model/refs/main
         for n in 1 2; do echo $n >model/blobs/c$n; cd model/snapshots/$n
         ln -s ../../blobs/w model.safetensors; ln -s ../../blobs/c$n config.json; cd ../../..; done",
    );
    place.ok("mkdaxfs -q model/blobs blobs.img");
    let (blobs, twice) = (place.listing("blobs.img"), 8 << 20);
    for (input, prefix) in [
        ("model", "snapshots/"),
        ("--dereference model", "snapshots/"),
        ("--dereference model/snapshots", ""),
    ] {
        place.ok(format!("rm -f image; mkdaxfs -q {input} image"));
        let size = place.read("image").len();
        assert!(size < twice, "{input}: {size} bytes");
        let files = place.listing("image");
        for revision in ["1", "2"] {
            let blob = format!("c{revision}");
            for (name, blob) in [("model.safetensors", "w"), ("config.json", &*blob)] {
                let path = format!("{prefix}{revision}/{name}");
                let mut found = &files[path.as_bytes()].content;
                if input == "model" {
                    // The link stays, and leads to a file in the image.
                    let link = What::Symlink(format!("../../blobs/{blob}").into());
                    assert_eq!(*found, link, "{path}");
                    found = &files[format!("blobs/{blob}").as_bytes()].content;
                }
                assert!(*found == blobs[blob.as_bytes()].content, "{input}: {path}");
            }
        }
    }
}

/// Links to directories, some of them to an ancestor.
#[test]
fn loops() {
    let place = place(
        "mkdir -p tree/a/b other/in; echo x >other/in/file; echo y >tree/a/file; chmod 700 other
         ln -s . tree/here; ln -s .. tree/a/up; ln -s ../../a tree/a/b/a
         ln -s self tree/self; ln -s ../other tree/out; ln -s ../other/in/file tree/file",
    );
    let kept = "the symlink leads to a directory above it and is kept (and 2 other files)\n";
    let nowhere = "tree/self: the symlink leads to no file and is kept\n";
    let run = place.says("mkdaxfs -q --dereference tree image", 0, kept);
    assert!(run.stderr.contains(nowhere) && run.stderr.lines().count() == 2);
    let found = place.listing("image");
    assert_eq!(found[&b"out"[..]].mode, 0o040_700);
    assert_eq!(
        found[&b"out/in/file"[..]].content,
        found[&b"file"[..]].content
    );
    for (name, target) in [("here", "."), ("a/up", ".."), ("a/b/a", "../../a")] {
        assert_eq!(
            found[name.as_bytes()].content,
            What::Symlink(target.into()),
            "{name}"
        );
    }
    // A directory that is also above the tree.
    place.shell("mkdir -p x/tree; ln -s ../.. x/tree/all");
    let why = "x/tree/all/x/tree: is the same directory as x/tree above it; leave it, or the symlink that leads there, out with --exclude";
    place.fails("mkdaxfs -n --dereference x/tree image", why);
    // Directories that link to each other have unlimited paths.
    place.shell("mkdir -p many/{1..16}; for a in {1..16}; do for b in {1..16}; do ln -s ../$b many/$a/to$b; done; done");
    let why = "is a directory with more than 10000 paths through symlinks; leave some of these out with --exclude";
    place.fails("mkdaxfs -n --dereference many image", why);
}

/// Trees that differ only in hard links give different images, but not through tar.
#[test]
fn hard_links() {
    let place = place(
        "mkdir one two; echo x >one/a; cp one/a one/b; echo x >two/a; ln two/a two/b
         touch -d @1600000000 one one/* two two/*; for tree in one two; do mkdaxfs -q $tree $tree.img
         tar --format=posix --hard-dereference -C $tree -c . | mkdaxfs -q - $tree.out; done",
    );
    place.same("one.out", "one.img");
    place.same("two.out", "one.img");
    assert_ne!(place.read("one.img"), place.read("two.img"));
}

/// Filesystems that renumber inodes once the kernel has forgotten them.
#[test]
fn changing_numbers() {
    let place = place("mkdir -p lower upper overlay");
    let script = "mount -t tmpfs tmpfs lower; mount -t tmpfs tmpfs upper; mkdir upper/upper upper/work
        for dir in lower/{1..40}; do mkdir -p $dir/{1..40}; echo $dir >$dir/1/file; done
        mount -t overlay -o xino=off,lowerdir=lower,upperdir=upper/upper,workdir=upper/work overlay overlay
        mkdaxfs -q overlay image
        # Each remount forgets the unused inodes. Overlayfs refuses those by fsconfig(2).
        export LIBMOUNT_FORCE_MOUNT2=always
        trap ': >end; wait' EXIT
        while [ ! -e end ] && mount -o remount overlay; do :; done &
        for n in 1 2 3; do mkdaxfs -q overlay out && cmp out image; done";
    if let Some(run) = with_mounts(&place, script) {
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
    }
    // A file with a new number but the same ctime is the same.
    place.shell(
        "mkdir tree; until cmp -s a.time b.time; do rm -f tree/a b; printf 1 >tree/a; printf 2 >b
         stat -c '%y %z' tree/a >a.time; stat -c '%y %z' b >b.time; done",
    );
    let script = "mkfifo pipe; mkdaxfs -q tree - out <pipe & exec 3>pipe; sleep 0.5
        mount --bind b tree/a; tar -c -T /dev/null >&3; exec 3>&-; wait $!";
    if let Some(run) = with_mounts(&place, &script.replace("- out", "tar:- out")) {
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
        assert_eq!(
            place.listing("out")[&b"a"[..]].content,
            What::Bytes(b"2".to_vec())
        );
    }
}
