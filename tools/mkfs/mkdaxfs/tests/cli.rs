// SPDX-License-Identifier: GPL-2.0-only

//! The command line: exit statuses, messages, options, and that no files remain.

use crate::support::{is_root, make, mkdaxfs, run, shell, skip, Run};
use daxfs_testing::builder::superblock;
use daxfs_testing::{listing_of, scratch};
use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

fn tree(at: &Path) -> std::path::PathBuf {
    let tree = at.join("tree");
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), "content").unwrap();
    tree
}

/// Check that `run` failed with a message of one line, and return the message.
fn fails(run: &Run, status: i32) -> String {
    assert_eq!(run.status, status, "{run:?}");
    assert_eq!(run.stdout, "");
    if status == 1 {
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.stderr.starts_with("mkdaxfs: "), "{run:?}");
    }
    run.stderr.clone()
}

fn names(directory: &Path) -> Vec<String> {
    let names = directory.read_dir().unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The image in the documentation of daxfs-reader.
#[test]
fn example_of_the_reader() {
    let directory = scratch();
    let (tree, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("hello"), "Hello, world!\n").unwrap();
    symlink("hello", tree.join("link")).unwrap();
    let options = "--label small --padding 4096 --mtime 0 --time 0 --all-root --mode u=rwX,go=rX";
    make(options.split(' '), &tree, &image);
    let example = include_bytes!("../../../read/reader/tests/small.daxfs");
    assert!(fs::read(&image).unwrap() == example);
}

#[test]
fn help_and_version() {
    let help = run(mkdaxfs().arg("--help"));
    assert_eq!(help.status, 0);
    for word in [
        "Usage:",
        "Examples:",
        "--label",
        "--uuid",
        "--time",
        "--block-size",
        "--quiet",
        "Exit status",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let version = run(mkdaxfs().arg("--version"));
    assert_eq!(
        (version.status, version.stdout.as_str()),
        (0, concat!("mkdaxfs ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

/// Owners by name, UUIDs by word, and symlinks with the mode that Linux gives them.
#[test]
fn names_and_words() {
    let directory = scratch();
    let (tree, image) = (tree(directory.path()), directory.path().join("image"));
    let made = |options: &str| {
        make(format!("-q {options}").split(' '), &tree, &image);
        let root = listing_of(&image).remove(&b""[..]).unwrap();
        (
            root.uid,
            root.gid,
            superblock(&fs::read(&image).unwrap()).uuid,
        )
    };
    let (uid, gid, uuid) = made("--uid daemon --gid daemon --uuid clear");
    assert_eq!((uid, gid, uuid), (1, 1, [0; 16]));
    let (uid, _, uuid) = made("--uid 7 --uuid random");
    let script = "ln -s file tree/link; tar --mode=640 -C tree -cf archive.tar .";
    shell(directory.path(), script);
    make(["-q"], &directory.path().join("archive.tar"), &image);
    let mode = |path: &[u8]| listing_of(&image)[path].mode & 0o7777;
    assert_eq!((mode(b"link"), mode(b"dir/file")), (0o777, 0o640));
    assert!(uid == 7 && uuid != [0; 16] && uuid != made("--uuid random").2);
}

#[test]
fn options_reach_the_image() {
    let directory = scratch();
    let tree = tree(directory.path());
    let image = directory.path().join("image");
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let options = ["-L", "Größe", "-U", uuid, "-T", "-5.25", "-b", "65536"];
    let stdout = make(options, &tree, &image);
    let bytes = fs::read(&image).unwrap();
    let record = superblock(&bytes);
    assert_eq!(&record.label[..8], "Größe\0".as_bytes());
    assert_eq!(record.uuid[..3], [0, 0x11, 0x22]);
    assert_eq!(
        (record.build_sec.get(), record.build_nsec.get()),
        (-5, 250_000_000)
    );
    assert_eq!(record.block_size.get(), 65536);
    assert_eq!(record.data.offset.get() % 65536, 0);
    let digest = daxfs_check::digest::hex(&record.sha256);
    for part in [
        uuid,
        &digest,
        "3 inodes",
        &bytes.len().to_string(),
        &image.display().to_string(),
    ] {
        assert!(stdout.contains(part), "{part} not in {stdout}");
    }
    assert_eq!(stdout.lines().count(), 1);
    assert_eq!(make(["--quiet"], &tree, &image), "");
}

#[test]
fn build_time() {
    let directory = scratch();
    let tree = tree(directory.path());
    let image = directory.path().join("image");
    let time = || {
        let record = superblock(&fs::read(&image).unwrap());
        (record.build_sec.get(), i64::from(record.build_nsec.get()))
    };
    make([""; 0], &tree, &image);
    let newest = [&tree, &tree.join("dir"), &tree.join("dir/file")].map(|path| {
        let metadata = path.metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    });
    assert_eq!(Some(time()), newest.into_iter().max());
    run(mkdaxfs()
        .env("SOURCE_DATE_EPOCH", "1234567890")
        .args([&tree, &image]));
    assert_eq!(time(), (1_234_567_890, 0));
    run(mkdaxfs()
        .env("SOURCE_DATE_EPOCH", "1")
        .args(["-T", "2"])
        .args([&tree, &image]));
    assert_eq!(time(), (2, 0));
    let wrong = run(mkdaxfs()
        .env("SOURCE_DATE_EPOCH", "x")
        .args([&tree, &image]));
    assert_eq!(wrong.status, 2);
    assert!(wrong.stderr.contains("in SOURCE_DATE_EPOCH"), "{wrong:?}");
}

/// The default UUID depends on content, on names and on the options, not on the image's name.
#[test]
fn default_uuid() {
    let directory = scratch();
    let tree = tree(directory.path());
    let image = directory.path().join("image");
    let uuid = |options: &[&str]| {
        make(options, &tree, &image);
        superblock(&fs::read(&image).unwrap()).uuid
    };
    let first = uuid(&[]);
    assert_eq!(
        (first[6] >> 4, first[8] >> 6),
        (8, 2),
        "version and variant"
    );
    assert_eq!(uuid(&[]), first);
    assert_ne!(uuid(&["-L", "x"]), first);
    // The same name, size and time.
    let file = tree.join("dir/file");
    let time = file.metadata().unwrap().modified().unwrap();
    fs::write(&file, "CONTENT").unwrap();
    fs::File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert_ne!(uuid(&[]), first);
}

/// Only a complete image replaces an existing one.
#[test]
fn existing_image() {
    let directory = scratch();
    let at = directory.path();
    let tree = tree(at);
    let image = at.join("image");
    fs::write(&image, "precious").unwrap();
    fails(&run(mkdaxfs().args([&at.join("none"), &image])), 1);
    assert_eq!(fs::read(&image).unwrap(), b"precious");
    symlink("image", at.join("link")).unwrap();
    let message = fails(&run(mkdaxfs().args([&tree, &at.join("link")])), 1);
    assert!(message.contains("--force"), "{message}");
    assert_eq!(fs::read(&image).unwrap(), b"precious");
    make(["-q", "--force"], &tree, &at.join("link"));
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("image"));
    assert_eq!(&fs::read(&image).unwrap()[1..6], b"daxfs");
    // Permissions follow the umask.
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::umask(old);
    let mode = image.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666 & !old.as_raw_mode());
}

/// In the working directory, through a symlink to the tree, with paths that are not UTF-8.
#[test]
fn odd_paths() {
    use std::os::unix::ffi::OsStrExt;
    let directory = scratch();
    let at = directory.path();
    let tree = tree(at);
    let name = std::ffi::OsStr::from_bytes(b"im\xffage\n");
    symlink(&tree, at.join("link")).unwrap();
    let result = run(mkdaxfs().current_dir(at).arg("link").arg(name));
    assert_eq!(result.status, 0, "{result:?}");
    assert!(at.join(name).is_file());
    let listing = daxfs_testing::listing_of(&at.join(name));
    assert_eq!(listing[&b""[..]].mode & 0o170_000, 0o040_000);
    assert_eq!(listing.len(), 3);
    fs::write(tree.join("new\nline"), "").unwrap();
    fs::set_permissions(tree.join("new\nline"), PermissionsExt::from_mode(0o0)).unwrap();
    if !is_root() {
        let message = fails(&run(mkdaxfs().current_dir(at).args(["tree", "image"])), 1);
        assert!(message.contains("new\\nline: cannot open"));
    }
}

/// Characters that change the order of others are escaped, as control characters are.
#[test]
fn names_on_a_terminal() {
    let directory = scratch();
    let at = directory.path();
    let tree = tree(at);
    for (name, shown) in [
        ("a\u{202e}txt", "a\\u{202e}txt"),
        (
            "a\u{2066}b\u{feff}\u{e0041}",
            "a\\u{2066}b\\u{feff}\\u{e0041}",
        ),
        ("a\u{2028}b\x1b", "a\\u{2028}b\\u{1b}"),
        ("\u{e4}\u{5d0}\u{1f600}", "\u{e4}\u{5d0}\u{1f600}"),
    ] {
        let message = fails(&run(mkdaxfs().current_dir(at).args([name, "image"])), 1);
        assert!(
            message.starts_with(&format!("mkdaxfs: {shown}: ")),
            "{message}"
        );
        let made = run(mkdaxfs().current_dir(at).arg(&tree).arg(name));
        assert!(made.stdout.starts_with(&format!("{shown}: ")), "{made:?}");
    }
}

#[test]
fn unreadable_files() {
    let directory = scratch();
    let at = directory.path();
    let tree = tree(at);
    let output = at.join("output");
    fs::create_dir(&output).unwrap();
    fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(&output, PermissionsExt::from_mode(0o777)).unwrap();
    let command = || {
        let mut command = mkdaxfs();
        if is_root() {
            command.uid(65534).gid(65534);
        }
        let run = run(command.arg(&tree).arg(output.join("image")));
        assert_eq!(names(&output), [""; 0]);
        fails(&run, 1)
    };
    let deny = |path: &str, mode| {
        fs::set_permissions(tree.join(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    let remedy = "Permission denied; run as a user who may read it, or leave it out of the tree";
    if is_root() && run(mkdaxfs().uid(65534).arg("--version")).status != 0 {
        return skip("another user may not run the binary");
    }
    deny("dir/file", 0o0);
    assert!(command().contains(&format!("tree/dir/file: cannot open the file: {remedy}")));
    fs::write(tree.join("dir/file"), "").unwrap_or_default();
    assert!(command().contains("tree/dir/file: cannot open the file: Permission"));
    deny("dir", 0o0);
    assert!(command().contains(&format!("tree/dir: cannot open the directory: {remedy}")));
    deny("dir", 0o444);
    assert!(command().contains("tree/dir/file: cannot examine: Permission"));
    deny("dir", 0o755);
    deny("dir/file", 0o644);
    fs::set_permissions(&output, PermissionsExt::from_mode(0o555)).unwrap();
    assert!(command().contains("run as a user who may write there"));
}
