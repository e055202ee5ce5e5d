// SPDX-License-Identifier: GPL-2.0-only

//! Symbolic links that lead out of a directory or are followed, hard links, and inode numbers that
//! change.

use crate::support::{place, with_mounts};
use daxfs_testing::listing::What;

/// Filesystems that give inodes other numbers when the kernel has forgotten them.
#[test]
fn changing_numbers() {
    let place = place("mkdir -p lower upper overlay");
    let script = "mount -t tmpfs tmpfs lower; mount -t tmpfs tmpfs upper; mkdir upper/upper upper/work
        for dir in lower/{1..40}; do mkdir -p $dir/{1..40}; echo $dir >$dir/1/file; done
        mount -t overlay -o xino=off,lowerdir=lower,upperdir=upper/upper,workdir=upper/work overlay overlay
        mkdaxfs -q overlay image
        # Each remount forgets the unused inodes.
        while :; do mount -o remount overlay 2>/dev/null; done & trap 'kill %1' EXIT
        for n in 1 2 3; do mkdaxfs -q overlay out && cmp out image; done";
    if let Some(run) = with_mounts(&place, script) {
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
    }
    // A file with another number and the same time of change is the same.
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
