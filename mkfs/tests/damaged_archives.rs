// SPDX-License-Identifier: GPL-2.0-only

//! Damaged and malicious archives.

use crate::memory_use::make_within;
use crate::support::fixture::{self, Can};
use crate::support::{available, place, Place};
use daxfs_testing::listing::What;

/// Start of a script that writes an archive: `f(name, type, data)` adds a member.
const PRELUDE: &str = "import io, tarfile
archive = tarfile.open('crafted.tar', 'w', format=tarfile.PAX_FORMAT)
def f(name, kind=tarfile.REGTYPE, data=b'', **more):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(data), 1600000000
    for key, value in more.items(): setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))
D, L, H, C = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
";

/// Runs a Python script that writes the members of `crafted.tar`.
fn craft(place: &Place, script: &str) {
    place.write("craft.py", format!("{PRELUDE}{script}\narchive.close()\n"));
    place.shell("python3 craft.py");
}

/// Names that lead elsewhere stay within the image or are refused.
#[test]
fn hostile_names() {
    if !available("python3") {
        return;
    }
    let place = place("");
    craft(
        &place,
        "f('/etc/', D); f('/etc/passwd', data=b'1')
f('out', L, linkname='../../../..'); f('out/etc/shadow', data=b'2')
f('abs', L, linkname='/etc'); f('abs/group', data=b'3')
f('gone', L, linkname='new/dir'); f('gone/file', data=b'4')
f('hard', H, linkname='/etc/passwd'); f('./a/./b//c', data=b'5')
f('hard2', H, linkname='abs/group')",
    );
    place.ok("mkdaxfs -q crafted.tar image");
    let listing = place.listing("image");
    for (path, content) in [
        ("etc/passwd", b"1"),
        ("etc/shadow", b"2"),
        ("etc/group", b"3"),
        ("new/dir/file", b"4"),
        ("hard", b"1"),
        ("a/b/c", b"5"),
        ("hard2", b"3"),
    ] {
        let wanted = What::Bytes(content.to_vec());
        assert_eq!(listing[path.as_bytes()].content, wanted, "{path}");
    }
    assert_eq!(listing.len(), 16);
    for (script, what) in [
        ("f('../evil')", "the name '../evil' leads out of the tree"),
        ("f('a/../../evil')", "leads out of the tree"),
        ("f('a', L, linkname='a'); f('a/b')", "the symlink 'a' leads nowhere"),
        ("f('a', L, linkname='b'); f('b', L, linkname='a'); f('a/x')", "leads nowhere"),
        ("f('a'); f('a/b')", "'a' is not a directory"),
        ("f('a', H, linkname='b')", "a hard link to 'b', which is not there"),
        ("f('d', D); f('a', H, linkname='d')", "a hard link to the directory 'd'"),
        ("f('x' * 256)", "has a name of more than 255 bytes"),
        ("f('a', L, linkname='t' * 4096)", "a symlink's target has 4096 bytes"),
        ("f('.', data=b'x')", "the root of the tree is not a directory"),
        ("f('a', C, devmajor=4096, devminor=0)", "device number 4096:0 is not supported"),
        ("f('a', pax_headers={'mtime': 'so\\non'})", "the extended header mtime has the value 'so\\non'"),
        ("f('a', pax_headers={'uid': '4294967296'})", "the extended header uid has the value '4294967296', and the largest is 4294967295"),
        (
            "f('a', data=b'2\\n0\\n512\\n100\\n1\\n'.ljust(1024, b'\\0'), pax_headers={'GNU.sparse.major': '1', 'GNU.sparse.realsize': '1000'})",
            "the map of a sparse file is malformed at 100",
        ),
        (
            "f('a', data=b'1\\n0\\n100\\n'.ljust(1024, b'\\0'), pax_headers={'GNU.sparse.major': '1', 'GNU.sparse.realsize': '1000'})",
            "the map of a sparse file has 100 bytes, the archive 512",
        ),
        (
            "f('a', data=b'x' * 512, pax_headers={'GNU.sparse.map': '0,512', 'GNU.sparse.size': '1000'})",
            "a sparse file has a format that is not 1.0; make the archive with --sparse-version=1.0",
        ),
        (
            "f('a', data=b'x' * 512, pax_headers={'GNU.sparse.major': '1', 'GNU.sparse.realsize': '10'})",
            "the map of a sparse file is malformed",
        ),
        (
            "f('a', data=b'0\\n'.ljust(512, b'\\0'), pax_headers={'GNU.sparse.major': '1', 'GNU.sparse.realsize': str(2**52)})",
            "the tree has more file data than one image can hold",
        ),
    ] {
        craft(&place, script);
        let told = place.fails("mkdaxfs crafted.tar none", what);
        assert!(told.contains("crafted.tar: ") && !place.exists("none"), "{told}");
    }
    for (script, why) in [
        ("f('a', uid=2**32-1)", "its owner is 4294967295"),
        (
            "f('a', pax_headers={'gid': '4294967295'})",
            "its group is 4294967295",
        ),
    ] {
        craft(&place, script);
        place.fails("mkdaxfs crafted.tar none", &format!("crafted.tar:a: {why}"));
    }
    place.ok("mkdaxfs -q --uid 0 --gid 0 crafted.tar image");
}

/// Directory nesting is limited, whether the archive lists every directory, only the innermost, or
/// part of the path through a symlink.
#[test]
fn nested_directories() {
    if !available("python3") {
        return;
    }
    let place = place("");
    craft(&place, "f('d/' * 4096 + 'file', data=b'x')");
    place.ok("mkdaxfs -q crafted.tar image");
    assert_eq!(place.listing("image").len(), 4098);
    for script in [
        "f('d/' * 4097, D)",
        "f('d/' * 4097 + 'file')",
        "for n in range(4097): f('d/' * (n + 1), D)",
        "f('d/' * 2000, D); f('l', L, linkname='d/' * 2000); f('l/' + 'd/' * 2097 + 'file')",
    ] {
        craft(&place, script);
        let why = "more than 4096 directories are nested; leave the innermost out (member at byte ";
        place.fails("mkdaxfs crafted.tar new", why);
        assert!(!place.exists("new"));
    }
}

/// mkdaxfs warns about NFSv4 lists, and about attributes only in libarchive's own records.
#[test]
fn attributes_that_are_lost() {
    if !available("python3") {
        return;
    }
    let place = place("");
    for (records, why) in [
        (
            "'LIBARCHIVE.xattr.user.a': 'eA'",
            "a: attributes of LIBARCHIVE left out; make the archive with --options pax:xattrheader=SCHILY",
        ),
        ("'LIBARCHIVE.xattr.user.a': 'eA', 'SCHILY.xattr.user.a': 'x'", ""),
        ("'SCHILY.acl.ace': ''", ""),
        (
            "'SCHILY.acl.ace': 'owner@:r::allow', 'LIBARCHIVE.xattr.user.a': 'eA', 'RHT.security.selinux': 'x'",
            "pax:xattrheader=SCHILY\nmkdaxfs: warning: crafted.tar: a: extended attribute system.nfs4_acl left out",
        ),
    ] {
        craft(&place, &format!("f('a', pax_headers={{{records}}})"));
        let told = place.run("rm -f image; mkdaxfs -q crafted.tar image");
        let warns = told.stderr.contains(why) && told.stderr.is_empty() == why.is_empty();
        assert!(told.status == 0 && warns, "{told:?}");
    }
}

/// Files that are not archives, and truncated archives.
#[test]
fn damaged_archives() {
    let place = fixture::imaged(Can::default());
    place.shell("tar --format=posix -C tree -cf archive.tar .; gzip -k archive.tar");
    // Reads a file with these bytes, by path and from a pipe.
    let says = |bytes: &[u8], what: &str| {
        place.write("broken", bytes);
        for line in ["mkdaxfs broken none", "cat broken | mkdaxfs - none"] {
            place.fails(line, what);
            assert!(!place.exists("none"));
        }
    };
    let (bytes, compressed) = (place.read("archive.tar"), place.read("archive.tar.gz"));
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    says(b"", "is empty and not an archive");
    says(b"hello", "is neither a tar archive nor a daxfs image");
    says(&bytes[..300], "it is cut short");
    says(&[b'x'; 2000], "is neither a tar archive nor a daxfs image");
    says(&bytes[..last - 1000], "it is cut short");
    let half = &compressed[..compressed.len() / 2];
    says(half, "its compressed data end too early");
    let mut flipped = compressed.clone();
    flipped[compressed.len() / 2] ^= 0xff;
    says(&flipped, "");
    let mut sum = compressed.clone();
    sum[compressed.len() - 8] ^= 1;
    says(&sum, "is damaged");
    let remedy = "only bzip2 knows; decompress it first with bzip2 -dc";
    says(b"BZh91AY&SY00000000", remedy);
    let remedy = "needs more than 512 MiB of memory; decompress it first with";
    let zstd = b"\x28\xb5\x2f\xfd\0\xa0\x01\0\0";
    says(zstd, &format!("{remedy} zstd -dc --long=31\n"));
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01\x24\0\0\0\x5e\x1f\xc7\xf9";
    says(xz, &format!("{remedy} xz -dc\n"));
    let mut zeros = bytes.clone();
    zeros[512 * 3..512 * 4].fill(0);
    says(
        &zeros,
        "is damaged: no member's header at byte 1536; get it",
    );
    let what = "its extended headers have no member; get it again (member at byte 0)";
    says(&bytes[..1024], what);
    // It is complete; the program left a file out after writing its headers.
    let headers = [
        &bytes[..last.next_multiple_of(512)],
        &bytes[..1024],
        &[0; 1024],
    ]
    .concat();
    place.write("broken", headers);
    let what = "warning: broken: its extended headers have no member (member at byte ";
    place.says("mkdaxfs -q broken out; cmp out image", 0, what);
    place.shell("rm broken; rm out");
    let mut header = bytes.clone();
    header[512 * 3] ^= 1;
    header[512 * 5] ^= 1;
    says(&header, "");
    // Only the end mark is missing.
    place.shell("tar -cf archive.tar -C tree dir/one");
    let bytes = place.read("archive.tar");
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    place.write("broken", &bytes[..(last + 1).next_multiple_of(512)]);
    place.says("mkdaxfs -q broken marked", 0, "has no end mark");
}

/// Each file's attributes are in memory once.
#[test]
fn many_attributes_in_little_memory() {
    if !available("python3") {
        return;
    }
    let place = place("");
    let value = "{'SCHILY.xattr.user.a': str(n).zfill(60000)}";
    craft(
        &place,
        &format!("for n in range(2000): f(str(n), pax_headers={value})"),
    );
    make_within(160 << 20, &place, "crafted.tar");
}
