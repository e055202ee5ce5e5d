// SPDX-License-Identifier: GPL-2.0-only

//! Stores in directories, without the kernel. tests/store mounts their images.

use crate::json::check;
use crate::support::{available, chmod, is_root, place, who, Place};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use daxfs_testing::feed;
use rustix::fs::{flock, FlockOperation};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Returns a directory with the sources of two versions.
pub fn versions() -> Place {
    place(
        "for version in v1 v2; do
            mkdir -p $version/dir && cd $version
            printf 'the same' >small && cp small copy && ln small hard && touch empty
            head -c 3000000 /dev/zero | tr '\\0' '\\7' >dir/large
            printf $version >dir/version && ln -s large dir/link && cd ..
        done",
    )
}

/// Adds a source as the image `name`, and checks the printed line.
#[track_caller]
fn add(place: &Place, name: &str, source: &str, part: &str) -> String {
    let line = format!("daxfs store add store {name} {source}");
    place.prints(line, &format!("{name}: {part}"))
}

#[track_caller]
fn verify(place: &Place) {
    place.prints("daxfs store verify store", ": 0 problems\n");
}

/// Removes images, and everything that nothing needs afterwards.
#[track_caller]
fn remove(place: &Place, names: &str) {
    place.ok(format!(
        "for name in {names}; do daxfs store remove store $name || exit; done; daxfs store gc store"
    ));
}

#[track_caller]
fn is_empty(place: &Place) {
    for directory in ["store/packs", "store/images"] {
        assert_eq!(place.names(directory), [""; 0]);
    }
}

/// Writes a file of a source.
fn write(place: &Place, name: &str, content: &[u8]) {
    fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    place.write(name, content);
}

#[test]
fn versions_share_their_objects() {
    let place = versions();
    let new = "3 objects (2.9M) are new, 0 (0) were present; 2 packs\n";
    let first = add(&place, "base-1", "v1", new);
    let more = "1 objects (2) are new, 2 (2.9M) were present; 3 packs\n";
    let second = add(&place, "base-2", "v2", more);
    // The same content needs no pack.
    let none = "0 objects (0) are new, 3 (2.9M) were present; 3 packs";
    let third = add(&place, "again", "v2", none);
    assert_eq!(third.split(' ').next(), second.split(' ').next());
    assert_eq!(place.names("store/packs").len(), 3);
    verify(&place);

    let list = place.ok("daxfs store list --json store").json();
    check("daxfs-store-1", &list);
    let images = list["images"].as_array().unwrap();
    let names: Vec<_> = images.iter().map(|image| &image["name"]).collect();
    assert_eq!(names, ["again", "base-1", "base-2"]);
    let number = |index: usize, member: &str| images[index][member].as_u64().unwrap();
    assert!(number(1, "size") > 3_000_000 && number(1, "own") < 100_000);
    assert!(first.starts_with(images[1]["sha256"].as_str().unwrap()));
    place.prints("daxfs store list store", "\nbase-1 ");

    // The first pack stays as long as an image needs it.
    for (name, files) in [("base-1", 0), ("again", 0), ("base-2", 3)] {
        place.ok(format!("daxfs store remove store {name}"));
        let removed = format!("removed {files} packs, 0 unfinished files");
        place.prints("daxfs store gc store", &removed);
        verify(&place);
    }
    is_empty(&place);
}

/// Inputs are read as by mkdaxfs.
#[test]
fn options_of_inputs() {
    let place = place(
        "mkdir a b out; echo a >a/file; head -c 300000 /dev/urandom >b/large; echo 1 >out/file
         for dir in a b; do tar -cf $dir.tar -C $dir .; done; cat a.tar b.tar >joined; ln -s ../out/file a/link",
    );
    place.steps(
        "daxfs store",
        "add store one joined | 0 | bytes after the end of the archive are left out; --ignore-zeros reads
        add --ignore-zeros store both joined | 0 | both: 1 objects (293K) are new
        add store link a | 0 | leads out of the tree
        add --dereference store file a | 0 | file: 1 objects (2) are new
        add -e '!x' store none a | 1 | --exclude: the pattern '!x' starts with '!'",
    );
    let why = "cannot set the size of the image: File too large; raise the limit";
    place.fails("ulimit -f 100; daxfs store add other big b.tar", why);
    for directory in ["other/images", "other/packs"] {
        assert_eq!(place.names(directory), [""; 0]);
    }
}

#[test]
fn composed_images() {
    let place = versions();
    add(&place, "image", "v1", "");
    place.ok("cp store/images/image.daxfs image");
    let packs = place.names("store/packs");
    for pack in &packs {
        let digest = place.ok(format!("daxfs digest store/packs/{pack}"));
        assert_eq!(format!("{}.daxfs", digest.text().trim()), *pack);
        // On a mount of it, only root sees anything.
        place.prints(format!("daxfs stat store/packs/{pack} /"), "0700/d");
    }
    // Each file's object is in a pack, its size and attributes are in the image.
    for file in ["small", "copy", "hard", "dir/large", "dir/version"] {
        let content = place.read(format!("v1/{file}"));
        let name = URL_SAFE_NO_PAD.encode(Sha256::digest(&content));
        let objects = packs
            .iter()
            .map(|pack| place.run(format!("daxfs cat store/packs/{pack} /{name}")));
        let found: Vec<_> = objects.filter(|run| run.status == 0).collect();
        assert_eq!(found.len(), 1, "{file}");
        assert!(found[0].stdout == content, "{file}");
        let size = format!("Size: {}", content.len());
        place.prints(format!("daxfs stat image /{file}"), &size);
    }
    // The image itself contains none of the content.
    assert!(place.read("image").len() < 16384);
    let why = "has file data in the pack with the SHA-256 ";
    let line = place.fails("daxfs store add store x image", why);
    assert!(packs.iter().any(|pack| line.contains(&pack[..64])));
    // The order of an archive does not matter.
    place.ok("(cd v1 && find . | sort -r | tar --no-recursion --format=pax --xattrs -T - -cf ../reversed)");
    place.ok("daxfs store add reverse image reversed");
    place.ok("cmp store/images/image.daxfs reverse/images/image.daxfs");
    // Another store contains the same images.
    place.ok("daxfs store add other image v1");
    place.ok("diff -r store other");
}

/// Returns a member of a tar archive.
fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    feed::member(name.as_bytes(), kind, b"", 0o644, content)
}

/// Returns a pax header with an extended attribute of the next member.
fn attribute(name: &str, value: &str) -> Vec<u8> {
    let key = format!("SCHILY.xattr.{name}");
    member("pax", b'x', &feed::records(&[(&key, value.as_bytes())]))
}

/// Mounts show overlayfs's attributes and whiteouts unchanged from the source.
#[test]
fn attributes_of_overlayfs() {
    let place = versions();
    let mut whiteout = member("dir/removed", b'3', b"");
    // The device numbers.
    whiteout[329..345].fill(0);
    feed::seal(&mut whiteout);
    let archive = [
        attribute("trusted.overlay.redirect", "/else/where"),
        member("file", b'0', b"content"),
        attribute("trusted.overlay.opaque", "y"),
        member("dir/", b'5', b""),
        whiteout,
        vec![0; 1024],
    ];
    place.write("archive", archive.concat());
    add(&place, "image", "archive", "");
    for (path, part) in [
        ("file", "trusted.overlay.redirect=/else/where"),
        ("dir", "trusted.overlay.opaque=y"),
        ("dir/removed", "Type: character-device"),
    ] {
        place.prints(format!("daxfs stat store/images/image.daxfs /{path}"), part);
    }
    verify(&place);
}

#[test]
fn names_and_owners() {
    let place = versions();
    add(&place, "base", "v1", "");
    place.ok("daxfs store init --size 4M disk");
    let long = "n".repeat(64);
    for name in [
        "", ".", "..", ".hidden", "a/b", "../a", "a b", "a,b", "a\nb", "ä", &long,
    ] {
        for line in [
            "add store \"$name\" v1",
            "add disk \"$name\" v1",
            "activate store \"$name\"",
            "remove store \"$name\"",
        ] {
            let line = format!("name='{name}'; daxfs store {line}");
            place.fails(line, "is not a name for an image");
        }
    }
    place.mistakes(
        "daxfs store add store base v1 | 1 | is in the store; use another name
        daxfs store remove store none | 1 | no such image
        daxfs store activate store none | 1 | no such image
        daxfs store init store | 1 | store: is a store already
        daxfs store init v1 | 1 | neither a store nor an empty directory
        daxfs store add --reuse always store x v1 | 1 | --reuse: is for devices; daxfs store gc frees
        daxfs store list v1 | 1 | is not a store
        daxfs store gc v1 | 1 | is not a store
        daxfs store verify v1 | 1 | is not a store
        daxfs store add v1 x v1 | 1 | neither a store nor an empty directory
        daxfs store add v1/small/x x v1 | 1 | Not a directory; a file is on the way: name another directory
        daxfs store add none/store x v1 | 1 | No such file or directory; create its parent directory first
        # The store itself is no source.
        daxfs store add store x store | 1 | store",
    );
    // One process at a time changes it.
    let lock = fs::File::open(place.path("store/lock")).unwrap();
    flock(&lock, FlockOperation::LockShared).unwrap();
    let other = "another process uses this store";
    place.fails("daxfs store gc --no-wait store", other);
    place.fails("daxfs store add --no-wait store x v1", other);
    verify(&place);
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    place.fails("daxfs store verify --no-wait store", other);
    place.fails("daxfs store remove --no-wait store base", other);
    place.fails("daxfs store activate --no-wait store base", other);
    // Listing and mounting images does not wait for an addition.
    place.prints("daxfs store list store", "\nbase ");
}

#[test]
fn active_images() {
    let place = versions();
    place.ok("daxfs store init store");
    is_empty(&place);
    let active_after = |line: &str| {
        place.ok(line);
        let list = place.ok("daxfs store list store | awk '$2 == \"active\" { print $1 }'");
        list.text().to_owned()
    };
    add(&place, "v1", "--activate v1", "");
    assert_eq!(active_after("daxfs store add store v2 v2 >added"), "v1\n");
    for name in ["v2", "v1", "v2"] {
        let line = format!("daxfs store activate store {name}");
        assert_eq!(active_after(&line), format!("{name}\n"));
        let target = fs::read_link(place.path("store/active")).unwrap();
        assert_eq!(target, Path::new("images").join(format!("{name}.daxfs")));
    }
    // A removed image is not active.
    assert_eq!(active_after("daxfs store remove store v1"), "v2\n");
    place.ok("cp store/active v2.daxfs && daxfs store remove store v2 && [ ! -L store/active ]");
    assert_eq!(active_after("mv v2.daxfs store/images"), "");
    // Anything else in its place is reported and replaced.
    let not_a_link = || {
        for command in ["list", "verify"] {
            let why =
                "store/active: is not a link to an image of the store; remove it, or use daxfs";
            let run = place.says(format!("daxfs store {command} store"), 1, why);
            assert!(!run.text().is_empty(), "{run:?}");
        }
    };
    for target in ["images/none", "images/../v1.daxfs", "/images/v2.daxfs"] {
        place.ok(format!("ln -sfn {target} store/active"));
        not_a_link();
        assert_eq!(active_after("daxfs store activate store v2"), "v2\n");
    }
    place.ok("rm store/active; echo >store/active");
    not_a_link();
    assert_eq!(active_after("daxfs store activate store v2"), "v2\n");
    // An image that cannot be mounted is not active, either.
    place.ok("mv store/packs away; mkdir store/packs");
    place.fails("daxfs store activate store v2", "v2: needs pack ");
    place.ok("rmdir store/packs; mv away store/packs; echo >store/images/empty.daxfs");
    place.fails("daxfs store activate store empty", "empty.daxfs: ");
    let line = "rm store/images/{empty,v2}.daxfs; daxfs store verify store";
    let why = "store: v2 is active, but missing; use daxfs store activate";
    place.says(line, 1, why);
}

#[test]
fn damaged_files() {
    let place = versions();
    write(&place, "other/file", &[9; 1000]);
    add(&place, "v1", "v1", "");
    place.ok("ln -s $(realpath $(ls -S store/packs/* | head -n 1)) large");
    add(&place, "v2", "v2", "");
    let pack = place.read("large");
    let problems = |count: usize, part: &str| {
        let run = place.says("daxfs store verify store", 1, part);
        let expected = format!(": {count} problems\n");
        assert!(run.text().ends_with(&expected), "{run:?}");
        assert_eq!(run.stderr.lines().count(), count, "{run:?}");
        run.stderr
    };
    // A byte of an object.
    let object = pack.windows(64).position(|bytes| bytes == [7; 64]).unwrap();
    let damage = |at: usize| {
        let mut damaged = pack.clone();
        damaged[at] ^= 1;
        place.write("large", damaged);
    };
    damage(object);
    assert!(problems(3, "SHA-256 is").contains("is missing or damaged"));
    // The sums with which mounts verify its pieces.
    let info = place.ok("daxfs info --json large").json();
    damage(info["total_size"].as_u64().unwrap() as usize + 5);
    problems(3, "the sum of its piece 0 is wrong");
    // Its metadata. The next image does not need the pack, or has the same objects and repairs it.
    damage(4096 + 70);
    let damaged = place.read("large");
    let path = fs::read_link(place.path("large")).unwrap();
    let path = path.file_name().unwrap().to_str().unwrap();
    for damaged in [&damaged[..], &pack[..5000], b"no image"] {
        place.write("large", damaged);
        problems(3, path);
        for (name, source) in [("other", "other"), ("v3", "v1")] {
            let line = format!("daxfs store add store {name} {source}");
            let added = place.says(line, 0, "daxfs store verify");
            let warning = format!("daxfs: warning: store/packs/{path}: ");
            assert!(added.stderr.starts_with(&warning), "{added:?}");
        }
        verify(&place);
        assert!(place.read("large") == pack);
        remove(&place, "other v3");
    }
    place.write("large", &damaged);
    problems(3, "metadata checksum mismatch");
    // Truncated, and missing.
    place.write("large", &pack[..pack.len() / 2]);
    problems(3, "copy all of it");
    place.ok("rm $(realpath large)");
    problems(2, "is missing or damaged");
    // Under a wrong name.
    let other = format!("store/packs/{}.daxfs", "0".repeat(64));
    place.write(other, &pack);
    problems(3, "is not the pack with this SHA-256");
    place.write("large", &pack);
    place.ok("daxfs store gc store");
    verify(&place);
    // gc does not know what an image needs if it is truncated, or has another pack in its table.
    let image = "store/images/v1.daxfs";
    let bytes = place.read(image);
    let mut other = bytes.clone();
    let at = bytes
        .windows(32)
        .position(|bytes| daxfs_files::digest::hex(bytes) == path[..64]);
    other[at.unwrap()] ^= 1;
    let listed = |line: &str, printed: &str, said: &[&str]| {
        let run = place.run(line);
        assert!(run.status == 1 && run.text().contains(printed), "{run:?}");
        assert_eq!(run.stderr.lines().count(), said.len(), "{run:?}");
        let lines = run.stderr.lines().zip(said);
        lines.for_each(|(line, part)| assert!(line.contains(part), "{part}: {run:?}"));
    };
    for (damaged, why) in [
        (&bytes[..4096], "store/images/v1.daxfs: "),
        (&other, "checksum mismatch"),
    ] {
        place.write(image, damaged);
        place.ok("cp large store/packs/.mkdaxfs-1.tmp; daxfs store remove store v2");
        let kept = "store: keeps all packs, because images that cannot be read may need them; ";
        let removed = "removed 0 packs, 1 unfinished files";
        listed("daxfs store gc store", removed, &[why, kept]);
        assert_eq!(place.names("store/packs").len(), 3);
        add(&place, "v2", "v2", "0 objects");
        listed("daxfs store list store", "\nv2 ", &[why]);
    }
    remove(&place, "v1");
    assert_eq!(place.names("store/packs").len(), 3);
    place.write(image, &bytes);
    // The remedy that verify and add recommend.
    damage(object);
    problems(
        3,
        "remove all images that need it, run daxfs store gc, and add them again",
    );
    remove(&place, "v1 v2");
    add(&place, "v1", "v1", "");
    verify(&place);
    place.ok("rm $(realpath large)");
    write(&place, "other/file", b"no image needs it");
    add(&place, "other", "other", "");
    place.ok("daxfs store remove store other");
    let why = "v1: needs pack ";
    let removed = "removed 1 packs, 0 unfinished files";
    listed("daxfs store gc store", removed, &[why]);
    listed("daxfs store list store", "\nv1 ", &[why]);
    remove(&place, "v1");
    verify(&place);
}

/// An image uses only packs of which it needs half, with little else in all, as they are loaded
/// whole.
#[test]
fn parts_of_packs() {
    let place = versions();
    let said = |[new, known]: [&str; 2], packs: u8| {
        format!("{new} are new, {known} were present; {packs} packs")
    };
    let whole = said(["0 objects (0)", "1 (196K)"], 1);
    let again = said(["1 objects (196K)", "0 (0)"], 1);
    let small = said(["1 objects (20K)", "0 (0)"], 1);
    let both = said(["1 objects (3.9M)", "1 (196K)"], 2);
    for (number, needed, more, other, said) in [
        (1, 200_001, 60_000, 0, &whole),
        (2, 200_002, 70_000, 0, &again),
        (3, 20_000, 30_000, 0, &small),
        (4, 200_003, 70_001, 4_000_000, &both),
    ] {
        let all = format!("all-{number}");
        write(&place, &format!("{all}/needed"), &vec![number; needed]);
        write(&place, &format!("{all}/more"), &vec![number; more]);
        add(&place, &all, &all, "2 objects");
        write(&place, &format!("{number}/needed"), &vec![number; needed]);
        if other > 0 {
            write(&place, &format!("{number}/other"), &vec![number; other]);
        }
        add(&place, &number.to_string(), &number.to_string(), said);
    }
    // Content that was stored again has its own pack, which the next image uses.
    write(&place, "next/needed", &vec![2; 200_002]);
    write(&place, "next/other", b"of the next");
    let said = "1 objects (11) are new, 1 (196K) were present; 2 packs";
    add(&place, "next", "next", said);
    verify(&place);
}

/// Files slightly larger than a huge page do not occupy two; larger ones are aligned for them.
#[test]
fn dense_packs() {
    let place = place("mkdir small large");
    let huge = 2 << 20;
    for number in 0..5 {
        write(&place, &format!("small/{number}"), &vec![number; huge + 1]);
    }
    add(&place, "small", "small", "");
    let packs = place.names("store/packs").into_iter();
    let sizes = packs.map(|pack| place.read(format!("store/packs/{pack}")).len());
    let size: usize = sizes.sum();
    assert!(size < 5 * huge + (128 << 10), "{size}");
    remove(&place, "small");
    write(&place, "large/file", &vec![9; 9 * huge]);
    add(&place, "large", "large", "");
    let dump = place.ok("daxfs dump store/packs/*").json();
    let offsets = dump["files"].as_array().unwrap().iter();
    let offsets: Vec<_> = offsets
        .filter_map(|file| file["data_offset"].as_u64())
        .collect();
    assert_eq!(offsets, [huge as u64]);
}

/// Other users cannot lock a store, even a readable one. If the first addition was killed, a store
/// has no directories.
#[test]
fn new_stores() {
    let place = versions();
    place.ok("mkdir store");
    chmod(place.path("store"), 0o755);
    add(&place, "v1", "v1", "");
    assert_eq!(who(&place.path("store/lock")).2, 0o600);
    place.ok("rm -r store/images store/packs");
    verify(&place);
    add(&place, "v1", "v1", "");
    verify(&place);
}

/// Directories in a store are not ours, whatever their names.
#[test]
fn directories() {
    let place = versions();
    let ours = "mkdir -p store/{images,packs}/{x.daxfs,.mkdaxfs-1.tmp}";
    add(&place, "v1", "v1", "");
    place.ok(ours);
    add(&place, "v2", "v2", "1 objects");
    place.prints("daxfs store list store", "\nv1 ");
    verify(&place);
    remove(&place, "v1 v2");
    for inner in ["images", "packs"] {
        let names = place.names(&format!("store/{inner}"));
        assert_eq!(names, [".mkdaxfs-1.tmp", "x.daxfs"]);
    }
    // They are neither replaced nor removed.
    let why = "x: is in the store; use another name";
    place.fails("daxfs store add store x v1", why);
    place.fails("daxfs store remove store x", "x.daxfs: ");
}

/// Power may be lost at any time: a store's directories are durable before its first file.
#[test]
fn durable_stores() {
    let place = versions();
    if !available("strace") {
        return;
    }
    place.ok("strace -f -y -o calls -e trace=fsync,openat daxfs store add store v1 v1");
    let calls = String::from_utf8(place.read("calls")).unwrap();
    let top = place.path("store/..").canonicalize().unwrap();
    let store = top.join("store");
    let at = |part: &str| calls.find(part).expect(part);
    let synced = |path: &Path| at(&format!("<{}>) ", path.display()));
    let lock = at("\"store/lock\", O_WRONLY|O_CREAT");
    assert!(synced(&top) < lock && lock < synced(&store), "{calls}");
    assert!(synced(&store) < at("store/packs/.mkdaxfs-"), "{calls}");
    // An image that is in place but maybe not durable has its packs. The link to the active image
    // is replaced, and then made durable.
    place.ok("strace -f -y -o calls -e trace=/^rename,fsync daxfs store activate store v1");
    let calls = String::from_utf8(place.read("calls")).unwrap();
    let renamed = calls.find("\"store/.active.tmp\"").unwrap();
    let synced = calls.rfind(&format!("<{}>) ", store.display()));
    assert!(synced.unwrap() > renamed, "{calls}");
    let path = store.join("images").display().to_string();
    let fault = format!("strace -f -o calls -P {path} -e inject=fsync:error=EIO");
    let why = "store/images: cannot sync the directory: Input/output error";
    place.fails(format!("{fault} daxfs store add store v2 v2"), why);
    verify(&place);
}

/// Links by other users would lead root to other files. Root may read such a store.
#[test]
fn stores_of_others() {
    let place = versions();
    add(&place, "v1", "v1", "");
    for who in ["g", "o"] {
        for dir in ["store", "store/images", "store/packs"] {
            place.ok(format!("chmod {who}+w {dir}"));
            for command in ["gc store", "add store v2 v2"] {
                let why = format!("{dir}: its group or every user may write to it; use chmod go-w");
                place.fails(format!("daxfs store {command}"), &why);
            }
            place.ok(format!("chmod go-w {dir}"));
        }
    }
    if is_root() {
        place.ok("chown -R 1000 store");
        let why = "store: belongs to user 1000; change the store as that user";
        for command in [
            "gc store",
            "add store v2 v2",
            "remove store v1",
            "activate store v1",
        ] {
            place.fails(format!("daxfs store {command}"), why);
        }
        verify(&place);
        place.ok("chown -R 0 store");
    }
    place.ok("rm store/lock && ln -s /dev/zero store/lock");
    place.fails("daxfs store list store", "store/lock: ");
    place.ok("rm store/lock && mkfifo store/lock && timeout 9 daxfs store list store");
}

/// A small file that claims to be larger than any disk is refused immediately.
#[test]
fn enormous_files() {
    let place = place("mkdir source");
    // Not all filesystems support such large files.
    if place.run("truncate --size 8T source/file").status == 0 {
        let why = "has 8796093022208 bytes, and the filesystem of the store ";
        place.fails("daxfs store add store x source", why);
    }
}

/// Whenever a command is killed, all images are complete, and gc finds all remains.
#[test]
fn kills() {
    let place = versions();
    add(&place, "kept", "v1", "");
    // Microseconds within which half of the commands finish, whether the machine is fast or slow.
    let mut most = 30_000;
    let mut state = 12345_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        (state >> 8) % below
    };
    let mut killed = 0;
    for round in 0..60 {
        let number = round % 4;
        for (name, size) in [("file", 500_000), ("small", 10)] {
            let content = vec![round as u8; size];
            write(&place, &format!("source-{number}/{name}"), &content);
        }
        let words = match random(4) {
            0 => "gc store".to_owned(),
            1 => format!("remove store image-{number}"),
            _ => format!("add store image-{number} source-{number}"),
        };
        let mut command = place.command("daxfs");
        command.arg("store").args(words.split(' '));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random(most).into()));
        child.kill().unwrap();
        let was_killed = child.wait().unwrap().signal() == Some(9);
        killed += usize::from(was_killed);
        most = if was_killed {
            most * 5 / 4
        } else {
            (most * 4 / 5).max(500)
        };
        if round % 3 == 0 {
            place.ok("daxfs store gc store");
            verify(&place);
        }
    }
    let _ = writeln!(std::io::stdout(), "{killed} commands killed");
    assert!(killed > 10, "{killed}");
    verify(&place);
    remove(&place, "$(ls store/images | sed 's/[.]daxfs$//')");
    is_empty(&place);
}
