// SPDX-License-Identifier: GPL-2.0-only

//! Other programs' archives give the same image as their directory, byte for byte.

use crate::support::fixture::{self, Can, ALL};
use crate::support::{available, place};
use daxfs_testing::feed::{member, seal};

/// Writes an archive in the format of the first argument, with the other arguments as for tar.
const PACK: &str = "import sys, tarfile
with tarfile.open(sys.argv[3], 'w', format=getattr(tarfile, sys.argv[1])) as archive:
    archive.add(sys.argv[5], arcname='.')
";

/// Each format of each program.
#[test]
fn formats() {
    let plain = Can::default();
    let names = Can {
        names: true,
        ..plain
    };
    // bsdtar miscalculates negative fractions, and Python's times cannot hold nanoseconds.
    let late = Can {
        early: false,
        ..ALL
    };
    for (program, can) in [
        ("tar --format=posix --xattrs --xattrs-include='*'", ALL),
        ("tar --format=posix --xattrs --xattrs-include='*' -S", ALL),
        ("tar --format=gnu", names),
        ("tar --format=gnu -S", names),
        ("tar --format=oldgnu -S", names),
        ("tar --format=ustar", plain),
        ("bsdtar --format=pax", late),
        ("bsdtar --format=gnutar", names),
        ("bsdtar --format=ustar", plain),
        ("python3 pack.py PAX_FORMAT", names),
        ("python3 pack.py GNU_FORMAT", names),
        ("python3 pack.py USTAR_FORMAT", plain),
    ] {
        if !available(program.split(' ').next().unwrap()) {
            continue;
        }
        println!("{program}");
        let place = fixture::imaged(can);
        place.write("pack.py", PACK);
        place.shell(format!("{program} -cf archive.tar -C tree ."));
        place.ok("mkdaxfs -q archive.tar out");
        place.same("out", "image");
    }
}

/// Archives are plain or compressed, from a file or a pipe.
#[test]
fn compression_and_pipes() {
    let place = fixture::imaged(ALL);
    place.shell(
        "tar --format=posix --xattrs --xattrs-include='*' -S -cf all.tar -C tree .
         head -c 1000000 all.tar >one; tail -c +1000001 all.tar >two",
    );
    for line in [
        "cat all.tar",
        "gzip -9c all.tar | cat - <(head -c 5000 /dev/zero)",
        "zstd -19c all.tar",
        "zstd -1c --long=29 <all.tar",
        "xz -1c all.tar",
        "xz -c -T2 --block-size=100KiB all.tar",
        // Two concatenated compressed halves form one archive.
        "gzip -c one two",
        "zstd -c one two",
        "xz -c one two",
    ] {
        if !available(line.split(' ').next().unwrap()) {
            continue;
        }
        place.shell(format!("{line} >packed"));
        for make in [
            "mkdaxfs -q packed out",
            "cat packed | mkdaxfs -q - out",
            "(mkdaxfs -q tar:- out; mkdaxfs -q tar:- out) <packed",
        ] {
            println!("{line}; {make}");
            place.ok(make);
            place.same("out", "image");
        }
    }
    // No temporary file remains.
    assert!(!place.names(".").iter().any(|name| name.starts_with('.')));
}

/// Bytes after the end of an archive are counted, or read if they are another archive.
#[test]
fn joined_archives() {
    let place = place(
        "mkdir a b; echo a >a/file; echo b >b/file; echo c >b/other; touch -d @1600000000 a b a/* b/*
         tar -cf a.tar -C a .; tar -cf b.tar -C b .; head -c 30000 /dev/urandom >noise
         mkdaxfs -q a.tar first; mkdaxfs -q a.tar b.tar both",
    );
    let left = |bytes: usize| {
        format!(
            ": {bytes} bytes after the end of the archive are left out; --ignore-zeros reads them"
        )
    };
    let size = place.read("b.tar").len();
    for line in ["cat", "gzip -c", "zstd -c", "xz -c"] {
        if !available(line.split(' ').next().unwrap()) {
            continue;
        }
        for make in ["mkdaxfs -q packed out", "cat packed | mkdaxfs -q - out"] {
            place.shell(format!("{line} a.tar b.tar >packed"));
            place.says(make, 0, &left(size));
            place.same("out", "first");
            place.ok(make.replace(" -q", " -q --ignore-zeros"));
            place.same("out", "both");
            // The rest is not an archive.
            place.shell(format!("{line} a.tar noise >packed"));
            place.says(make, 0, &left(30000));
            let why = "is damaged: no member's header at byte 10240; get it again";
            place.fails(make.replace(" -q", " -q --ignore-zeros"), why);
            if line == "cat" {
                continue;
            }
            // The rest is not compressed, or its first frame is truncated.
            for (rest, bytes) in [
                ("printf garbage", 7),
                ("cat noise", 30000),
                (&format!("{line} noise | head -c 6"), 6),
            ] {
                place.shell(format!(
                    "({line} a.tar; head -c 5000 /dev/zero; {rest}) >packed"
                ));
                let why = format!(": {bytes} bytes after the compressed data are left out (");
                place.says(make, 0, &why);
                place.same("out", "first");
            }
            // The archive needs these bytes.
            place.shell(format!(
                "(head -c 1000 a.tar | {line}; echo garbage) >packed"
            ));
            place.fails(make, "is damaged: its last 8 bytes are not compressed (");
        }
    }
}

/// Programs leave other bytes after the NUL at the end of a number.
#[test]
fn numbers_end_at_nul() {
    let place = place("");
    let header = |text: &[u8]| {
        let mut member = member(b"x", b'3', b"", 0o640, b"");
        // Owner, group and both device numbers; size, which is 0, and time; and the mode.
        for at in [108, 116, 329, 337] {
            member[at..at + 8].copy_from_slice(&[b"17", text].concat());
        }
        for (at, number) in [(124, b"000000"), (136, b"013000")] {
            member[at..at + 12].copy_from_slice(&[number, text].concat());
        }
        member[100..108].copy_from_slice(&[b"640", &text[..5]].concat());
        seal(&mut member);
        member[155] = text[5];
        [member, vec![0; 1024]].concat()
    };
    for (name, text) in [
        ("plain", b"\0\0\0\0\0\0"),
        ("odd", b"\0/etc\xff"),
        ("blank", b" root "),
    ] {
        place.write(name, header(text));
        place.ok(format!("mkdaxfs -q {name} {name}.img"));
        place.same(&format!("{name}.img"), "plain.img");
    }
    place.write("odd", header(b"xyzxyz"));
    place.fails("mkdaxfs odd image", "is malformed (member at byte 0)");
}

/// Writes the headers of the tree, in the format of the first argument, and in place of the last
/// file's content a hole and its end.
const HOLE: &str = "import os, sys, tarfile
archive = tarfile.open('archive.tar', 'w', format=getattr(tarfile, sys.argv[1]))
for name in '.', 'large':
    info = archive.gettarinfo('tree/' + name, name)
    archive.fileobj.write(info.tobuf(archive.format, 'utf-8', 'surrogateescape'))
start = archive.fileobj.tell()
archive.fileobj.truncate(start + (info.size + 511) // 512 * 512 + 1024)
archive.fileobj.seek(start + info.size - 3)
archive.fileobj.write(b'end')
archive.fileobj.flush()
os._exit(0)
";

/// A member larger than 8 GiB, which the classic header cannot describe.
#[test]
fn large_members() {
    let place = place(
        "mkdir tree; truncate -s $(((8 << 30) + 4094)) tree/large; printf end >>tree/large
         touch -d @1600000000 tree tree/large",
    );
    place.write("hole.py", HOLE);
    let expected = place.ok("mkdaxfs -n tree image").stdout;
    for pack in [
        "tar --format=gnu -S -cf archive.tar -C tree .; test $(stat -c %s archive.tar) -lt 1000000",
        "tar --format=posix -S -cf archive.tar -C tree .; test $(stat -c %s archive.tar) -lt 1000000",
        // Not sparse for tar, but the archive file has a hole.
        "python3 hole.py GNU_FORMAT",
        "python3 hole.py PAX_FORMAT",
    ] {
        if available(pack.split(' ').next().unwrap()) {
            place.shell(pack);
            assert_eq!(place.ok("mkdaxfs -n archive.tar image").stdout, expected, "{pack}");
        }
    }
}

/// The last member with a name wins, and a file stays as long as it has a name. Several inputs of
/// different kinds behave like one archive.
#[test]
fn repeated_members() {
    let place = place(
        "mkdir a b c d
         echo old >a/file; ln a/file a/other; mkdir a/dir; echo x >a/dir/inside
         echo new >b/file; echo replaced >b/dir
         ln -s nowhere c/file; mkdir c/dir; echo y >c/dir/again
         ln -s nowhere d/file; echo old >d/other; mkdir d/dir; echo y >d/dir/again
         find a b c d -exec touch -h -d @1600000000 {} +
         tar --format=posix -C a -cf archive.tar .
         for d in a b c; do tar --format=posix -C $d -cf $d.tar .; done
         for d in b c; do tar --format=posix -C $d -rf archive.tar .; done
         mkdaxfs -q d image; mkdaxfs -q c c.img",
    );
    for inputs in [
        "archive.tar",
        "a b c",
        "a.tar b c.tar",
        "a b.tar c.img",
        "a.tar b.tar c",
    ] {
        // GNU tar keeps the directory, with an error.
        let said = "dir: replaced a directory, whose files are left out\n";
        let run = place.says(format!("rm -f out; mkdaxfs -q {inputs} out"), 0, said);
        assert_eq!(run.stderr.lines().count(), 1, "{inputs}: {run:?}");
        place.same("out", "image");
    }
}

/// Directories that no member describes.
#[test]
fn implied_directories() {
    let place = place(
        "mkdir -p tree/a/b; echo 1 >tree/a/b/c; echo 2 >tree/a/b/d
         touch -d @1600000000 tree/a/b/c; touch -d @1500000000 tree/a/b/d
         tar --format=posix -C tree -cf archive.tar a/b/c a/b/d
         touch -d @1600000000 tree/a/b tree/a tree; chmod 755 tree tree/a tree/a/b
         mkdaxfs -q --all-root tree image; mkdaxfs -q --all-root archive.tar out",
    );
    place.same("out", "image");
}

/// An image of an image is the same image.
#[test]
fn images() {
    let place = fixture::imaged(ALL);
    place.shell("(echo; cat image) >behind");
    for make in [
        "mkdaxfs -q image out",
        "cat image | mkdaxfs -q - out",
        "rm out; (read; mkdaxfs -q - out) <behind",
    ] {
        place.ok(make);
        place.same("out", "image");
    }
    place.fails("mkdaxfs image: new", "");
    place.fails("mkdaxfs image:tree/huge new", "invalid image");
    let mut damaged = place.read("image");
    damaged[5000] ^= 1;
    place.write("image", damaged);
    place.fails("mkdaxfs image new", "image: invalid image: ");
    assert!(!place.exists("new"));
}
