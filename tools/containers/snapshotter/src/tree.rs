// SPDX-License-Identifier: GPL-2.0-only

//! Directory trees that others write to and mount on: walks that stay below one directory and in one
//! mount.
//!
//! A container, or a user who builds an image, may mount other directories below a snapshot, and the
//! mounts propagate to it. So no walk crosses a mount or follows a symbolic link, whatever changes during it: each
//! directory is opened by its name in the one above, with openat2(2).

use crate::error::{Error, Result};
use daxfs_load::mountinfo;
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

/// Return `dir` without symbolic links, as mounts are listed, or `None` if it does not exist.
fn real(dir: &Path) -> Result<Option<PathBuf>> {
    match dir.canonicalize() {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(dir, "examine")(error)),
    }
}

/// Return where a mount in `text` is that is at `dir`, which has no symbolic links, or below it.
fn below(text: &[u8], dir: &Path) -> Option<PathBuf> {
    let mut places = mountinfo::mounts(text).map(|mount| mount.place);
    places.find(|place| place.starts_with(dir))
}

/// Return a mount at `dir` or below it, if there is one.
pub fn mount_below(dir: &Path) -> Result<Option<PathBuf>> {
    match real(dir)? {
        Some(dir) => Ok(below(&mountinfo::read()?, &dir)),
        None => Ok(None),
    }
}

/// Return an error if something is mounted at `dir` or below it, or if a mount anywhere uses one of these
/// directories: a bind mount, or an overlay that writes to it. Only mounts in this mount namespace are
/// found.
fn check_unused(dir: &Path) -> Result<()> {
    let Some(found) = real(dir)? else {
        return Ok(());
    };
    let text = mountinfo::read()?;
    let path = dir.into();
    if let Some(mount) = below(&text, &found) {
        return Err(Error::Mounted { path, mount });
    }
    let id = mountinfo::mount_id(&found).map_err(Error::io(dir, "examine"))?;
    match user(&text, &[dir, &found], id) {
        Some(mount) => Err(Error::Used { path, mount }),
        None => Ok(()),
    }
}

/// Return where a mount in `text` is that uses the directory with the names `names`, or one below it.
/// The last name has no symbolic links, and the directory is in the mount number `id`.
fn user(text: &[u8], names: &[&Path], id: u64) -> Option<PathBuf> {
    let own = mountinfo::mounts(text).find(|mount| mount.id == id);
    let bound = own.and_then(|own| {
        let below = names.last()?.strip_prefix(&own.place).ok()?;
        Some((own.device, own.root.join(below)))
    });
    let uses = |mount: &mountinfo::Mount<'_>| {
        let upper = mount.option("upperdir").map(PathBuf::from);
        bound
            .as_ref()
            .is_some_and(|(device, root)| mount.device == *device && mount.root.starts_with(root))
            || mount.kind == b"overlay"
                && upper.is_some_and(|upper| names.iter().any(|name| upper.starts_with(name)))
    };
    mountinfo::mounts(text).find(uses).map(|mount| mount.place)
}

/// Return an error if something is mounted at `dir` or below it.
pub fn check_unmounted(dir: &Path) -> Result<()> {
    match mount_below(dir)? {
        Some(mount) => Err(Error::Mounted {
            path: dir.into(),
            mount,
        }),
        None => Ok(()),
    }
}

/// Remove the directory `dir` with all that it contains, if it exists. If something is mounted there or below it, or a
/// mount elsewhere uses it, nothing is removed; later mounts stay.
pub fn remove_tree(dir: &Path) -> Result<()> {
    check_unused(dir)?;
    let (parent, name) = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return Err(Error::io(dir, "remove")(Errno::INVAL.into())),
    };
    let above = match open(parent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        above => above.map_err(|error| Error::io(parent, "open")(error.into()))?,
    };
    let mut path = dir.to_owned();
    remove_from(above.as_fd(), name, &mut path)
        .map_err(|error| Error::io(&path, "remove")(error.into()))
}

/// A directory that is being removed.
struct Level {
    dir: OwnedFd,
    /// Its name in the directory above.
    name: OsString,
    /// Names in it that remain.
    left: Vec<CString>,
}

/// Remove `name` from the directory `parent`. `path` is its path, and afterwards the path of the file that caused an
/// error.
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
    // Another call may have removed it.
    let left = match names(dir.as_fd()) {
        Err(Errno::NOENT) => Vec::new(),
        left => left?,
    };
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

/// Return the space on disk that the files in `dir` take. Files that disappear during the call, and mounts below, do
/// not count.
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
    use daxfs_testing::can_mount;
    use rustix::mount::{MountFlags, UnmountFlags};
    use std::os::unix::fs::symlink;

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

    #[test]
    fn users_of_a_directory() {
        let user = |mount: &str, dir: &str| {
            let text = format!("1 0 8:1 /sub / rw - ext4 /dev/sda1 rw\n{mount}\n");
            user(text.as_bytes(), &[Path::new("/link/fs"), Path::new(dir)], 1)
        };
        let found = Some(PathBuf::from("/m m"));
        let overlay = |upper| {
            format!("2 1 0:9 / /m\\040m rw - overlay overlay rw,upperdir={upper},workdir=/w")
        };
        assert_eq!(user(&overlay("/a\\040b/fs"), "/a b/fs"), found);
        assert_eq!(user(&overlay("/a\\040b/fs"), "/a b"), found);
        assert_eq!(user(&overlay("/link/fs"), "/a b/fs"), found);
        for other in ["/a\\040b/fs2", "/a\\040b", "fs"] {
            assert_eq!(user(&overlay(other), "/a b/fs"), None, "{other}");
        }
        let bind = |device, root| format!("2 1 {device} {root} /m\\040m rw - ext4 /dev/sda1 rw");
        for below in ["/sub/a\\040b/fs", "/sub/a\\040b/fs/below"] {
            assert_eq!(user(&bind("8:1", below), "/a b/fs"), found, "{below}");
        }
        for other in ["/sub/a\\040b/fs2", "/sub/a\\040b", "/a\\040b/fs"] {
            assert_eq!(user(&bind("8:1", other), "/a b/fs"), None, "{other}");
        }
        assert_eq!(user(&bind("8:2", "/sub/a\\040b/fs"), "/a b/fs"), None);
    }

    #[test]
    fn used_trees_remain() {
        if !can_mount("tree::tests::used_trees_remain") {
            return;
        }
        let (top, tree, host) = place();
        let elsewhere = top.path().join("else where");
        std::fs::create_dir(&elsewhere).unwrap();
        let used = || match remove_tree(&tree).unwrap_err() {
            Error::Used { path, mount } => {
                assert_eq!(path, tree);
                assert_eq!(mount, elsewhere.canonicalize().unwrap());
                assert!(tree.join("file").exists(), "part of it was removed");
            }
            error => panic!("{error}"),
        };
        let unmount = || rustix::mount::unmount(&elsewhere, UnmountFlags::empty()).unwrap();
        for from in [&tree, &tree.join("home")] {
            bind(from, &elsewhere);
            used();
            unmount();
        }
        // The tests may run on an overlay, which cannot be an upper directory.
        let memory = top.path().join("memory");
        std::fs::create_dir(&memory).unwrap();
        rustix::mount::mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), None).unwrap();
        let tree = memory.join("tree");
        for dir in ["tree/below", "work"] {
            std::fs::create_dir_all(memory.join(dir)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            host.display(),
            tree.display(),
            memory.join("work").display()
        );
        let options = std::ffi::CString::new(options).unwrap();
        let mounted = rustix::mount::mount(
            "overlay",
            &elsewhere,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        );
        mounted.unwrap();
        std::fs::write(elsewhere.join("written"), "precious").unwrap();
        let error = remove_tree(&tree).unwrap_err();
        assert!(matches!(error, Error::Used { .. }), "{error}");
        assert!(tree.join("written").exists(), "part of it was removed");
        unmount();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
