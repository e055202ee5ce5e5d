// SPDX-License-Identifier: GPL-2.0-only

//! Stores in files, treated like devices, and power loss while their table changes.

use crate::json::check;
use crate::store::versions;
use crate::support::{available, fixture, Place};
use daxfs_load::catalog::{commit, create, insert, Medium, New, State, Users};
use daxfs_reader::catalog::{
    pack_name, room, Listed, Table, CATALOG_ALIGN, CATALOG_COPIES, CATALOG_MAX, CATALOG_SIZE,
    CHECKSUM,
};
use daxfs_reader::layout::{Superblock as Record, HUGE_SIZE};
use daxfs_reader::{Error, Memory, Problem, Result, Superblock};
use daxfs_testing::catalog::check_rules;
use daxfs_testing::{builder, image_with};
use proptest::prelude::*;
use std::cell::Cell;
use std::fs;
use std::io;
use std::mem::offset_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes that memory stores atomically.
const LINE: usize = 64;

/// Returns a directory with a tree, `source`, and `disk`, an empty store for `images` images.
fn store(images: u64) -> Place {
    let place = fixture();
    let size = CATALOG_SIZE + images * HUGE_SIZE;
    place.ok(format!("daxfs store init --size {size} disk"));
    place
}

/// Adds an image labelled `name` from its file.
#[track_caller]
fn add_file(place: &Place, name: &str, options: &str) {
    let mut image = daxfs_testing::options();
    image.label = name.into();
    image_with(&place.path("source"), &place.path(name), &image).unwrap();
    place.ok(format!("daxfs store add {options} disk {name} {name}"));
}

/// Returns the output of `list --json`.
#[track_caller]
fn list(place: &Place) -> serde_json::Value {
    place.ok("daxfs store list --json disk").json()
}

/// Returns the names with their states.
#[track_caller]
fn names(place: &Place) -> Vec<String> {
    let list = list(place);
    let images = list["images"].as_array().unwrap().iter();
    let text = |image: &serde_json::Value| {
        let mut text = image["name"].as_str().unwrap().to_owned();
        for flag in ["active", "removed"] {
            if image[flag].as_bool().unwrap() {
                text += &format!(" {flag}");
            }
        }
        text
    };
    images.map(text).collect()
}

/// Opens the file.
fn disk(place: &Place) -> fs::File {
    let mut options = fs::File::options();
    options
        .read(true)
        .write(true)
        .open(place.path("disk"))
        .unwrap()
}

#[test]
fn from_init_to_removal() {
    let place = store(3);
    assert_eq!(names(&place), [""; 0]);
    add_file(&place, "one", "--activate");
    add_file(&place, "two", "");
    assert_eq!(names(&place), ["one active", "two"]);
    // The images are complete, byte for byte.
    for (name, offset) in [("one", CATALOG_SIZE), ("two", 2 * CATALOG_SIZE)] {
        place.ok(format!(
            "cmp -n $(stat -c %s {name}) {name} disk 0 {offset}"
        ));
    }
    place.ok("daxfs store activate disk two");
    assert_eq!(names(&place), ["one", "two active"]);
    place.ok("daxfs store verify disk");
    disk(&place)
        .write_all_at(&[1], 2 * CATALOG_SIZE - 1)
        .unwrap();
    place.steps("daxfs store", "verify disk | 1 | disk: one: ");
    place.ok("daxfs store remove disk one");
    assert_eq!(names(&place), ["one removed", "two active"]);
    for command in ["activate", "remove"] {
        let why = "disk: the store has no image 'one'; it has two\n";
        place.fails(format!("daxfs store {command} disk one"), why);
    }
    // The name is free, but not the space, because a file's users are unknown.
    add_file(&place, "one", "");
    assert_eq!(names(&place), ["one removed", "two active", "one"]);
    let why = "disk: no room in the store for an image of 2097152 bytes: the largest free range has 0 bytes; \
               if nobody uses the removed 'one' (2097152 bytes), give --reuse always\n";
    place.fails("daxfs store add disk more one", why);
    place.fails("daxfs store add --reuse never disk more one", why);
    add_file(&place, "more", "--reuse always");
    assert_eq!(names(&place), ["more", "two active", "one"]);
    assert_eq!(list(&place)["images"][0]["offset"], CATALOG_SIZE);
    let why = "; remove an image, or use a larger device\n";
    place.fails("daxfs store add --reuse always disk last one", why);
    place.ok("daxfs store remove disk two");
    assert_eq!(names(&place), ["more", "two removed", "one"]);
    let why =
        "disk: cannot write byte 0 of the copy: File too large; raise the limit (ulimit -f)\n";
    place.fails(
        "ulimit -f 4096; daxfs store add --reuse always disk two one",
        why,
    );
}

#[test]
fn text_and_json() {
    let place = store(4);
    add_file(&place, "base", "--activate");
    let text = place.ok("daxfs store list disk");
    let lines: Vec<_> = text.text().lines().collect();
    let digest = place.ok("daxfs digest base");
    assert_eq!(
        lines[0],
        "NAME  STATE             SIZE    OWN  PACKS  SHA-256"
    );
    let start = "base  active            2.0M   2.0M      0  ";
    assert_eq!(lines[1], format!("{start}{}", digest.text().trim_end()));
    assert_eq!(lines[2], "Largest free range: 6.0M");
    let list = list(&place);
    assert_eq!(list["schema"], "daxfs-store-1");
    assert_eq!(list["generation"], 4);
    assert_eq!(list["size"], 5 * HUGE_SIZE);
    assert_eq!(list["free"], 3 * HUGE_SIZE);
    assert_eq!(list["images"][0]["length"], HUGE_SIZE);
    assert!(list["images"][0].get("mounted").is_none());
    let info = place.ok("daxfs info --json base").json();
    assert_eq!(list["images"][0]["uuid"], info["uuid"]);
}

#[test]
fn refused() {
    let place = store(2);
    add_file(&place, "file", "");
    place.ok("truncate -s 5M middle && echo precious >>middle && truncate -s 9M middle");
    place.ok("echo precious | cat file - >behind && truncate -s 9M behind");
    place.mistakes(
        "daxfs store add disk file file | 1 | disk: has an image 'file' already;
        daxfs store add disk disk disk | 1 | a store of images
        daxfs store init disk | 1 | disk: holds a store of images, which would be lost;
        daxfs store init middle | 1 | middle: holds data other than a daxfs image, which would be lost;
        daxfs store init behind | 1 | behind: holds data other than a daxfs image in the bytes 0 to 9437183, which would be lost;
        daxfs store list file | 1 | is not a store but an image; make a store of another one
        daxfs store init --size 4M disk | 1 | cannot make: File exists
        daxfs store init --size 2M small | 1 | needs at least 4194304
        daxfs store list /dev/null | 1 | a store needs one of these
        daxfs store init --force source | 1 | --force: is for devices and files
        daxfs store add --exclude x disk more file | 1 | --exclude: is for stores in directories
        daxfs store add disk more file file | 1 | disk: takes one daxfs image; use mkdaxfs, or add
        daxfs store add disk more source | 1 | source: is not a daxfs image, which a device needs; use mkdaxfs
        daxfs store add disk more middle | 1 | middle: is not a daxfs image, which a device needs; use mkdaxfs
        daxfs store add disk more none | 1 | none: cannot open: No such file",
    );
    place.ok(format!("daxfs store add disk {} file", "x".repeat(63)));
    place.ok("daxfs store init --force disk");
    assert_eq!(names(&place), [""; 0]);
}

/// Returns the offset of the image or pack `name` in `disk`.
fn place_of(place: &Place, name: &str) -> u64 {
    let disk = place.read("disk");
    let table = Table::load(&disk.as_slice()).unwrap().unwrap();
    table.find(name).unwrap().range.start
}

/// An image of a store in a directory is copied to a device with its packs, shared there.
#[test]
fn composed_images() {
    let place = versions();
    place.ok("for name in v1 v2; do daxfs store add store $name $name || exit; done");
    place.ok("cp store/images/v2.daxfs outside; ln -s store/images/v1.daxfs link");
    place.steps(
        "daxfs store",
        "init --size 32M disk
        add disk v1 link | 0 |   v1: 2 packs are new, 0 were present;
        add disk v2 store/images/v2.daxfs | 0 |   v2: 1 packs are new, 2 were present;
        verify disk | 0 | 2 images, 3 packs, 4 objects: 0 problems",
    );
    // Packs are not listed as images, and the images are the same as in the directory.
    let [on_disk, in_directory] = ["disk", "store"].map(|store| {
        let list = place.ok(format!("daxfs store list --json {store}")).json();
        check("daxfs-store-1", &list);
        let images = list["images"].as_array().unwrap().iter();
        let images = images.map(|image| ["name", "sha256", "packs"].map(|it| image[it].clone()));
        images.collect::<Vec<_>>()
    });
    assert_eq!(on_disk, in_directory);
    // Programs read packs from the device.
    place.ok("daxfs extract --image v2 disk out && diff -r v2 out && daxfs fsck --image v2 disk");
    place.ok("daxfs diff --image v2 --image v2 disk disk");
    let list = list(&place);
    let number = |member: &str| list["images"][1][member].as_u64().unwrap();
    let (size, own) = (number("size"), number("own"));
    assert!(size > 3_000_000 && own < 100_000, "{list}");

    let [old, new] = [0, 1].map(|index| on_disk[index][2].as_array().unwrap());
    let own = new.iter().find(|pack| !old.contains(pack));
    let own = own.unwrap().as_str().unwrap();
    let pack = pack_name(own);
    let files = old.iter().map(|pack| pack.as_str().unwrap());
    let files = files.map(|pack| format!("store/packs/{pack}.daxfs"));
    let other = files.min_by_key(|file| place.read(file).len()).unwrap();
    // An image whose packs the device lacks must be in a store. Packs have other names than images.
    place.steps("daxfs store", &format!(
            "remove disk v2
            gc disk | 0 | removed 1 packs, 0 unfinished files (16K)
            add disk v2 outside | 1 | outside: needs pack {own}, which the device does not have; give STORE
            add disk v1 outside | 1 | disk: has an image 'v1' already
            add disk {pack} outside | 1 | is a name for packs on a device"
        ),
    );
    place.ok(format!(
        "cp store/packs/{own}.daxfs good; cp {other} store/packs/{own}.daxfs"
    ));
    let why = "has another SHA-256 than its name says";
    place.fails("daxfs store add disk v2 store/images/v2.daxfs", why);
    place.ok(format!("mv good store/packs/{own}.daxfs"));
    place.steps(
        "daxfs store",
        "add disk v2 store/images/v2.daxfs | 0 | 1 packs are new, 2 were present;
        add disk other outside | 0 | 0 packs are new, 3 were present;
        remove disk other",
    );
    // Damage is found and removed.
    let at = place_of(&place, &pack);
    disk(&place).write_all_at(&place.read(other), at).unwrap();
    place.steps("daxfs store", &format!(
            "verify disk | 1 | disk: {pack}: is not the pack with this SHA-256
            verify disk | 1 | disk: v2: pack {own} is missing or damaged
            add disk again outside | 1 | disk: {pack}: is damaged (another image than its name says); daxfs store remove
            activate disk {pack} | 1 | no image '{pack}'
            remove disk {pack}
            list disk | 1 | daxfs: v2: needs pack {own}, which is missing;
            gc disk | 1 | daxfs: v2: needs pack {own}, which is missing;
            activate disk v2 | 1 | v2: needs pack {own}, which is missing;
            activate disk v1
            add disk again store/images/v2.daxfs | 0 | 1 packs are new, 2 were present;
            verify disk | 0 | 3 images, 3 packs, 4 objects: 0 problems"
        ),
    );
    let at = place_of(&place, "v2") + 4200;
    disk(&place).write_all_at(b"damage", at).unwrap();
    // Without enough room, nothing remains that gc cannot find.
    place.steps(
        "daxfs store",
        "verify disk | 1 | : 1 problems
        list disk | 1 | disk: v2: metadata checksum mismatch
        gc disk | 1 | disk: keeps all packs, because images that cannot be read may need them; if
        remove disk v2
        gc disk | 0 | removed 0 packs
        init --size 6M small
        add small v1 link | 1 | small: no room in the store for an image of
        gc small | 0 | removed 1 packs
        verify small | 0 | 0 images, 0 packs, 0 objects: 0 problems",
    );
}

/// A damaged copy is inactive, and the next change replaces it.
#[test]
fn damaged_copies() {
    let place = store(2);
    add_file(&place, "one", "");
    add_file(&place, "two", "--activate");
    let disk = disk(&place);
    let generation = list(&place)["generation"].as_u64().unwrap();
    // The last change wrote one of them.
    let states = CATALOG_COPIES.map(|start| {
        let mut generation = 0;
        // Even in the version and the number of entries.
        for at in [start + 8, start + 12, start + 200] {
            let mut byte = [0];
            disk.read_exact_at(&mut byte, at).unwrap();
            disk.write_all_at(&[byte[0] ^ 2], at).unwrap();
            let found = list(&place);
            let damaged = found["damaged"].as_str().unwrap();
            let said = format!("checksum mismatch of the copy (offset {:#x}, ", start + 124);
            assert!(damaged.starts_with(&said), "{damaged}");
            disk.write_all_at(&byte, at).unwrap();
            generation = found["generation"].as_u64().unwrap();
        }
        assert!(list(&place).get("damaged").is_none());
        generation
    });
    assert_eq!(states.iter().max(), Some(&generation));
    assert_eq!(states.iter().min(), Some(&(generation - 1)));
    // A valid copy of another version may be the newer one.
    let version = "disk: unknown format version (offset ";
    for (index, start) in CATALOG_COPIES.into_iter().enumerate() {
        for number in [1, 2] {
            disk.write_all_at(&[number], start + 8).unwrap();
            seal(&disk, index);
            match number {
                2 => assert_eq!(names(&place), ["one", "two active"]),
                _ => _ = place.fails("daxfs store list disk", version),
            }
        }
    }
    for start in CATALOG_COPIES {
        disk.write_all_at(b"damage", start + 140).unwrap();
    }
    let why = "disk: no copy of the store's table is whole ";
    place.fails("daxfs store list disk", why);
}

/// Corrects the checksum of copy `index`.
fn seal(disk: &fs::File, index: usize) {
    let mut copy = vec![0; 8192];
    let start = CATALOG_COPIES[index];
    disk.read_exact_at(&mut copy, start).unwrap();
    seal_bytes(&mut copy);
    disk.write_all_at(&copy, start).unwrap();
}

/// Corrects the checksum of the copy at the start of `bytes`.
fn seal_bytes(bytes: &mut [u8]) {
    let count = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let Some(entries) = bytes[128..].get(..count as usize * 128) else {
        return;
    };
    let crc32c = <&[u8] as daxfs_reader::Memory>::crc32c;
    let crc = crc32c(crc32c(0, &bytes[..124]), entries);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
}

/// The damaged copy may have listed an image, whose place must not be treated as free.
#[test]
fn damage_is_said() {
    let place = store(3);
    add_file(&place, "one", "");
    let damage = || {
        let index = list(&place)["generation"].as_u64().unwrap() % 2;
        // The inactive copy.
        let start = CATALOG_COPIES[1 - index as usize];
        disk(&place).write_all_at(&[0xff], start + 30).unwrap();
        assert!(list(&place)["damaged"].is_string());
    };
    let run = |words: &str, status: i32, part: &str| {
        let run = place.says(format!("daxfs store {words}"), status, part);
        let said = "warning: disk: a copy of the store's table is damaged: ";
        assert!(run.stderr.contains(said), "{words}: {run:?}");
    };
    damage();
    run("add disk two one", 1, "activate or remove an image");
    assert_eq!(names(&place), ["one"]);
    run("activate disk one", 0, "");
    add_file(&place, "two", "");
    damage();
    run("add --reuse always disk three one", 0, "");
    assert_eq!(names(&place), ["one active", "two", "three"]);
}

/// A device with another filesystem, which kept the second copy, is no store, and never
/// overwritten.
#[test]
fn other_contents() {
    let place = store(2);
    add_file(&place, "one", "");
    let disk = disk(&place);
    disk.write_all_at(&[0; 8192], 0).unwrap();
    // Like mkfs.ext4.
    disk.write_all_at(&[0x53, 0xef], 1024 + 56).unwrap();
    place.mistakes(
        "daxfs store list disk | 1 | disk: is not a store; daxfs store init makes one
        daxfs store add disk two one | 1 | disk: is not a store; daxfs store init makes one
        daxfs store verify disk | 1 | disk: is not a store;
        daxfs store gc disk | 1 | disk: is not a store;
        daxfs store remove disk one | 1 | disk: is not a store;
        daxfs store activate disk one | 1 | disk: is not a store;",
    );
    // A damaged first copy still has a magic number.
    let magic = daxfs_reader::layout::CATALOG_MAGIC;
    disk.write_all_at(&magic, 0).unwrap();
    assert_eq!(list(&place)["generation"], 3);
}

/// Memory that loses power.
#[derive(Clone)]
struct Ram {
    bytes: Vec<u8>,
    /// Writes since the last sync.
    pending: Vec<(u64, Vec<u8>)>,
    /// Operations left until power is lost.
    left: usize,
    /// Selects the lines of the pending writes that survive.
    luck: u64,
    /// Number of bytes read and written.
    transferred: Cell<usize>,
}

impl Ram {
    fn new(size: u64) -> Self {
        Ram {
            bytes: vec![0; size as usize],
            pending: Vec::new(),
            left: usize::MAX,
            luck: 0,
            transferred: Cell::new(0),
        }
    }

    /// Returns memory for `pieces` of 2 MiB, and a store's empty table.
    fn with_table(pieces: u64) -> (Self, Table) {
        let mut ram = Ram::new(CATALOG_SIZE + pieces * HUGE_SIZE);
        let mut table = Table::new(ram.size());
        create(&mut table, &mut ram).unwrap();
        (ram, table)
    }

    fn count(&mut self) -> io::Result<()> {
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.left -= 1;
        Ok(())
    }

    /// Returns the memory after power was lost.
    fn rest(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut luck = self.luck;
        for (offset, piece) in &self.pending {
            for (index, line) in piece.chunks(LINE).enumerate() {
                luck = luck
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                if luck >> 63 == 1 {
                    let at = *offset as usize + index * LINE;
                    bytes[at..at + line.len()].copy_from_slice(line);
                }
            }
        }
        bytes
    }
}

impl Memory for Ram {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let at = offset as usize;
        self.transferred.set(self.transferred.get() + into.len());
        let mut bytes = self
            .bytes
            .get(at..at + into.len())
            .ok_or(Error::new(Problem::Unreadable, offset, into.len() as u64))?
            .to_vec();
        for (start, piece) in &self.pending {
            for (index, byte) in piece.iter().enumerate() {
                let place = (*start as usize + index).wrapping_sub(at);
                if let Some(found) = bytes.get_mut(place) {
                    *found = *byte;
                }
            }
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    daxfs_reader::hashes!();
}

impl Medium for Ram {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // The write during which power is lost may be partly stored.
        let lost = self.count();
        self.transferred.set(self.transferred.get() + bytes.len());
        self.pending.push((offset, bytes.to_vec()));
        lost
    }

    fn sync(&mut self) -> io::Result<()> {
        self.count()?;
        for (offset, piece) in self.pending.drain(..) {
            let at = offset as usize;
            self.bytes[at..at + piece.len()].copy_from_slice(&piece);
        }
        Ok(())
    }
}

/// A concurrent change is not lost: the later one fails.
#[test]
fn another_writer() {
    let (mut ram, mut table) = Ram::with_table(6);
    let mut known = Known::new();
    change(&mut ram, &mut table, &Change::Add(0), &mut known).unwrap();
    let mut other = table.clone();
    change(&mut ram, &mut other, &Change::Add(1), &mut known).unwrap();
    let error = change(&mut ram, &mut table, &Change::Activate(0), &mut known).unwrap_err();
    assert_eq!(
        error.to_string(),
        "another process changes the store; try again when that is done"
    );
    assert_eq!(live(&load(&ram).unwrap()), live(&other));
    // No generation follows the last one.
    other.generation = u64::MAX - 2;
    create(&mut other, &mut ram).unwrap();
    let before = ram.bytes.clone();
    let error = commit(&mut other, &mut ram).unwrap_err();
    assert!(error.to_string().contains("the last generation"));
    assert!(ram.bytes == before);
}

/// A device that does not store writes is detected.
#[test]
fn faulty_device() {
    /// The last write is not stored from this offset on.
    struct Faulty(Ram, usize);
    impl Memory for Faulty {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
            self.0.read(offset, into)
        }
        daxfs_reader::hashes!();
    }
    impl Medium for Faulty {
        fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write(offset, bytes)
        }
        fn sync(&mut self) -> io::Result<()> {
            self.0.sync()
        }
        fn forget(&mut self) -> io::Result<()> {
            // These bytes were only in the cache.
            self.0.bytes[self.1..].fill(0);
            Ok(())
        }
    }
    let mut faulty = Faulty(Ram::new(CATALOG_SIZE + HUGE_SIZE), 0);
    let error = create(&mut Table::new(faulty.size()), &mut faulty).unwrap_err();
    assert!(
        error.to_string().contains("reads back differently"),
        "{error}"
    );

    // The superblock is written, but not all data.
    let (ram, mut table) = Ram::with_table(2);
    let bytes = image(1);
    let last = CATALOG_SIZE as usize + bytes.len() - 1;
    assert_ne!(bytes.last(), Some(&0));
    let mut faulty = Faulty(ram, last);
    let error = add(&mut faulty, &mut table, "a", &bytes, &[]).unwrap_err();
    assert!(
        error.to_string().contains("does not store the data"),
        "{error}"
    );
    assert!(load(&faulty.0).unwrap().images.is_empty());
}

/// A mount's space is not free, even if the table does not list it.
#[test]
fn used_ranges() {
    let (mut ram, mut table) = Ram::with_table(4);
    let at = |first: u64, end: u64| first * HUGE_SIZE..end * HUGE_SIZE;
    assert_eq!(table.free(&[]), [at(1, 5)]);
    assert_eq!(table.free(&[at(1, 3), at(2, 3), at(4, 9)]), [at(3, 4)]);
    assert_eq!(table.free(&[at(7, 9)]), [at(1, 5)]);
    let bytes = image(0);
    add(&mut ram, &mut table, "a", &bytes, &[at(1, 3)]).unwrap();
    assert_eq!(table.images[0].range, at(3, 4));
}

/// Small images share 2 MiB, and do not prevent others from being aligned.
#[test]
fn small_images() {
    let (mut ram, mut table) = Ram::with_table(4);
    let mut put = |name, number, table: &mut Table| {
        add(&mut ram, table, name, &image(number), &[]).unwrap();
        let range = table.find(name).unwrap().range.clone();
        let (start, length) = (range.start - CATALOG_SIZE, range.end - range.start);
        (start, length)
    };
    let sizes = [2, 5].map(|number| image(number).len() as u64);
    assert_eq!(sizes, [20480, 16384]);
    assert_eq!(put("a", 2, &mut table), (0, 20480));
    assert_eq!(put("b", 5, &mut table), (20480, 16384));
    assert_eq!(put("large", 0, &mut table), (HUGE_SIZE, HUGE_SIZE));
    // Not after the large one.
    assert_eq!(put("c", 2, &mut table), (36864, 20480));
    // The smallest gap.
    table.images[1].removed = true;
    assert_eq!(put("d", 5, &mut table), (20480, 16384));
    assert_eq!(put("e", 1, &mut table), (2 * HUGE_SIZE, 2 * HUGE_SIZE));
    assert_eq!(table.free(&[]).len(), 1);
    let names: Vec<_> = table.images.iter().map(|image| &image.name[..]).collect();
    assert_eq!(names, ["a", "d", "c", "large", "e"]);
    // Kernels whose pages are as large as an image's blocks must be able to mount it.
    assert_eq!(room(20480, 4096), (4096, 20480));
    assert_eq!(room(20480, 65536), (65536, 65536));
    assert_eq!(room(HUGE_SIZE + 1, 65536), (HUGE_SIZE, 2 * HUGE_SIZE));
}

/// Thousands of images fit, and adding one transfers the table only a few times.
#[test]
fn thousands() {
    const COUNT: usize = 2000;
    let (mut ram, mut table) = Ram::with_table(32);
    let bytes = image(2);
    for number in 0..COUNT {
        ram.transferred.set(0);
        let name = format!("image-{number}");
        add(&mut ram, &mut table, &name, &bytes, &[]).unwrap();
    }
    let copy = 128 * (COUNT + 1);
    let most = 4 * copy + 2 * bytes.len() + 1024;
    assert!(ram.transferred.get() <= most);
    let mut table = load(&ram).unwrap();
    assert_eq!(table.images.len(), COUNT);
    let last = table.images.last().unwrap();
    assert_eq!(last.name, "image-1999");
    let end = CATALOG_SIZE + (COUNT * bytes.len()) as u64;
    assert_eq!(last.range.end, end);

    // All entries are used.
    assert_eq!(CATALOG_MAX, 8191);
    for number in COUNT..CATALOG_MAX {
        let start = end + (number - COUNT) as u64 * CATALOG_ALIGN;
        table.insert(Listed {
            name: format!("image-{number}"),
            range: start..start + CATALOG_ALIGN,
            ..table.images[0].clone()
        });
    }
    commit(&mut table, &mut ram).unwrap();
    let mut table = load(&ram).unwrap();
    assert_eq!(table.images.len(), CATALOG_MAX);
    let error = add(&mut ram, &mut table, "more", &bytes, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ram: its store is full with 8191 images and packs; remove an image, or use a larger device"
    );
    table.images[7].removed = true;
    add(&mut ram, &mut table, "more", &bytes, &[]).unwrap();
    assert_eq!(table.images[7].name, "more");
}

/// A change to a store.
#[derive(Clone, Debug)]
enum Change {
    Add(usize),
    Remove(usize),
    Activate(usize),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Returns a unique image of one or two pieces, or a small one, without unknown bytes.
fn image(number: u64) -> Vec<u8> {
    let small = number % 3 == 2;
    let mut image = if small {
        include_bytes!("../../../lib/reader/tests/small.daxfs").to_vec()
    } else {
        builder::specimen()
    };
    let uuid = offset_of!(Record, uuid);
    image[uuid..uuid + 8].copy_from_slice(&number.to_le_bytes());
    builder::seal(&mut image);
    let size = image.len() as u64;
    // The bytes after the image imitate its table of sums.
    let stored = if small {
        size + 4096 * (number % 4)
    } else {
        size.next_multiple_of(HUGE_SIZE) * (1 + number % 2) - 4096
    };
    image.resize((stored as usize).max(image.len()), number as u8 + 1);
    image
}

/// Adds the image in `bytes`, which is not mounted. `ranges` are in use.
fn add(
    medium: &mut impl Medium,
    table: &mut Table,
    name: &str,
    bytes: &[u8],
    ranges: &[Range<u64>],
) -> daxfs_image::Result<()> {
    let new = New {
        name,
        uuid: Superblock::load(&bytes).unwrap().uuid,
        size: bytes.len() as u64,
        block: 4096,
        copy: &|put| {
            let mut pieces = bytes.chunks(1 << 20).enumerate();
            let done = pieces.try_for_each(|(index, piece)| put((index << 20) as u64, piece));
            done.map_err(|error| daxfs_image::Error::system("", "cannot write", "", error))
        },
    };
    let users = Users {
        ranges,
        state: &|_| State::Unused,
    };
    insert(medium, "ram", table, &new, &users)
}

/// The images that a table may list, by UUID.
type Known = Vec<([u8; 16], Vec<u8>)>;

/// Performs the change. Returns false if it is refused.
fn change(
    ram: &mut Ram,
    table: &mut Table,
    change: &Change,
    known: &mut Known,
) -> io::Result<bool> {
    match change {
        Change::Add(name) => {
            let name = NAMES[*name];
            if table.find(name).is_some() {
                return Ok(false);
            }
            let bytes = image(known.len() as u64);
            let uuid = Superblock::load(&bytes.as_slice()).unwrap().uuid;
            known.push((uuid, bytes.clone()));
            match add(ram, table, name, &bytes, &[]) {
                Ok(()) => Ok(true),
                Err(daxfs_image::Error::System { source, .. }) => Err(source),
                Err(daxfs_image::Error::Full { why, missing, .. }) => {
                    assert!(
                        why.starts_with("no room in the store for ") && missing > 0,
                        "{why}"
                    );
                    // Removed images were forgotten only in memory.
                    *table = load(ram).unwrap();
                    Ok(false)
                }
                Err(error) => panic!("{error}"),
            }
        }
        Change::Remove(name) => {
            if table.remove(NAMES[*name]).is_none() {
                return Ok(false);
            }
            commit(table, ram).map(|()| true)
        }
        Change::Activate(name) => {
            if table.activate(NAMES[*name]) {
                commit(table, ram).map(|()| true)
            } else {
                Ok(false)
            }
        }
    }
}

fn load(ram: &Ram) -> Result<Table> {
    Table::load(ram).map(|table| table.expect("there is a store"))
}

/// Returns the images except removed ones, which may be forgotten at any time.
fn live(table: &Table) -> Vec<Listed> {
    let mut images: Vec<_> = table
        .images
        .iter()
        .filter(|image| !image.removed)
        .cloned()
        .collect();
    images.sort_by_key(|image| image.range.start);
    images
}

/// Checks that all mountable images are complete.
fn check_images(bytes: &[u8], table: &Table, known: &Known) {
    for image in live(table) {
        let (_, wanted) = known.iter().find(|(uuid, _)| *uuid == image.uuid).unwrap();
        let start = image.range.start as usize;
        assert!(
            bytes[start..start + wanted.len()] == wanted[..],
            "{image:?} is damaged"
        );
        assert!(bytes[start + wanted.len()..image.range.end as usize]
            .iter()
            .all(|&byte| byte == 0));
    }
}

fn changes() -> impl Strategy<Value = Change> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => name.clone().prop_map(Change::Add),
        2 => name.clone().prop_map(Change::Remove),
        1 => name.prop_map(Change::Activate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Power is lost after any operation of the last change, and unsynced writes are partly stored.
    /// The table is the one before or after the change, and its images are complete.
    #[test]
    fn power_loss(list in prop::collection::vec(changes(), 1..8), luck: u64) {
        let (mut ram, mut table) = Ram::with_table(6);
        let mut known = Known::new();
        let (last, earlier) = list.split_last().unwrap();
        for step in earlier {
            change(&mut ram, &mut table, step, &mut known).unwrap();
        }
        ram.sync().unwrap();
        let before = live(&table);
        let (mut whole, mut after) = (ram.clone(), table.clone());
        change(&mut whole, &mut after, last, &mut known.clone()).unwrap();
        let after = live(&after);
        for left in 0.. {
            let (mut ram, mut table, mut known) = (ram.clone(), table.clone(), known.clone());
            (ram.left, ram.luck) = (left, luck.wrapping_add(left as u64));
            let done = change(&mut ram, &mut table, last, &mut known).is_ok();
            let mut rest = Ram::new(0);
            rest.bytes = ram.rest();
            let found = load(&rest).unwrap();
            let now = live(&found);
            prop_assert!(now == before || now == after, "{before:?} {now:?} {after:?}");
            check_images(&rest.bytes, &found, &known);
            if done {
                prop_assert_eq!(now, after);
                break;
            }
        }
    }

    /// Power is lost while a store is created over another store or an image. The memory then
    /// contains the old content, nothing mountable, or no images.
    #[test]
    fn power_loss_of_init(luck: u64, is_image: bool) {
        let (mut ram, mut old) = Ram::with_table(6);
        change(&mut ram, &mut old, &Change::Add(0), &mut Known::new()).unwrap();
        if is_image {
            let image = image(1);
            ram.bytes[..image.len()].copy_from_slice(&image);
        }
        let head = ram.bytes[..4096].to_vec();
        for left in 0.. {
            let mut ram = ram.clone();
            (ram.left, ram.luck) = (left, luck.wrapping_add(left as u64));
            let done = create(&mut Table::new(ram.size()), &mut ram).is_ok();
            let mut rest = Ram::new(0);
            rest.bytes = ram.rest();
            let found = Table::load(&rest);
            if is_image {
                let loaded = Superblock::load(&rest.bytes.as_slice()).is_ok();
                prop_assert!(!loaded || rest.bytes[..4096] == head);
            }
            match found {
                Ok(Some(found)) => {
                    let empty = found.images.is_empty();
                    prop_assert!(empty || !is_image && live(&found) == live(&old));
                }
                Ok(None) => prop_assert!(!done),
                Err(error) => prop_assert!(!done && error.problem == CHECKSUM),
            }
            if done {
                break;
            }
        }
    }

    /// Whatever the copies contain, the result is an error or a consistent table.
    #[test]
    fn damage(list in prop::collection::vec((0..2usize, 0..512usize, any::<u8>()), 1..6), seal: bool) {
        let (mut ram, mut table) = Ram::with_table(6);
        let mut known = Known::new();
        for step in [Change::Add(0), Change::Add(1), Change::Activate(0), Change::Remove(1)] {
            change(&mut ram, &mut table, &step, &mut known).unwrap();
        }
        ram.sync().unwrap();
        for (copy, at, byte) in list {
            ram.bytes[CATALOG_COPIES[copy] as usize + at] ^= byte;
        }
        if seal {
            for start in CATALOG_COPIES {
                seal_bytes(&mut ram.bytes[start as usize..]);
            }
        }
        match Table::load(&ram) {
            Ok(Some(found)) => {
                prop_assert!(found.size <= ram.size());
                check_rules(&found);
            }
            Ok(None) => {}
            Err(error) => prop_assert_ne!(error.problem, Problem::Unreadable),
        }
    }
}

/// file(1) recognizes a store by its magic number.
#[test]
fn file_magic() {
    let place = store(1);
    if available("file") {
        let magic = concat!(env!("CARGO_MANIFEST_DIR"), "/../../debian/magic");
        let said = "daxfs store of images, version 2, 4194304 bytes\n";
        assert_eq!(place.prints(format!("file -m '{magic}' -b disk"), ""), said);
    }
}
