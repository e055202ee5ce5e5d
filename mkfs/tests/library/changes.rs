// SPDX-License-Identifier: GPL-2.0-only

//! If a tree changes between or during scan and copy, the error names the file. An image that
//! differs from the written bytes is an error, too.

use daxfs_files::{Output, Progress};
use mkdaxfs::input::scan;
use mkdaxfs::writer::make;
use mkdaxfs::writer::tree::Tree;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Calls a function with the name of each starting step, and with `None` on progress.
struct Watch<F>(F);

impl<F: Fn(Option<&str>) + Sync> Progress for Watch<F> {
    fn step(&self, name: &'static str, _total: u64) {
        (self.0)(Some(name));
    }

    fn advance(&self, _bytes: u64) {
        (self.0)(None);
    }
}

/// Fails to make an image of `tree`, and returns the message. `watch` receives the image's
/// temporary file and the calls of [`Watch`].
fn failure(tree: &Tree, watch: impl Fn(&Path, Option<&str>) + Sync) -> String {
    let scratch = daxfs_testing::scratch();
    let image = scratch.path().join("image");
    let output = Output::create(&image).unwrap();
    let temporary = output.temporary().unwrap();
    let progress = Watch(|step: Option<&str>| watch(temporary, step));
    let error = make(tree, &daxfs_testing::options(), &output, &progress).unwrap_err();
    drop(output);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
    error
        .to_string()
        .replace(&format!("{}: ", image.display()), "")
}

fn scanned(root: &Path) -> Tree {
    scan::scan(root, None, |warning| panic!("{warning}")).unwrap()
}

/// Changes the file's time.
fn touch(file: &File) {
    let later = SystemTime::now() + Duration::from_secs(10);
    file.set_modified(later).unwrap();
}

/// Scans a tree with the file `a/file` of 10,000 bytes and the empty file `a/empty`, changes it,
/// and returns the error of copying it.
fn after(change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    fs::create_dir_all(root.join("a")).unwrap();
    fs::write(root.join("a/file"), [1; 10_000]).unwrap();
    fs::write(root.join("a/empty"), []).unwrap();
    let tree = scanned(&root);
    change(&root);
    failure(&tree, |_, _| ()).replace(&format!("{}/", root.display()), "")
}

fn changed(how: &str) -> String {
    let remedy = "stop what writes to the tree, or image a snapshot";
    format!("a/file: changed while it was read ({how}); {remedy}")
}

#[test]
fn files_that_change() {
    let open = |root: &Path| {
        File::options()
            .append(true)
            .open(root.join("a/file"))
            .unwrap()
    };
    assert_eq!(
        after(|root| open(root).set_len(5000).unwrap()),
        changed("size 10000, then 5000")
    );
    assert_eq!(
        after(|root| open(root).write_all(b"x").unwrap()),
        changed("size 10000, then 10001")
    );
    assert_eq!(after(|root| touch(&open(root))), changed("it was modified"));
    let gone = |root: &Path| fs::remove_file(root.join("a/file")).unwrap();
    assert_eq!(after(gone), changed("removed or replaced"));
    let other = |root: &Path| {
        fs::write(root.join("other"), [2; 10_000]).unwrap();
        fs::rename(root.join("other"), root.join("a/file")).unwrap();
    };
    assert_eq!(after(other), changed("another file took its place"));
    let link = |root: &Path| {
        gone(root);
        std::os::unix::fs::symlink("empty", root.join("a/file")).unwrap();
    };
    assert_eq!(after(link), changed("removed or replaced"));
    let socket = |root: &Path| {
        gone(root);
        drop(std::os::unix::net::UnixListener::bind(root.join("a/file")).unwrap());
    };
    assert_eq!(after(socket), changed("removed or replaced"));
    let parent = |root: &Path| fs::rename(root.join("a"), root.join("b")).unwrap();
    assert!(after(parent).contains("removed or replaced"));
    let grown = after(|root| fs::write(root.join("a/empty"), "x").unwrap());
    assert_eq!(grown, changed("size 0, then 1").replace("file:", "empty:"));
}

#[test]
fn a_file_that_changes_while_it_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    fs::write(&path, vec![3; 300_000]).unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let copying = AtomicBool::new(false);
    // As soon as part of it is copied.
    let error = failure(&scanned(directory.path()), |_, step| match step {
        Some(name) => copying.store(name == "writing", Ordering::Relaxed),
        None if copying.swap(false, Ordering::Relaxed) => touch(&file),
        None => (),
    });
    let why = "large: changed while it was read (it was modified)";
    assert!(error.contains(why), "{error}");
}

/// An archive is read twice: for its members and for their content.
#[test]
fn archives_that_change() {
    use mkdaxfs::input::{read, Input, Options};
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("archive.tar");
    let member = daxfs_testing::feed::member(b"file", b'0', b"", 0o644, &[1; 10_000]);
    fs::write(&archive, [member, vec![0; 1024]].concat()).unwrap();
    let options = Options {
        warn: &|warning| panic!("{warning}"),
        ..Options::new(directory.path())
    };
    let inputs = [Input::Any(archive.clone())];
    let tree = read(&inputs, &options).unwrap();
    let file = File::options().append(true).open(&archive).unwrap();
    touch(&file);
    let error = failure(&tree, |_, _| ());
    let why = "archive.tar: changed while it was read (it was modified); stop";
    assert!(error.contains(why), "{error}");
    // During the first read.
    file.set_len(5000).unwrap();
    let error = read(&inputs, &options).map(|_| ());
    assert!(error.unwrap_err().to_string().contains("cut short"));
}

/// Files with a meaningless size must not become zeros or empty.
#[test]
fn files_that_lie() {
    for (directory, expected) in [
        (
            "/proc/sys/kernel/random",
            "continues after its size of 0, as files in /proc do",
        ),
        (
            "/sys/kernel/mm/transparent_hugepage",
            "changed while it was read",
        ),
    ] {
        if !Path::new(directory).is_dir() {
            println!("SKIP: no {directory}");
            continue;
        }
        let scratch = daxfs_testing::scratch();
        let image = scratch.path().join("image");
        let error = daxfs_testing::image_of(Path::new(directory), &image)
            .unwrap_err()
            .to_string();
        let unreadable = error.contains("Permission denied");
        assert!(
            error.starts_with(directory) && (error.contains(expected) || unreadable),
            "{error}"
        );
        assert!(!image.exists());
    }
}

#[test]
fn an_image_that_reads_back_differently() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("small"), [1; 10_000]).unwrap();
    fs::write(directory.path().join("large"), vec![2; 5 << 20]).unwrap();
    let tree = scanned(directory.path());
    // One byte of the complete image changes just before it is read back.
    let fails = |offset| {
        let text = failure(&tree, |image, step| {
            if step == Some("verifying") {
                let image = File::options().read(true).write(true).open(image).unwrap();
                let mut byte = [0];
                image.read_exact_at(&mut byte, offset).unwrap();
                image.write_all_at(&[byte[0] ^ 1], offset).unwrap();
            }
        });
        text.replacen("invalid image: ", "", 1)
    };
    let differently = |start: u64, end: u64| {
        format!(
            "bytes {start} to {end} read back differently; the disk or the memory may be faulty"
        )
    };
    // Errors in metadata and unused bytes are reported more precisely.
    assert!(fails(60).contains("checksum"), "{}", fails(60));
    assert!(fails(4160).contains("checksum"), "{}", fails(4160));
    assert!(fails(1 << 20).contains("unused"), "{}", fails(1 << 20));
    // Data, in the first piece and in another.
    assert_eq!(fails(8192 + 5), differently(0, (2 << 20) - 1));
    assert_eq!(fails((4 << 20) + 5), differently(4 << 20, (6 << 20) - 1));
}
