// SPDX-License-Identifier: GPL-2.0-only

//! Images that are signed as they are made.

use crate::support::{place, Place};
use daxfs_check::memory::FileMemory;
use daxfs_reader::{Image, Superblock};
use daxfs_signature::{attach, verify, Certificate, Error};
use daxfs_testing::certificate::Owner;
use rustix::process::Signal;
use std::fs::File;

const START: &str = "20000101000000Z";
const END: &str = "20990101000000Z";
/// A time between them.
const NOW: i64 = 1_700_000_000;

/// Sign with the key and the certificate of somebody.
const SIGN: &str = "mkdaxfs --sign-key key --sign-cert cert";

/// Return a place with a tree, and somebody with files for a key and a certificate.
fn signing() -> (Place, Owner) {
    let place = place("mkdir tree; printf content >tree/file");
    let owner = Owner::new("owner", None, START, END);
    place.write("key", owner.key_pem());
    place.write("cert", owner.certificate_pem());
    (place, owner)
}

/// Return whether the image `name` has a signature that one of `owners` vouches for.
fn check(place: &Place, name: &str, owners: &[&Owner]) -> Result<(), Error> {
    let file = File::open(place.path(name)).unwrap();
    let memory = FileMemory::new(&file).unwrap();
    let superblock = Superblock::load(&memory).unwrap();
    let cms = attach::load(&Image::new(&memory, &superblock)).unwrap();
    let certificates = owners.iter().map(|owner| &owner.certificate);
    let trusted: Vec<_> = certificates
        .map(|bytes| Certificate::parse(bytes).unwrap())
        .collect();
    verify(&cms.unwrap(), &superblock.sha256, &trusted, NOW)
}

/// A key need not be on a disk: a program that decrypts it may write it into a pipe. An image may go
/// to standard output.
#[test]
fn pipes() {
    let (place, owner) = signing();
    place.ok("mkdaxfs -q --sign-key <(sleep 0.5; cat key) --sign-cert cert tree - >image");
    assert_eq!(check(&place, "image", &[&owner]), Ok(()));
}

#[test]
fn image_is_that_without_signature() {
    let (place, owner) = signing();
    let other = Owner::new("other", None, START, END);
    for options in ["--sums", "", "--padding 4K"] {
        place.ok(format!("mkdaxfs {options} tree plain"));
        let told = place.ok(format!("{SIGN} {options} tree signed"));
        let (plain, bytes) = (place.read("plain"), place.read("signed"));
        // The table of sums follows the image, and the signature follows both.
        assert!(bytes.len() >= plain.len());
        let end = plain.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(bytes[..=end], plain[..=end]);
        let size = format!(": {} bytes, ", bytes.len());
        assert!(told.text().contains(&size), "{told:?}");
        assert_eq!(check(&place, "signed", &[&owner]), Ok(()));
        assert_eq!(check(&place, "signed", &[&other]), Err(Error::Untrusted));
    }
    // With another end, which a certificate must reach.
    place.ok(format!("{SIGN} --sign-expires=4000000000 tree signed"));
    assert_eq!(check(&place, "signed", &[&owner]), Ok(()));
    // An authority in between.
    let root = Owner::new("root", None, START, END);
    let leaf = Owner::new("leaf", Some(&root), START, END);
    place.write("leaf.key", &leaf.key);
    place.write("leaf.cert", &leaf.certificate);
    place.ok("mkdaxfs --sign-chain=cert --sign-key leaf.key --sign-cert leaf.cert tree signed");
    assert_eq!(check(&place, "signed", &[&root]), Ok(()));
}

#[test]
fn refusals() {
    let (place, _) = signing();
    let old = Owner::new("old", None, START, "20010101000000Z");
    place.write("old.key", old.key_pem());
    place.write("old.cert", old.certificate_pem());
    let other = Owner::new("other", None, START, END);
    place.write("other.cert", other.certificate_pem());
    place.mistakes(
        "mkdaxfs --sign-key key --sign-cert other.cert tree new | 1 | does not match the certificate
         mkdaxfs --sign-key old.key --sign-cert old.cert tree new | 1 | old.cert: the certificate has expired
         mkdaxfs --sign-key cert --sign-cert cert tree new | 1 | cert: no private key
         mkdaxfs --sign-key key --sign-cert key tree new | 1 | key: no X.509 certificate
         mkdaxfs --sign-key none --sign-cert cert tree new | 1 | none: cannot open the file: No such file
         mkdaxfs --sign-key tree --sign-cert cert tree new | 1 | tree: cannot read the file: Is a directory
         mkdaxfs --sign-expires=4100000000 --sign-key key --sign-cert cert tree new | 1 | cert: the certificate expires before
         # The files are inputs, which are never overwritten.
         mkdaxfs --force --sign-key key --sign-cert cert tree key | 1 | is an input as well
         mkdaxfs --force --sign-key key --sign-cert cert tree cert | 1 | is an input as well",
    );
}

/// Make a file in the tree that fills an image of `size` bytes: a block each for the superblock and the
/// other tables come first.
fn fill(place: &Place, size: usize) {
    place.write("tree/file", vec![7; size - 2 * 4096]);
}

/// The signature may need more padding, which the option sets.
#[test]
fn padding() {
    let (place, owner) = signing();
    for padding in [4 << 10, 12 << 10, 64 << 10, 2 << 20, 4 << 20] {
        for sums in ["", "--sums"] {
            // Larger files would be aligned to 2 MiB.
            let options = format!("--padding {padding} --huge-threshold 1G {sums}");
            // Without and with padding. The signature fits into the padding that follows the sums.
            let used = padding.max(24 << 10);
            for room in [0, padding.min(8192)] {
                fill(&place, used - room);
                place.ok(format!(
                    "mkdaxfs {options} tree plain; {SIGN} {options} tree signed"
                ));
                let [size, with] = ["plain", "signed"].map(|name| place.read(name).len());
                assert_eq!((size % padding, with % padding), (0, 0));
                assert_eq!(with == size, !sums.is_empty());
                assert_eq!(check(&place, "signed", &[&owner]), Ok(()));
            }
        }
    }
}

/// The image is complete, and then its signature does not fit.
#[test]
fn no_room_for_the_signature() {
    let (place, _) = signing();
    fill(&place, 64 << 10);
    let limit = "ulimit -c 0; ulimit -f 64; exec";
    // The limit is the size of the image without a signature.
    place.ok(format!("{limit} mkdaxfs --padding 64K tree image"));
    assert_eq!(place.read("image").len(), 64 << 10);
    place.shell("rm image");
    let line = format!("{limit} {SIGN} --padding 64K tree image");
    place.mistakes(&format!(
        "trap '' XFSZ; {line} | 1 | image: cannot write the signature: "
    ));
    // The signal may end the program before it says anything.
    let told = place.run(&line);
    assert!(
        [1, -Signal::XFSZ.as_raw()].contains(&told.status),
        "{told:?}"
    );
    assert_eq!(place.names("."), ["cert", "key", "tree"]);
}

/// Users of the image could sign others with the key.
#[test]
fn key_in_the_tree() {
    let (place, _) = signing();
    // Another name of the same file, and a symlink to it.
    place.shell("mkdir tree/secret; ln key tree/secret/copy; ln -s tree/secret/copy alias");
    let sign = |options: &str, key: &str| {
        format!("mkdaxfs {options} --sign-key {key} --sign-cert cert tree image")
    };
    for key in ["key", "tree/secret/copy", "alias"] {
        for options in ["", "--dry-run", "--exclude other"] {
            let why = "tree/secret/copy: is the private key of --sign-key";
            let told = place.fails(sign(options, key), why);
            assert!(
                told.contains("--exclude") && !place.exists("image"),
                "{told}"
            );
        }
        for pattern in ["copy", "/secret", "/secret/copy"] {
            place.ok(sign(&format!("--exclude {pattern}"), key));
            place.shell("rm image");
        }
    }
    // A symlink in the tree does not take the key into the image.
    place.shell("rm tree/secret/copy; ln -s ../../key tree/secret/link");
    place.ok(sign("", "tree/secret/link"));
}
