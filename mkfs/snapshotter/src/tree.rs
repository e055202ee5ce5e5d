// SPDX-License-Identifier: GPL-2.0-only

//! Directory trees that others write to and mount on: walks that stay below one directory and in one
//! mount.
//!
//! A container, or a user who builds an image, may mount other directories below a snapshot, and the
//! mounts propagate to it. So no walk crosses a mount or follows a symbolic link, whatever changes
//! meanwhile: each directory is opened by its name in the one above, with openat2(2).

use crate::error::{Error, Result};
use daxfs::mountinfo;
use rustix::fs::{
    open, openat2, statat, unlinkat, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags,
};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Space and inodes that a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

/// Return a mount at `dir` or below it, if there is one.
///
/// # Errors
///
/// [`Error::Io`].
pub fn mount_below(dir: &Path) -> Result<Option<PathBuf>> {
    // Mounts are listed without symbolic links.
    let dir = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(dir, "examine")(error)),
    };
    let path = Path::new(mountinfo::PATH);
    let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let below = mountinfo::mounts(&text)
        .map(|mount| mount.place)
        .find(|place| place.starts_with(&dir));
    Ok(below)
}

/// Return an error if something is mounted at `dir` or below it.
///
/// # Errors
///
/// [`Error::Mounted`] and [`Error::Io`].
pub fn check_unmounted(dir: &Path) -> Result<()> {
    match mount_below(dir)? {
        Some(mount) => Err(Error::Mounted {
            path: dir.into(),
            mount,
        }),
        None => Ok(()),
    }
}

/// Remove the directory `dir` with all that it contains, if it exists. If something is mounted there
/// or below it, nothing is removed; what is mounted meanwhile is left as it is.
///
/// # Errors
///
/// [`Error::Mounted`] and [`Error::Io`].
pub fn remove_tree(dir: &Path) -> Result<()> {
    check_unmounted(dir)?;
    let (parent, name) = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return Err(Error::io(dir, "remove")(Errno::INVAL.into())),
    };
    let parent = match open(parent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent.map_err(|error| Error::io(parent_of(dir), "open")(error.into()))?,
    };
    let mut path = dir.to_owned();
    remove_from(parent.as_fd(), name, &mut path)
        .map_err(|error| Error::io(&path, "remove")(error.into()))
}

fn parent_of(dir: &Path) -> &Path {
    dir.parent().unwrap_or(dir)
}

/// A directory that is being removed.
struct Level {
    dir: OwnedFd,
    /// Its name in the directory above.
    name: OsString,
    /// Names in it that remain.
    left: Vec<CString>,
}

/// Remove `name` from the directory `parent`. `path` is its path, and afterwards that of the file
/// that an error is about.
fn remove_from(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &mut PathBuf,
) -> std::result::Result<(), Errno> {
    let mut levels = Vec::new();
    levels.extend(enter(parent, name)?);
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.left.pop() {
            let name = OsString::from_vec(name.into_bytes());
            path.push(&name);
            match enter(level.dir.as_fd(), &name)? {
                Some(below) => levels.push(below),
                None => _ = path.pop(),
            }
            continue;
        }
        let Some(Level { name, .. }) = levels.pop() else {
            break;
        };
        let above = levels.last().map_or(parent, |level| level.dir.as_fd());
        missing(unlinkat(above, &name, AtFlags::REMOVEDIR))?;
        if !levels.is_empty() {
            path.pop();
        }
    }
    Ok(())
}

/// Open the directory `name` in the directory `above`, or remove the file of that name.
fn enter(above: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<Option<Level>, Errno> {
    let dir = match open_below(above, name) {
        Ok(dir) => dir,
        // A file, or a symbolic link.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            missing(unlinkat(above, name, AtFlags::empty()))?;
            return Ok(None);
        }
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let left = names(dir.as_fd())?;
    Ok(Some(Level {
        dir,
        name: name.into(),
        left,
    }))
}

/// Open the directory `name` in the directory `above`: [`Errno::XDEV`] if it is a mount,
/// [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is something else.
fn open_below(above: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    openat2(
        above,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
    )
}

/// Return all names in a directory.
fn names(dir: BorrowedFd<'_>) -> std::result::Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Count a file that is not there as removed.
fn missing(result: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Return the space on disk that the files in `dir` take. Files that disappear meanwhile, and what is
/// mounted below, do not count.
///
/// # Errors
///
/// [`Error::Io`].
pub fn measure(dir: &Path) -> Result<Size> {
    let fail = |error: Errno| Error::io(dir, "measure")(error.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = open(dir, flags, Mode::empty()).map_err(fail)?;
    let status = rustix::fs::fstat(&top).map_err(fail)?;
    let mut size = Size {
        bytes: status.st_blocks as u64 * 512,
        inodes: 1,
    };
    let mut seen = HashSet::new();
    let left = names(top.as_fd()).map_err(fail)?;
    let mut levels = vec![(top, left)];
    while let Some((above, left)) = levels.last_mut() {
        let Some(name) = left.pop() else {
            levels.pop();
            continue;
        };
        let status = match statat(&*above, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            status => status.map_err(fail)?,
        };
        let mut below = None;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            let opened = open_below(above.as_fd(), OsStr::from_bytes(name.as_bytes()));
            let opened = opened.and_then(|dir| Ok((names(dir.as_fd())?, dir)));
            below = match opened {
                Ok((left, dir)) => Some((dir, left)),
                // It was removed, replaced or mounted on.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(error) => return Err(fail(error)),
            };
        }
        if seen.insert((status.st_dev, status.st_ino)) {
            size.bytes += status.st_blocks as u64 * 512;
            size.inodes += 1;
        }
        levels.extend(below);
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    /// Run the test `name` again where it can mount. Return whether this is already there; otherwise
    /// the test is done.
    fn can_mount(name: &str) -> bool {
        if std::env::var_os("DAXFS_CAN_MOUNT").is_some() {
            return true;
        }
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount"]);
            command.args(["--propagation", "private"]);
            command
        };
        if !unshare().arg("true").status().is_ok_and(|it| it.success()) {
            eprintln!("skipped: this user cannot mount");
            return false;
        }
        let program = std::env::current_exe().unwrap();
        let mut again = unshare();
        again.arg(program).args(["--exact", name, "--nocapture"]);
        let output = again.env("DAXFS_CAN_MOUNT", "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        false
    }

    /// Mount `from` on `place`, both below `top`.
    fn bind(from: &Path, place: &Path) {
        rustix::mount::mount_bind(from, place).unwrap();
    }

    /// A tree, and a directory beside it with a file that must remain.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let top = tempfile::TempDir::new().unwrap();
        let (tree, host) = (top.path().join("tree"), top.path().join("host"));
        std::fs::create_dir_all(tree.join("home/below")).unwrap();
        std::fs::create_dir_all(host.join("dir")).unwrap();
        std::fs::write(host.join("dir/precious"), "precious").unwrap();
        std::fs::write(tree.join("file"), vec![1; 1 << 20]).unwrap();
        symlink(&host, tree.join("link")).unwrap();
        (top, tree, host)
    }

    #[test]
    fn trees_without_mounts() {
        let (_top, tree, host) = place();
        std::fs::hard_link(tree.join("file"), tree.join("home/same")).unwrap();
        // Deeper than a path may be long.
        let mut deep = open(&tree, OFlags::PATH, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        for _ in 0..100 {
            rustix::fs::mkdirat(&deep, &*name, Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, &*name, OFlags::PATH, Mode::empty()).unwrap();
        }
        let size = measure(&tree).unwrap();
        // The tree itself, home, below, file and link.
        assert_eq!(size.inodes, 105);
        assert!(size.bytes >= 1 << 20 && size.bytes < 2 << 20, "{size:?}");
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && host.join("dir/precious").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&tree.join("none")).unwrap();
        let link = host.join("link");
        symlink(host.join("dir"), &link).unwrap();
        assert!(measure(&link).is_err());
    }

    #[test]
    fn mounts_remain() {
        if !can_mount("tree::tests::mounts_remain") {
            return;
        }
        let (_top, tree, host) = place();
        let before = measure(&tree).unwrap();
        // Of the same filesystem, so device numbers do not tell them apart.
        bind(&host, &tree.join("home/below"));
        assert_eq!(
            mount_below(&tree).unwrap(),
            Some(tree.join("home/below").canonicalize().unwrap())
        );
        assert_eq!(measure(&tree).unwrap().inodes, before.inodes - 1);
        let error = remove_tree(&tree).unwrap_err();
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
        assert!(error.to_string().contains("home/below"), "{error}");
        assert!(tree.join("file").exists(), "part of it was removed");

        // A mount that appears after the check.
        let above = open(tree.parent().unwrap(), OFlags::PATH, Mode::empty()).unwrap();
        let mut path = tree.clone();
        let error = remove_from(above.as_fd(), OsStr::new("tree"), &mut path).unwrap_err();
        assert_eq!(error, Errno::XDEV);
        assert_eq!(path, tree.join("home/below"));
        assert!(host.join("dir/precious").exists());

        // The tree itself.
        bind(&host, &tree);
        assert!(remove_tree(&tree).is_err());
        let error = remove_from(above.as_fd(), OsStr::new("tree"), &mut path).unwrap_err();
        assert_eq!(error, Errno::XDEV);
        assert!(host.join("dir/precious").exists());
    }
}
