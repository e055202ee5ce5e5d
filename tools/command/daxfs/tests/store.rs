// SPDX-License-Identifier: GPL-2.0-only

//! Stores: `daxfs store` without the kernel. tests/store mounts them.

use crate::json::check;
use crate::support::{chmod, fail, run, succeed, who, Run, DAXFS};
use daxfs_testing::{feed, scratch};
use rustix::fs::{flock, FlockOperation};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A directory with a store and sources of images.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place {
            directory: scratch(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// Write the file `name` of the source `source`.
    fn write(&self, source: &str, name: &str, content: &[u8]) {
        let path = self.path(source).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Make the source of a first and a second version.
    fn versions(&self) {
        for source in ["v1", "v2"] {
            self.write(source, "small", b"the same");
            self.write(source, "copy", b"the same");
            self.write(source, "empty", b"");
            self.write(source, "dir/large", &[7; 3_000_000]);
            self.write(source, "dir/version", source.as_bytes());
            std::os::unix::fs::symlink("large", self.path(source).join("dir/link")).unwrap();
            fs::hard_link(
                self.path(source).join("small"),
                self.path(source).join("hard"),
            )
            .unwrap();
        }
    }

    /// Run `daxfs store COMMAND STORE WORD...`, which must succeed.
    fn store(&self, command: &str, words: &[&str]) -> Run {
        let store = self.text("store");
        succeed(&[&["store", command, &store][..], words].concat())
    }

    /// The same, which must fail with a message.
    fn fails(&self, command: &str, words: &[&str]) -> String {
        let store = self.text("store");
        fail(&[&["store", command, &store][..], words].concat(), 1)
    }

    /// Add a source as the image `name`, and return the line about it.
    fn add(&self, name: &str, source: &str) -> String {
        self.store("add", &[name, &self.text(source)]).text().into()
    }

    /// Return the files of packs.
    fn packs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("store/packs")).unwrap();
        let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        packs.sort();
        packs
    }

    fn verify(&self) {
        let said = self.store("verify", &[]);
        assert!(said.text().ends_with(": 0 problems\n"), "{said:?}");
    }
}

#[test]
fn versions_share_their_objects() {
    let place = Place::new();
    place.versions();
    let first = place.add("base-1", "v1");
    assert!(
        first.ends_with("base-1: 3 objects (2.9M) are new, 0 (0) were there; 1 packs\n"),
        "{first}"
    );
    let second = place.add("base-2", "v2");
    assert!(
        second.ends_with("base-2: 1 objects (2) are new, 2 (2.9M) were there; 2 packs\n"),
        "{second}"
    );
    // The same content needs no pack.
    let third = place.add("again", "v2");
    assert!(
        third.contains("again: 0 objects (0) are new, 3 (2.9M) were there; 2 packs"),
        "{third}"
    );
    assert_eq!(third.split(' ').next(), second.split(' ').next());
    assert_eq!(place.packs().len(), 2);
    place.verify();

    let list = place.store("list", &["--json"]).json();
    check("daxfs-store-1", &list);
    let images = list["images"].as_array().unwrap();
    let names: Vec<_> = images.iter().map(|image| &image["name"]).collect();
    assert_eq!(names, ["again", "base-1", "base-2"]);
    let number = |index: usize, member: &str| images[index][member].as_u64().unwrap();
    assert!(number(1, "size") > 3_000_000 && number(1, "own") < 100_000);
    assert!(first.starts_with(images[1]["sha256"].as_str().unwrap()));
    assert!(place.store("list", &[]).text().contains("\nbase-1 "));

    // The first pack is needed as long as one image needs it.
    for (name, files) in [("base-1", 0), ("again", 0), ("base-2", 2)] {
        place.store("remove", &[name]);
        let said = place.store("gc", &[]);
        assert!(
            said.text().starts_with(&format!("removed {files} files")),
            "{said:?}"
        );
        place.verify();
    }
    assert_eq!(place.packs().len(), 0);
}

#[test]
fn metadata_images() {
    let place = Place::new();
    place.versions();
    place.add("image", "v1");
    let image = place.text("store/images/image.daxfs");
    let dump = succeed(&["dump", &image]).json();
    let mut found = 0;
    for file in dump["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let attribute = |name: &str| {
            let mut xattrs = file["xattrs"].as_array().into_iter().flatten();
            xattrs
                .find(|xattr| xattr["name"] == format!("trusted.overlay.{name}"))
                .map(|xattr| xattr["value"].as_str().unwrap().to_owned())
        };
        if path == "/" {
            let packs = attribute("daxfs.packs").unwrap();
            let id = place.packs()[0]
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let pack = succeed(&["digest", place.packs()[0].to_str().unwrap()]);
            assert_eq!(packs, format!("{id} {}", pack.text()));
        }
        if file["type"] != "file" || file["size"] == 0 {
            assert_eq!((attribute("metacopy"), attribute("redirect")), (None, None));
            continue;
        }
        found += 1;
        let content = fs::read(place.path("v1").join(&path[1..])).unwrap();
        let sum = daxfs_check::digest::hex(&Sha256::digest(&content));
        assert_eq!(attribute("metacopy").as_deref(), Some(""));
        let redirect = attribute("redirect").unwrap();
        let object = succeed(&["cat", place.packs()[0].to_str().unwrap(), &redirect]);
        assert!(
            redirect.ends_with(&sum) && object.stdout == content,
            "{path}"
        );
        assert_eq!(file["size"], content.len());
        let line = fail(&["cat", &image, path], 1);
        assert!(
            line.contains("file data in another image") && line.contains(path),
            "{line}"
        );
    }
    assert_eq!(found, 5);
    let info = succeed(&["info", &image]);
    assert!(
        info.text().contains("File data:      in other images"),
        "{info:?}"
    );
    let line = fail(&["store", "add", &place.text("store"), "x", &image], 1);
    assert!(line.contains("file data in another image"), "{line}");
    // Another store has the same images.
    succeed(&[
        "store",
        "add",
        &place.text("other"),
        "image",
        &place.text("v1"),
    ]);
    let pack = place.packs()[0].file_name().unwrap().to_owned();
    for file in [
        PathBuf::from("images/image.daxfs"),
        Path::new("packs").join(pack),
    ] {
        let read = |store: &str| fs::read(place.path(store).join(&file)).unwrap();
        assert!(read("store") == read("other"), "{file:?}");
    }
}

/// Return a member of a tar archive.
fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    feed::member(name.as_bytes(), kind, b"", 0o644, content)
}

/// Return a pax header with an extended attribute for the next member.
fn attribute(name: &str, value: &str) -> Vec<u8> {
    let key = format!("SCHILY.xattr.{name}");
    member("pax", b'x', &feed::records(&[(&key, value.as_bytes())]))
}

/// The author of an image can neither point to objects of other images nor hide files.
#[test]
fn attributes_of_overlayfs() {
    let place = Place::new();
    place.versions();
    place.add("secret", "v1");
    let archive = [
        attribute("trusted.overlay.daxfs.packs", "forged"),
        member("./", b'5', b""),
        attribute("trusted.overlay.redirect", "/else/where"),
        member("file", b'0', b"content"),
        attribute("trusted.overlay.metacopy", ""),
        member("empty", b'0', b""),
        attribute("trusted.overlay.overlay.opaque", "y"),
        member("dir/", b'5', b""),
        attribute("trusted.overlays", "kept"),
        member("other", b'0', b"content"),
    ];
    fs::write(
        place.path("archive"),
        [&archive.concat()[..], &[0; 1024]].concat(),
    )
    .unwrap();
    place.add("image", "archive");
    let image = place.text("store/images/image.daxfs");
    let stat = |path: &str| succeed(&["stat", &image, path]).text().to_owned();
    assert!(stat("/").contains("trusted.overlay.overlay.daxfs.packs=forged"));
    let file = stat("/file");
    assert!(
        file.contains("trusted.overlay.overlay.redirect=/else/where"),
        "{file}"
    );
    assert_eq!(file.matches("trusted.overlay.redirect=/").count(), 1);
    assert!(!file.contains("trusted.overlay.redirect=/else"));
    assert!(stat("/empty").contains("trusted.overlay.overlay.metacopy="));
    assert!(!stat("/empty").contains("trusted.overlay.metacopy="));
    assert!(stat("/dir").contains("trusted.overlay.overlay.overlay.opaque=y"));
    assert!(stat("/other").contains("trusted.overlays=kept"));
    place.verify();

    let mut whiteout = member("dir/removed", b'3', b"");
    // The numbers of the device.
    whiteout[329..345].fill(0);
    feed::seal(&mut whiteout);
    let archive = [whiteout, vec![0; 1024]].concat();
    fs::write(place.path("archive"), archive).unwrap();
    let line = place.fails("add", &["whiteout", &place.text("archive")]);
    assert!(
        line.contains("dir/removed: is a character device 0:0") && line.contains("--exclude"),
        "{line}"
    );
    let archive = place.text("archive");
    place.store("add", &["whiteout", "--exclude", "removed", &archive]);
}

#[test]
fn names_and_owners() {
    let place = Place::new();
    place.versions();
    place.add("base", "v1");
    let source = place.text("v1");
    let long = "n".repeat(64);
    for name in [
        "", ".", "..", ".hidden", "a/b", "../a", "a b", "a\nb", "ä", &long,
    ] {
        for line in [
            place.fails("add", &[name, &source]),
            place.fails("remove", &[name]),
            place.fails("mount", &[name, "/"]),
        ] {
            assert!(
                line.contains("is not a name for an image"),
                "{name:?}: {line}"
            );
        }
    }
    assert!(place
        .fails("add", &["base", &source])
        .contains("is in the store; use another name"));
    assert!(place.fails("remove", &["none"]).contains("no such image"));
    for command in ["list", "gc", "verify"] {
        let line = fail(&["store", command, &source], 1);
        assert!(line.contains("is not a store"), "{line}");
    }
    let line = fail(&["store", "add", &source, "x", &source], 1);
    assert!(
        line.contains("neither a store nor an empty directory"),
        "{line}"
    );
    // The store itself is no source.
    let line = place.fails("add", &["x", &place.text("store")]);
    assert!(line.contains("store"), "{line}");

    // One process at a time changes it.
    let lock = fs::File::open(place.path("store/lock")).unwrap();
    flock(&lock, FlockOperation::LockShared).unwrap();
    assert!(place
        .fails("gc", &[])
        .contains("another process uses this store"));
    assert!(place
        .fails("add", &["x", &source])
        .contains("another process uses this store"));
    place.verify();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert!(place
        .fails("list", &[])
        .contains("another process uses this store"));
}

#[test]
fn damaged_files() {
    let place = Place::new();
    place.versions();
    place.write("other", "file", &[9; 1000]);
    place.add("v1", "v1");
    place.add("v2", "v2");
    let packs = place.packs();
    let large = packs
        .iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap();
    let pack = fs::read(large).unwrap();
    let problems = |count: usize, texts: &[&str]| {
        let run = run(&["store", "verify", &place.text("store")]);
        let expected = format!(": {count} problems\n");
        assert!(
            run.status == 1 && run.text().ends_with(&expected),
            "{run:?}"
        );
        for text in texts {
            assert!(run.stderr.contains(text), "{text}: {run:?}");
        }
        assert_eq!(run.stderr.lines().count(), count, "{run:?}");
    };
    // A byte of an object.
    let mut damaged = pack.clone();
    let object = pack.windows(64).position(|bytes| bytes == [7; 64]);
    damaged[object.unwrap()] = 8;
    fs::write(large, &damaged).unwrap();
    problems(3, &["SHA-256 is", "is missing or damaged"]);
    // The sums that mounts verify its pieces by.
    let mut damaged = pack.clone();
    let info = succeed(&["info", "--json", large.to_str().unwrap()]).json();
    damaged[info["total_size"].as_u64().unwrap() as usize + 5] ^= 1;
    fs::write(large, &damaged).unwrap();
    problems(3, &["the sum of its piece 0 is wrong"]);
    // Its metadata. The next image does not need them, or has the same objects and repairs them.
    let mut damaged = pack.clone();
    damaged[4096 + 70] ^= 1;
    for damaged in [&damaged[..], &pack[..5000], b"no image"] {
        fs::write(large, damaged).unwrap();
        problems(3, &[large.to_str().unwrap()]);
        for (name, source) in [("other", "other"), ("v3", "v1")] {
            let words = ["store", "add", &place.text("store"), name];
            let added = run(&[&words[..], &[&place.text(source)]].concat());
            assert_eq!(added.status, 0, "{added:?}");
            let warning = format!("daxfs: warning: {}: ", large.display());
            assert!(added.stderr.starts_with(&warning), "{added:?}");
            assert!(added.stderr.contains("daxfs store verify"), "{added:?}");
        }
        place.verify();
        assert!(fs::read(large).unwrap() == pack);
        for name in ["other", "v3"] {
            place.store("remove", &[name]);
        }
        place.store("gc", &[]);
    }
    fs::write(large, &damaged).unwrap();
    problems(3, &["metadata checksum mismatch"]);
    // Cut, and gone.
    fs::write(large, &pack[..pack.len() / 2]).unwrap();
    problems(3, &["copy all of it"]);
    fs::remove_file(large).unwrap();
    problems(2, &["is missing or damaged"]);
    // Under another name.
    fs::write(
        large.with_file_name(format!("{}.daxfs", "0".repeat(32))),
        &pack,
    )
    .unwrap();
    problems(3, &["is not this pack"]);
    fs::write(large, &pack).unwrap();
    place.store("gc", &[]);
    place.verify();
    // gc does not know what an image needs: one that is cut, or names another pack.
    let image = place.path("store/images/v1.daxfs");
    let bytes = fs::read(&image).unwrap();
    let id = large.file_stem().unwrap().to_str().unwrap().as_bytes();
    let mut other = bytes.clone();
    let at = bytes.windows(32).position(|text| text == id).unwrap();
    other[at] = if id[0] == b'1' { b'2' } else { b'1' };
    for (damaged, why) in [
        (&bytes[..4096], "copy all of it"),
        (&other, "checksum mismatch"),
    ] {
        fs::write(&image, damaged).unwrap();
        assert!(place.fails("gc", &[]).contains(why));
        assert_eq!(place.packs().len(), 2);
    }
    fs::write(&image, &bytes).unwrap();
    // The way out that verify and add recommend.
    let mut damaged = pack.clone();
    damaged[object.unwrap()] = 8;
    fs::write(large, &damaged).unwrap();
    problems(
        3,
        &["remove all images that need it, run daxfs store gc, and add them again"],
    );
    place.store("remove", &["v1"]);
    place.store("remove", &["v2"]);
    place.store("gc", &[]);
    place.add("v1", "v1");
    place.verify();
    fs::remove_file(large).unwrap();
    assert!(place
        .fails("gc", &[])
        .contains("which is missing; restore it"));
    place.store("remove", &["v1"]);
    place.store("gc", &[]);
    place.verify();
}

/// A pack is in memory as a whole, so an image uses a pack only if it needs half of it.
#[test]
fn parts_of_packs() {
    let place = Place::new();
    place.versions();
    place.add("v1", "v1");
    for (size, said) in [
        (
            1_499_000,
            "1 objects (7) are new, 1 (1.5M) were there; 2 packs",
        ),
        (
            1_501_000,
            "2 objects (1.5M) are new, 0 (0) were there; 2 packs",
        ),
    ] {
        let name = size.to_string();
        place.write(&format!("all-{name}"), "needed", &vec![1; 3_000_000 - size]);
        place.write(&format!("all-{name}"), "more", &vec![2; size]);
        place.add(&format!("all-{name}"), &format!("all-{name}"));
        place.write(&name, "needed", &vec![1; 3_000_000 - size]);
        place.write(&name, "new", name.as_bytes());
        let added = place.add(&name, &name);
        assert!(added.contains(said), "{added}");
    }
    // Content that was stored again has a pack of its own, which the next image uses.
    place.write("next", "needed", &vec![1; 1_499_000]);
    place.write("next", "other", b"of the next");
    let added = place.add("next", "next");
    let said = "next: 1 objects (11) are new, 1 (1.5M) were there; 2 packs";
    assert!(added.contains(said), "{added}");
    place.write("tiny", "copy", b"the same");
    let added = place.add("tiny", "tiny");
    let said = "tiny: 1 objects (8) are new, 0 (0) were there; 1 packs";
    assert!(added.contains(said), "{added}");
    place.verify();
}

/// Objects of many packs are stored again, so that an image needs no more than overlayfs can search.
#[test]
fn many_packs() {
    let place = Place::new();
    for number in 0..70 {
        let name = number.to_string();
        let content = vec![number; 100 + usize::from(number)];
        place.write("all", &name, &content);
        place.write(&name, "file", &content);
        place.add(&name, &name);
    }
    let all = place.add("all", "all");
    // The 62 packs with most of the image, and one for what others have.
    assert!(
        all.contains("all: 8 objects (828) are new, 62 (") && all.ends_with("63 packs\n"),
        "{all}"
    );
    place.verify();
}

/// No image and no temporary file remains of an addition for which there is no room.
#[test]
fn no_room() {
    let place = Place::new();
    place.versions();
    let script = format!(
        "ulimit -f 100; exec '{DAXFS}' store add '{}' x '{}'",
        place.text("store"),
        place.text("v1")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(
        (
            place.packs().len(),
            fs::read_dir(place.path("store/images")).unwrap().count()
        ),
        (0, 0)
    );
    place.add("x", "v1");
}

/// Other users cannot lock a store, also in a directory that they can read. A store without directories is one whose
/// first addition was killed.
#[test]
fn new_stores() {
    let place = Place::new();
    place.versions();
    fs::create_dir(place.path("store")).unwrap();
    chmod(place.path("store"), 0o755);
    place.add("v1", "v1");
    assert_eq!(who(&place.path("store/lock")).2, 0o600);
    for inner in ["images", "packs"] {
        fs::remove_dir_all(place.path("store").join(inner)).unwrap();
    }
    place.verify();
    place.add("v1", "v1");
    place.verify();
}

/// A small file that claims more bytes than any disk has is refused at once.
#[test]
fn enormous_files() {
    let place = Place::new();
    let file = place.path("source/file");
    place.write("source", "file", b"");
    let file = fs::File::options().write(true).open(file).unwrap();
    // Not all filesystems have so large files.
    if file.set_len(1 << 43).is_ok() {
        let why = place.fails("add", &["x", &place.text("source")]);
        assert!(
            why.contains("has 8796093022208 bytes, and the filesystem of the store "),
            "{why}"
        );
    }
}

/// Whenever a command is killed, all images are complete, and nothing remains that gc does not find.
#[test]
fn kills() {
    let place = Place::new();
    place.versions();
    place.add("kept", "v1");
    // Microseconds that half of the commands take; the machine may be fast or slow.
    let mut most = 30_000;
    let mut state = 12345_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        (state >> 8) % below
    };
    let mut killed = 0;
    for round in 0..60 {
        let source = format!("source-{}", round % 4);
        place.write(&source, "file", &vec![round as u8; 500_000]);
        place.write(&source, "small", &[round as u8; 10]);
        let name = format!("image-{}", round % 4);
        let store = place.text("store");
        let words = match random(4) {
            0 => vec!["gc".to_owned(), store],
            1 => vec!["remove".to_owned(), store, name],
            _ => vec!["add".to_owned(), store, name, place.text(&source)],
        };
        let mut command = Command::new(DAXFS);
        command
            .arg("store")
            .args(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random(most).into()));
        child.kill().unwrap();
        let was_killed = child.wait().unwrap().signal() == Some(9);
        killed += usize::from(was_killed);
        most = match was_killed {
            true => most * 5 / 4,
            false => (most * 4 / 5).max(500),
        };
        if round % 3 == 0 {
            place.store("gc", &[]);
            place.verify();
        }
    }
    let _ = writeln!(std::io::stdout(), "{killed} commands killed");
    assert!(killed > 10, "{killed}");
    place.verify();
    let list = place.store("list", &["--json"]).json();
    for image in list["images"].as_array().unwrap() {
        place.store("remove", &[image["name"].as_str().unwrap()]);
    }
    place.store("gc", &[]);
    assert_eq!(place.packs().len(), 0);
    assert_eq!(fs::read_dir(place.path("store/images")).unwrap().count(), 0);
}
