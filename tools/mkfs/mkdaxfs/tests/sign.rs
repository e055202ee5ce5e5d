// SPDX-License-Identifier: GPL-2.0-only

//! Images that are signed as they are made.

use crate::support::{make, mkdaxfs, run, Run};
use daxfs_check::memory::FileMemory;
use daxfs_reader::{Image, Superblock};
use daxfs_signature::{attach, verify, Certificate, Error};
use daxfs_testing::certificate::Owner;
use daxfs_testing::snapshot;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START: &str = "20000101000000Z";
const END: &str = "20990101000000Z";
/// A time between them.
const NOW: i64 = 1_700_000_000;

/// A tree, and somebody with files for a key and a certificate.
struct Signing {
    directory: tempfile::TempDir,
    owner: Owner,
}

impl Signing {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let owner = Owner::new("owner", None, START, END);
        let signing = Signing { directory, owner };
        fs::create_dir(signing.path("tree")).unwrap();
        fs::write(signing.path("tree/file"), "content").unwrap();
        fs::write(signing.path("key"), signing.owner.key_pem()).unwrap();
        fs::write(signing.path("cert"), signing.owner.certificate_pem()).unwrap();
        signing
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sign an image of the tree at `image` with these files.
    fn sign(&self, options: &[&str], key: &str, cert: &str, image: &Path) -> Run {
        run(mkdaxfs()
            .args(options)
            .arg("--sign-key")
            .arg(self.path(key))
            .arg("--sign-cert")
            .arg(self.path(cert))
            .arg(self.path("tree"))
            .arg(image))
    }

    /// Return whether the image at `path` has a signature that one of `owners` vouches for.
    fn verify(&self, path: &Path, owners: &[&Owner]) -> Result<(), Error> {
        let file = File::open(path).unwrap();
        let memory = FileMemory::new(&file).unwrap();
        let superblock = Superblock::load(&memory).unwrap();
        let cms = attach::load(&Image::new(&memory, &superblock)).unwrap();
        let trusted: Vec<_> = owners
            .iter()
            .map(|owner| Certificate::parse(&owner.certificate).unwrap())
            .collect();
        verify(&cms.unwrap(), &superblock.sha256, &trusted, NOW)
    }
}

/// A key need not be on a disk: a program that decrypts it may write it into a pipe.
#[test]
fn key_from_a_slow_pipe() {
    let signing = Signing::new();
    let mut writer = mkfifo(&signing.path("pipe"));
    let key = signing.owner.key_pem();
    let program = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        writer.write_all(key.as_bytes()).unwrap();
    });
    let image = signing.path("image");
    let told = signing.sign(&[], "pipe", "cert", &image);
    program.join().unwrap();
    assert_eq!(told.status, 0, "{told:?}");
    assert_eq!(signing.verify(&image, &[&signing.owner]), Ok(()));
}

/// Make a FIFO, and open it for writing.
fn mkfifo(path: &Path) -> File {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Open it for reading as well, which does not wait for a writer.
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn image_is_that_without_signature() {
    let signing = Signing::new();
    let (plain, signed) = (signing.path("plain"), signing.path("signed"));
    for options in [&["--sums"][..], &[], &["--padding", "4K"]] {
        make(options, &signing.path("tree"), &plain);
        let told = signing.sign(options, "key", "cert", &signed);
        assert_eq!(told.status, 0, "{told:?}");
        let (plain, bytes) = (fs::read(&plain).unwrap(), fs::read(&signed).unwrap());
        // The table of sums follows the image, and the signature follows both.
        assert!(bytes.len() >= plain.len());
        let end = plain.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(bytes[..=end], plain[..=end]);
        let size = format!(": {} bytes, ", bytes.len());
        assert!(told.stdout.contains(&size), "{told:?}");
        assert_eq!(signing.verify(&signed, &[&signing.owner]), Ok(()));
        let other = Owner::new("other", None, START, END);
        assert_eq!(signing.verify(&signed, &[&other]), Err(Error::Untrusted));
    }
    // With another end, which a certificate must reach.
    let told = signing.sign(&["--sign-expires=4000000000"], "key", "cert", &signed);
    assert_eq!(told.status, 0, "{told:?}");
    assert_eq!(signing.verify(&signed, &[&signing.owner]), Ok(()));
    // An authority in between.
    let root = Owner::new("root", None, START, END);
    let leaf = Owner::new("leaf", Some(&root), START, END);
    fs::write(signing.path("leaf.key"), &leaf.key).unwrap();
    fs::write(signing.path("leaf.cert"), &leaf.certificate).unwrap();
    let chain = format!("--sign-chain={}", signing.path("cert").display());
    let told = signing.sign(&[&chain], "leaf.key", "leaf.cert", &signed);
    assert_eq!(told.status, 0, "{told:?}");
    assert_eq!(signing.verify(&signed, &[&root]), Ok(()));
}

#[test]
fn standard_output() {
    let signing = Signing::new();
    let image = signing.path("image");
    let output = mkdaxfs()
        .arg("--sign-key")
        .arg(signing.path("key"))
        .arg("--sign-cert")
        .arg(signing.path("cert"))
        .arg(signing.path("tree"))
        .arg("-")
        .output()
        .unwrap();
    assert!(output.status.success());
    fs::write(&image, output.stdout).unwrap();
    assert_eq!(signing.verify(&image, &[&signing.owner]), Ok(()));
}

#[test]
fn refusals_leave_no_image() {
    let signing = Signing::new();
    let image = signing.path("image");
    let old = Owner::new("old", None, START, "20010101000000Z");
    fs::write(signing.path("old.key"), old.key_pem()).unwrap();
    fs::write(signing.path("old.cert"), old.certificate_pem()).unwrap();
    let other = Owner::new("other", None, START, END);
    fs::write(signing.path("other.cert"), other.certificate_pem()).unwrap();
    let cases = [
        ("key", "other.cert", "does not match the certificate"),
        (
            "old.key",
            "old.cert",
            "old.cert: the certificate has expired",
        ),
        ("cert", "cert", "cert: no private key"),
        ("key", "key", "key: no X.509 certificate"),
        ("none", "cert", "none: cannot open the file: No such file"),
        ("tree", "cert", "tree: cannot read the file: Is a directory"),
    ];
    for (key, cert, text) in cases {
        let told = signing.sign(&[], key, cert, &image);
        assert_eq!(told.status, 1, "{told:?}");
        assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
        assert!(told.stderr.contains(text), "{text}: {told:?}");
        assert!(!image.exists());
    }
    let told = signing.sign(&["--sign-expires=4100000000"], "key", "cert", &image);
    assert_eq!(told.status, 1, "{told:?}");
    assert!(told.stderr.contains("cert: the certificate expires before"));
    assert!(!image.exists());
    let told = run(mkdaxfs().args(["--sign-key", "key", "tree", "image"]));
    assert_eq!(told.status, 2, "{told:?}");
    // The files are inputs, which are never overwritten.
    for file in ["key", "cert"] {
        let before = fs::read(signing.path(file)).unwrap();
        let told = signing.sign(&["--force"], "key", "cert", &signing.path(file));
        assert_eq!(told.status, 1, "{told:?}");
        assert_eq!(fs::read(signing.path(file)).unwrap(), before);
    }
}

/// A tree with a file that fills an image of `size` bytes: a block each for the superblock and the
/// other tables come first.
fn fill(signing: &Signing, size: usize) {
    fs::write(signing.path("tree/file"), vec![7; size - 2 * 4096]).unwrap();
}

/// The signature may need more padding, which the option sets.
#[test]
fn padding() {
    let signing = Signing::new();
    let (plain, signed) = (signing.path("plain"), signing.path("signed"));
    for padding in [4 << 10, 12 << 10, 64 << 10, 2 << 20, 4 << 20] {
        let option = padding.to_string();
        // Larger files would be aligned to 2 MiB.
        let options = ["--padding", &option, "--huge-threshold", "1G"];
        for sums in [&[][..], &["--sums"]] {
            let options = [&options[..], sums].concat();
            // Without and with padding. The signature fits into the padding that follows the sums.
            let used = padding.max(24 << 10);
            for room in [0, padding.min(8192)] {
                fill(&signing, used - room);
                make(&options, &signing.path("tree"), &plain);
                let told = signing.sign(&options, "key", "cert", &signed);
                assert_eq!(told.status, 0, "{told:?}");
                let (size, with) = (fs::metadata(&plain), fs::metadata(&signed));
                let (size, with) = (size.unwrap().len(), with.unwrap().len());
                assert_eq!((size % padding as u64, with % padding as u64), (0, 0));
                assert_eq!(with == size, !sums.is_empty());
                assert_eq!(signing.verify(&signed, &[&signing.owner]), Ok(()));
            }
        }
    }
}

/// The image is complete, and then its signature does not fit.
#[test]
fn no_room_for_the_signature() {
    let signing = Signing::new();
    fill(&signing, 64 << 10);
    let before = snapshot(signing.directory.path());
    let image = signing.path("image");
    for trap in ["trap '' XFSZ; ", ""] {
        let script = format!("{trap}ulimit -c 0; ulimit -f 64; exec \"$@\"");
        let limited = |signature: bool| {
            let mut command = Command::new("bash");
            command
                .args(["-c", &script, "-"])
                .arg(mkdaxfs().get_program())
                .args(["--padding", "64K"]);
            if signature {
                command.arg("--sign-key").arg(signing.path("key"));
                command.arg("--sign-cert").arg(signing.path("cert"));
            }
            run(command.arg(signing.path("tree")).arg(&image))
        };
        // The limit is the size of the image without a signature.
        let told = limited(false);
        assert_eq!(told.status, 0, "{told:?}");
        assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 10);
        fs::remove_file(&image).unwrap();
        let told = limited(true);
        // Without the trap, the signal may end the program before it says anything.
        if told.status == 1 || !trap.is_empty() {
            assert_eq!(told.status, 1, "{told:?}");
            let text = format!("{}: cannot write the signature: ", image.display());
            assert!(told.stderr.contains(&text), "{told:?}");
            assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
        } else {
            assert_eq!(told.status, -Signal::XFSZ.as_raw(), "{told:?}");
        }
        assert!(snapshot(signing.directory.path()) == before);
    }
}

/// Users of the image could sign others with the key.
#[test]
fn key_in_the_tree() {
    let signing = Signing::new();
    let image = signing.path("image");
    fs::create_dir(signing.path("tree/secret")).unwrap();
    // Another name of the same file, and a symlink to it.
    fs::hard_link(signing.path("key"), signing.path("tree/secret/copy")).unwrap();
    symlink("tree/secret/copy", signing.path("alias")).unwrap();
    for key in ["key", "tree/secret/copy", "alias"] {
        for options in [&[][..], &["--dry-run"], &["--exclude", "other"]] {
            let told = signing.sign(options, key, "cert", &image);
            assert_eq!((told.status, told.stderr.lines().count()), (1, 1));
            let text = "tree/secret/copy: is the private key of --sign-key";
            assert!(told.stderr.contains(text), "{told:?}");
            assert!(told.stderr.contains("--exclude"), "{told:?}");
            assert!(!image.exists());
        }
        for pattern in ["copy", "/secret", "/secret/copy"] {
            let told = signing.sign(&["--exclude", pattern], key, "cert", &image);
            assert_eq!(told.status, 0, "{told:?}");
            fs::remove_file(&image).unwrap();
        }
    }
    // A symlink in the tree does not take the key into the image.
    fs::remove_file(signing.path("tree/secret/copy")).unwrap();
    symlink("../../key", signing.path("tree/secret/link")).unwrap();
    let told = signing.sign(&[], "tree/secret/link", "cert", &image);
    assert_eq!(told.status, 0, "{told:?}");
}
