// SPDX-License-Identifier: GPL-2.0-only

//! `--offset` and `--image`: images in a file that holds more.

use crate::support::{fail, fixture, run, run_with, succeed, Fixture};
use daxfs_testing::certificate::Owner;
use daxfs_testing::image_of;
use std::fs;

/// Bytes before and after the image, which are not a multiple of anything.
const BEFORE: usize = 5003;
const AFTER: usize = 777;

/// A file with an image in its middle, and one with a catalogue that lists it as "base".
struct Places {
    fixture: Fixture,
    image: String,
    middle: String,
    disk: String,
}

impl Places {
    fn new() -> Self {
        let fixture = fixture();
        let path = |name| fixture.directory.path().join(name).display().to_string();
        let (middle, disk) = (path("middle"), path("disk"));
        let image = fixture.image.display().to_string();
        Places {
            fixture,
            image,
            middle,
            disk,
        }
        .filled()
    }

    /// Write both files.
    fn filled(self) -> Self {
        let bytes = fs::read(&self.image).unwrap();
        let around = |length| vec![b'x'; length];
        fs::write(
            &self.middle,
            [around(BEFORE), bytes, around(AFTER)].concat(),
        )
        .unwrap();
        succeed(&["catalog", "init", "--size", "16M", &self.disk]);
        // Another image is in front.
        let first = self.fixture.directory.path().join("first");
        let tree = self.fixture.directory.path().join("source/dir");
        image_of(&tree, &first).unwrap();
        let first = first.display().to_string();
        for (name, image) in [("first", &first), ("base", &self.image)] {
            succeed(&["catalog", "add", &self.disk, name, image]);
        }
        self
    }

    /// Run `words`, with the image alone, in the middle, and by its name. Return the outputs.
    fn outputs(&self, words: &[&str]) -> [Vec<u8>; 3] {
        let run = |file: &str, place: &[&str]| {
            let words = words.iter().map(|&word| match word {
                "IMAGE" => file,
                word => word,
            });
            let mut words: Vec<_> = words.collect();
            // The command is first.
            words.splice(1..1, place.iter().copied());
            succeed(&words).stdout
        };
        [
            run(&self.image, &[]),
            run(&self.middle, &["--offset", &BEFORE.to_string()]),
            run(&self.disk, &["--image", "base"]),
        ]
    }
}

/// Return the output without the size of what an image is in.
fn without_region(output: Vec<u8>) -> Vec<u8> {
    let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(&output) else {
        return output;
    };
    let superblock = json.pointer_mut("/superblock");
    if let Some(superblock) = superblock.and_then(serde_json::Value::as_object_mut) {
        superblock.remove("region_size");
    }
    json.to_string().into_bytes()
}

#[test]
fn commands_that_read() {
    let places = Places::new();
    for words in [
        &["info", "--udev", "IMAGE"][..],
        &["ls", "-lR", "IMAGE"],
        &["cat", "IMAGE", "file", "dir/below/deep"],
        &["stat", "IMAGE", "/file", "/dir"],
        &["dump", "--sums", "IMAGE"],
        &["extract", "--tar", "IMAGE", "-"],
        &["digest", "IMAGE"],
        &["diff", "IMAGE", &places.image],
    ] {
        let [alone, middle, listed] = places.outputs(words).map(without_region);
        assert!(alone == middle && alone == listed, "{words:?}");
    }
    // They say which image it is.
    let name = format!("{}: base: clean, ", places.disk);
    let [_, middle, listed] = places
        .outputs(&["fsck", "IMAGE"])
        .map(|out| String::from_utf8(out).unwrap());
    assert!(listed.starts_with(&name), "{listed}");
    assert!(middle.starts_with(&format!("{}: clean, ", places.middle)));
    places.outputs(&["map", "IMAGE"]);
    let target = places.fixture.directory.path().join("target");
    let target = target.to_str().unwrap();
    succeed(&[
        "extract",
        "--no-same-owner",
        "--image",
        "base",
        &places.disk,
        target,
    ]);
    succeed(&["diff", "--ignore", "owner", &places.image, target]);
    // Standard input, too.
    let bytes = fs::read(&places.middle).unwrap();
    let piped = run_with(&["digest", "--offset", &BEFORE.to_string(), "-"], &bytes);
    assert_eq!(piped.text().trim_end(), places.fixture.digest, "{piped:?}");
}

/// Two images of one device are compared.
#[test]
fn two_places() {
    let places = Places::new();
    let (disk, image) = (places.disk.as_str(), places.image.as_str());
    let named = |first, second| run(&["diff", "--image", first, "--image", second, disk, disk]);
    assert_eq!(named("base", "base").status, 0);
    assert_eq!(named("first", "base").status, 1);
    succeed(&["diff", "--image", "base", disk, image]);
    let offset = BEFORE.to_string();
    succeed(&[
        "diff",
        "--offset",
        &offset,
        "--offset",
        "0",
        &places.middle,
        image,
    ]);
    let source = places.fixture.directory.path().join("source");
    let source = source.to_str().unwrap();
    succeed(&["diff", "--image", "base", source, disk]);
    let why = fail(
        &["diff", "--image", "base", "--image", "base", source, disk],
        2,
    );
    assert!(
        why.contains("there is 1 image; give --offset or --image once"),
        "{why}"
    );
}

#[test]
fn a_signature() {
    let places = Places::new();
    let owner = Owner::new("owner", None, "20000101000000Z", "20990101000000Z");
    let path = |name: &str| {
        places
            .fixture
            .directory
            .path()
            .join(name)
            .display()
            .to_string()
    };
    let (key, cert) = (path("key"), path("cert"));
    fs::write(&key, &owner.key).unwrap();
    fs::write(&cert, &owner.certificate).unwrap();
    succeed(&["sign", "--key", &key, "--cert", &cert, &places.image]);
    let places = Places {
        disk: path("signed-disk"),
        ..places
    };
    let places = places.filled();
    let [alone, middle, listed] = places.outputs(&["verify", "--cert", &cert, "IMAGE"]);
    assert!(alone == middle && alone == listed);
}

#[test]
fn nothing_there() {
    let places = Places::new();
    let (disk, middle) = (places.disk.as_str(), places.middle.as_str());
    for (words, wanted) in [
        (
            &["info", "--image", "none", disk][..],
            "the catalogue has no image 'none'; it has first, base",
        ),
        (&["info", "--image", "base", middle], "has no catalogue; "),
        (&["info", "--offset", "1", middle], "not a daxfs image; "),
        (&["info", disk], "commands take --image NAME"),
        (
            &["info", "--offset", "1T", middle],
            "so nothing starts at byte 1099511627776",
        ),
    ] {
        let why = fail(words, 1);
        assert!(why.contains(wanted), "{why}");
    }
    // A catalogue can be in the middle, too, such as in a partition.
    let path = places.fixture.directory.path().join("whole");
    let whole = [vec![b'x'; 512], fs::read(disk).unwrap()].concat();
    fs::write(&path, whole).unwrap();
    let path = path.to_str().unwrap();
    let found = succeed(&["digest", "--offset", "512", "--image", "base", path]);
    assert_eq!(found.text().trim_end(), places.fixture.digest);
    // An image does not reach beyond its place.
    let size = fs::metadata(&places.image).unwrap().len();
    let cut = fs::read(middle).unwrap();
    fs::write(middle, &cut[..BEFORE + size as usize - 1]).unwrap();
    let why = fail(&["info", "--offset", &BEFORE.to_string(), middle], 1);
    assert!(why.contains("image larger than the region"), "{why}");
}
