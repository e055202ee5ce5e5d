// SPDX-License-Identifier: GPL-2.0-only

//! An image that takes the place of another file is as private as that, from its first byte on.

use crate::support::layout::Layout;
use crate::support::{is_root, make, mkdaxfs, run, shell, skip};
use daxfs_testing::scratch;
use std::fs;
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An ordinary user.
const USER: u32 = 1000;

/// Return a directory with a tree and an archive of it.
fn files() -> (tempfile::TempDir, PathBuf) {
    let directory = scratch();
    let at = directory.path().to_path_buf();
    shell(
        &at,
        "mkdir tree; echo secret >tree/shadow; tar -cf tree.tar tree",
    );
    (directory, at)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Return who may read the file: its owner, its group and its mode.
fn who(path: &Path) -> (u32, u32, u32) {
    let found = path.metadata().unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// Give the file to another user if possible. Return who may read it then.
fn give(path: &Path, mode: u32) -> (u32, u32, u32) {
    match is_root() {
        true => chown(path, Some(USER), Some(USER + 1)).unwrap(),
        false => skip("other owners need root"),
    }
    chmod(path, mode);
    who(path)
}

#[test]
fn owner_and_mode() {
    let (_directory, at) = files();
    let (tree, image) = (at.join("tree"), at.join("image"));
    make(["-q"], &tree, &image);
    for mode in [0o600, 0o440, 0o666, 0o000] {
        let before = give(&image, mode);
        make(["-q"], &tree, &image);
        assert_eq!(who(&image), before);
    }
    // Set-id bits mean something for programs only.
    chmod(&image, 0o4755);
    make(["-q"], &tree, &image);
    assert_eq!(who(&image).2, 0o755);
    // A symbolic link stays, a hard link keeps the old image.
    let before = give(&image, 0o640);
    let old = fs::read(&image).unwrap();
    symlink("image", at.join("link")).unwrap();
    fs::hard_link(&image, at.join("hard")).unwrap();
    make(["-q", "--label=new"], &tree, &at.join("link"));
    assert!(at.join("link").is_symlink());
    assert_eq!((who(&image), who(&at.join("hard"))), (before, before));
    assert!(fs::read(at.join("hard")).unwrap() == old && fs::read(&image).unwrap() != old);
    // Other files.
    fs::write(at.join("notes"), "notes").unwrap();
    let before = give(&at.join("notes"), 0o604);
    make(["-q", "--force"], &tree, &at.join("notes"));
    assert_eq!(who(&at.join("notes")), before);
}

#[test]
fn layers() {
    let (_directory, at) = files();
    let layout = Layout::new(&at.join("layout"));
    layout.index(&[layout.image(&[(&at.join("tree.tar"), "")])]);
    let (input, images) = (format!("oci:{}", layout.0.display()), at.join("images"));
    make(["-q", "--layers"], input.as_ref(), &images);
    let image = images.read_dir().unwrap().next().unwrap().unwrap().path();
    let before = give(&image, 0o600);
    make(["-q", "--layers"], input.as_ref(), &images);
    assert_eq!(who(&image), before);
}

/// Wait for the temporary file of a program that makes `image`. Return it.
fn temporary(image: &Path) -> PathBuf {
    let start = Instant::now();
    loop {
        let mut entries = image.parent().unwrap().read_dir().unwrap().flatten();
        let is_ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".mkdaxfs-");
        if let Some(found) = entries.find(|entry| is_ours(&entry.file_name())) {
            // It has its final state before it waits for input.
            std::thread::sleep(Duration::from_millis(100));
            return found.path();
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn from_the_first_byte() {
    let (_directory, at) = files();
    let image = at.join("image");
    fs::write(&image, "").unwrap();
    let before = give(&image, 0o600);
    let mut child = mkdaxfs()
        .args(["-q", "--force", "-"])
        .arg(&image)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let temporary = temporary(&image);
    assert_eq!(who(&temporary), before);
    // It becomes private while the image is made.
    chmod(&image, 0o400);
    let archive = fs::read(at.join("tree.tar")).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &archive).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(who(&image), (before.0, before.1, 0o400));
}

/// Return the access control list of a file.
fn list(path: &Path) -> String {
    run(Command::new("getfacl").args(["-c", "-p", "-n"]).arg(path)).stdout
}

#[test]
fn access_control_lists() {
    let (_directory, at) = files();
    let (tree, image) = (at.join("tree"), at.join("image"));
    make(["-q"], &tree, &image);
    let set = |words: &[&str], path: &Path| {
        let run = run(Command::new("setfacl").args(words).arg(path));
        run.status == 0
    };
    chmod(&image, 0o600);
    if !set(&["-m", "u:1234:r"], &image) {
        return skip("no access control lists here");
    }
    let before = list(&image);
    assert!(before.contains("user:1234:r--"), "{before}");
    make(["-q"], &tree, &image);
    assert_eq!(list(&image), before);
    // The directory would give new files a list.
    assert!(set(&["-b"], &image) && set(&["-d", "-m", "u:1234:rw"], &at));
    chmod(&image, 0o640);
    let before = list(&image);
    make(["-q"], &tree, &image);
    assert_eq!(list(&image), before);
}

/// Return a command for `program` by the user, who is in another group as well.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let groups = format!("--groups={USER},{}", USER + 1);
    command.args([
        &format!("--reuid={USER}"),
        &format!("--regid={USER}"),
        &groups,
    ]);
    command.arg(program);
    command
}

/// A user who cannot give files away excludes all others.
#[test]
fn ordinary_user() {
    if !is_root() {
        return skip("files of several users need root");
    }
    let (_directory, at) = files();
    let (program, own) = (at.join("mkdaxfs"), at.join("own"));
    // Another process writes it: a process that another thread starts here would have it open for
    // writing, and could not be executed.
    let copied = run(Command::new("cp")
        .arg(mkdaxfs().get_program())
        .arg(&program));
    assert_eq!((copied.status, copied.stderr.as_str()), (0, ""));
    chmod(&at, 0o755);
    fs::create_dir(&own).unwrap();
    chown(&own, Some(USER), Some(USER)).unwrap();
    let image = own.join("image");
    let replace = |uid, gid, mode| {
        fs::write(&image, "old").unwrap();
        chown(&image, Some(uid), Some(gid)).unwrap();
        chmod(&image, mode);
        let mut command = as_user(&program);
        let run = run(command.args(["-q", "-f"]).arg(at.join("tree")).arg(&image));
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        let found = who(&image);
        fs::remove_file(&image).unwrap();
        found
    };
    for (uid, gid, mode, expected) in [
        (USER, USER, 0o600, (USER, USER, 0o600)),
        (USER, USER + 1, 0o640, (USER, USER + 1, 0o640)),
        // A group of the user stays.
        (0, USER + 1, 0o640, (USER, USER + 1, 0o640)),
        // Another group does not, and its members are among the others.
        (0, 0, 0o644, (USER, USER, 0o644)),
        (0, 0, 0o640, (USER, USER, 0o600)),
        (0, 0, 0o604, (USER, USER, 0o600)),
        (0, 0, 0o664, (USER, USER, 0o644)),
    ] {
        assert_eq!(replace(uid, gid, mode), expected, "{uid} {gid} {mode:o}");
    }
    // Nothing is left or changed where the user may not write.
    chown(&own, Some(0), Some(0)).unwrap();
    fs::write(&image, "old").unwrap();
    chmod(&image, 0o666);
    let mut command = as_user(&program);
    let run = run(command.args(["-q", "-f"]).arg(at.join("tree")).arg(&image));
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("may write there"), "{run:?}");
    assert_eq!(fs::read(&image).unwrap(), b"old");
    assert_eq!(own.read_dir().unwrap().count(), 1);
}

/// Another user may be the first to put a file or a link with the name of the output into a
/// directory such as /tmp. That user cannot read the image, and does not choose where it goes.
#[test]
fn planted() {
    if !is_root() {
        skip("needs root");
        return;
    }
    let (_directory, at) = files();
    let (tree, shared) = (at.join("tree"), at.join("shared"));
    let (image, link) = (shared.join("image"), shared.join("link"));
    fs::create_dir(&shared).unwrap();
    chmod(&shared, 0o1777);
    make(["-q"], &tree, &image);
    fs::copy(&image, at.join("mine")).unwrap();
    chown(&image, Some(USER), Some(USER)).unwrap();
    make(["-q"], &tree, &image);
    assert_eq!(who(&image), (0, 0, 0o600));
    symlink(at.join("mine"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(USER), Some(USER)).unwrap();
    let before = fs::read(at.join("mine")).unwrap();
    let run = run(mkdaxfs().arg("-q").args([&tree, &link]));
    assert_eq!(run.status, 1);
    assert!(
        run.stderr.contains("link of another user"),
        "{}",
        run.stderr
    );
    assert!(fs::read(at.join("mine")).unwrap() == before);
}
