// SPDX-License-Identifier: GPL-2.0-only

//! Directory trees that others write to and mount on: walks that stay below one directory and in
//! one mount.
//!
//! Containers, or users who build images, may mount other directories below a snapshot, and these
//! mounts propagate to it. So walks never cross mounts or follow symlinks, even if these change
//! meanwhile.

use crate::error::{Error, Result};
use daxfs_extract::cursor::{names_in, Cursor, DIRECTORY};
use daxfs_files::{identity, Identity};
use daxfs_load::mountinfo;
use rustix::fs::{fstat, open, statat, unlinkat, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Space and inodes of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

/// Returns the mount point of a mount in `text` at or below `dir`, which has no symbolic links.
fn below(text: &[u8], dir: &Path) -> Option<PathBuf> {
    let mut places = mountinfo::mounts(text).map(|mount| mount.mount_point);
    places.find(|place| place.starts_with(dir))
}

/// Returns `dir` without symbolic links, as mounts are listed, and the list of mounts, or `None` if
/// it does not exist. Fails if something is mounted at or below `dir`.
fn unmounted(dir: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let found = match dir.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(Error::io(dir, "examine"))?,
    };
    let text = mountinfo::read()?;
    match below(&text, &found) {
        Some(mount) => Err(Error::Mounted {
            path: dir.into(),
            mount,
        }),
        None => Ok(Some((found, text))),
    }
}

/// Fails if something is mounted at or below `dir`, or if any mount uses one of these directories:
/// a bind mount, or an overlay that writes to it. Finds only mounts in this mount namespace.
fn check_unused(dir: &Path) -> Result<()> {
    let Some((found, text)) = unmounted(dir)? else {
        return Ok(());
    };
    let id = mountinfo::mount_id(&found).map_err(Error::io(dir, "examine"))?;
    let path = dir.into();
    match user(&text, &[dir, &found], id) {
        Some(mount) => Err(Error::Used { path, mount }),
        None => Ok(()),
    }
}

/// Returns the mount point of a mount in `text` that uses the directory `names` or one below it.
/// The last name has no symbolic links, and the directory is in the mount number `id`.
fn user(text: &[u8], names: &[&Path], id: u64) -> Option<PathBuf> {
    let own = mountinfo::mounts(text).find(|mount| mount.id == id);
    let bound = own.and_then(|own| {
        let below = names.last()?.strip_prefix(&own.mount_point).ok()?;
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
    mountinfo::mounts(text)
        .find(uses)
        .map(|mount| mount.mount_point)
}

/// Fails if something is mounted at or below `dir`.
pub fn check_unmounted(dir: &Path) -> Result<()> {
    unmounted(dir).map(|_| ())
}

/// Removes the directory `dir` with all its contents, if it exists. Removes nothing if something is
/// mounted at or below it, or if a mount elsewhere uses it; later mounts stay.
pub fn remove_tree(dir: &Path) -> Result<()> {
    check_unused(dir)?;
    remove(dir)
}

/// Removes the directory `dir` with its contents, if it exists, except for mounts on it or below.
fn remove(dir: &Path) -> Result<()> {
    let (parent, name) = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return Err(Error::io(dir, "remove")(Errno::INVAL.into())),
    };
    let above = match open(parent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        above => above.map_err(|error| Error::io(parent, "open")(error.into()))?,
    };
    let names = vec![CString::new(name.as_bytes()).unwrap_or_default()];
    // The file being removed.
    let mut path = parent.to_owned();
    let removed = Cursor::in_mount(above).each(names, &mut |at, name, left| {
        let mut flags = AtFlags::REMOVEDIR;
        if !left {
            path.push(OsStr::from_bytes(name.to_bytes()));
            match at.enter(name.to_bytes()) {
                Ok(()) => return Ok(true),
                // It is a file or symbolic link, or is gone.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => flags = AtFlags::empty(),
                Err(error) => return Err(error),
            }
        }
        match unlinkat(at.here(), name, flags) {
            // Another call may have removed it.
            Ok(()) | Err(Errno::NOENT) => _ = path.pop(),
            Err(error) => return Err(error),
        }
        Ok(false)
    });
    removed.map_err(|error| Error::io(&path, "remove")(error.into()))
}

/// Returns the space on disk of the files in `dir`. Files that disappear during the call may count,
/// mounts below do not.
pub fn measure(dir: &Path) -> Result<Size> {
    let (mut blocks, mut moved) = (HashMap::new(), HashSet::new());
    // Do not let a process that keeps moving directories prevent this; the last attempt may miss
    // files.
    for _ in 0..10 {
        match count(dir, &mut blocks, &mut moved) {
            Ok(()) => break,
            Err(Errno::STALE | Errno::XDEV) => (),
            Err(error) => return Err(Error::io(dir, "measure")(error.into())),
        }
    }
    Ok(Size {
        bytes: blocks.values().sum::<u64>() * 512,
        inodes: blocks.len() as u64,
    })
}

/// Adds the `blocks` of all files in `dir`, except below `moved`. If a directory moves meanwhile,
/// or its parent is mounted on, adds it to `moved` and fails.
fn count(
    dir: &Path,
    blocks: &mut HashMap<Identity, u64>,
    moved: &mut HashSet<Identity>,
) -> rustix::io::Result<()> {
    let top = open(dir, DIRECTORY, Mode::empty())?;
    let mut add = |status: Stat| {
        blocks.insert(identity(&status), status.st_blocks as u64);
        identity(&status)
    };
    add(fstat(&top)?);
    let names = names_in(&top)?;
    let mut cursor = Cursor::in_mount(top);
    let done = cursor.each(names, &mut |at, name, left| {
        if left {
            return Ok(false);
        }
        let entered = at.enter(name.to_bytes());
        let status = match entered {
            Ok(()) => fstat(at.here()),
            Err(Errno::NOTDIR | Errno::LOOP) => statat(at.here(), name, AtFlags::SYMLINK_NOFOLLOW),
            Err(error) => Err(error),
        };
        match status.map(&mut add) {
            Ok(directory) if moved.contains(&directory) => at.leave().map(|_| false),
            // It was removed, or mounted on.
            Ok(_) | Err(Errno::NOENT | Errno::XDEV) => Ok(entered.is_ok()),
            Err(error) => Err(error),
        }
    });
    if done.is_err() {
        moved.insert(identity(&fstat(cursor.here())?));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_testing::can_mount;
    use rustix::fs::inotify::{add_watch, init, CreateFlags, WatchFlags};
    use rustix::mount::{MountFlags, UnmountFlags};
    use std::os::unix::fs::symlink;

    /// Mounts `from` on `place`, both below `top`.
    fn bind(from: &Path, place: &Path) {
        rustix::mount::mount_bind(from, place).unwrap();
    }

    /// A tree, and beside it a directory with a file that must remain.
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

    /// Measures `tree`, with 2,000 files in `dir`, and calls `change` whenever `dir` is opened.
    fn measure_with(tree: &Path, dir: &Path, change: &mut dyn FnMut()) -> Size {
        for number in 0..2000 {
            std::fs::write(dir.join(number.to_string()), "").unwrap();
        }
        let opened = init(CreateFlags::NONBLOCK).unwrap();
        add_watch(&opened, dir, WatchFlags::OPEN).unwrap();
        std::thread::scope(|scope| {
            let size = scope.spawn(|| measure(tree).unwrap());
            while !size.is_finished() {
                if rustix::io::read(&opened, &mut [0; 4096]).is_ok() {
                    change();
                }
            }
            size.join().unwrap()
        })
    }

    #[test]
    fn trees_without_mounts() {
        let (_top, tree, host) = place();
        std::fs::hard_link(tree.join("file"), tree.join("home/same")).unwrap();
        // Deeper than paths may be long, or than files may usually be open.
        let mut deep = open(&tree, OFlags::PATH, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        for _ in 0..1100 {
            rustix::fs::mkdirat(&deep, &*name, Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, &*name, OFlags::PATH, Mode::empty()).unwrap();
        }
        let size = measure(&tree).unwrap();
        // The tree itself, home, below, file and link.
        assert_eq!(size.inodes, 1105);
        assert!(size.bytes >= 1 << 20 && size.bytes < 16 << 20, "{size:?}");
        // A directory that keeps moving hides nothing.
        let mut places = ["home/below", "below", "n/below"].map(|place| tree.join(place));
        std::fs::create_dir(tree.join("n")).unwrap();
        let size = measure_with(&tree, &places[0].clone(), &mut || {
            std::fs::rename(&places[0], &places[1]).unwrap();
            places.rotate_left(1);
        });
        assert_eq!(size.inodes, 3106);
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
        let (top, tree, host) = place();
        let before = measure(&tree).unwrap();
        // On the same filesystem, so that device numbers do not distinguish them.
        bind(&host, &tree.join("home/below"));
        assert!(check_unmounted(&tree).is_err());
        assert_eq!(measure(&tree).unwrap().inodes, before.inodes - 1);
        let late = top.path().join("late");
        std::fs::create_dir_all(late.join("home/below")).unwrap();
        let size = measure_with(&late, &late.join("home/below"), &mut || {
            bind(&host, &late.join("home"))
        });
        assert_eq!(size.inodes, 2003);
        let error = remove_tree(&tree).unwrap_err();
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
        assert!(error.to_string().contains("home/below"), "{error}");
        assert!(tree.join("file").exists(), "part of it was removed");

        // A mount appears after the check.
        let crosses = |place: &str| {
            let error = remove(&tree).unwrap_err().to_string();
            let said = format!("{place}: cannot remove: Invalid cross-device link");
            assert!(error.ends_with(&said), "{error}");
            assert!(host.join("dir/precious").exists());
        };
        crosses("/tree/home/below");
        // On the tree itself.
        bind(&host, &tree);
        assert!(remove_tree(&tree).is_err());
        crosses("/tree");
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
        let (tree, work) = (memory.join("tree"), memory.join("work"));
        for dir in [&tree.join("below"), &work] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let [lower, upper, work] = [&host, &tree, &work].map(|dir| dir.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let options = CString::new(options).unwrap();
        let (name, flags) = ("overlay", MountFlags::empty());
        rustix::mount::mount(name, &elsewhere, name, flags, &*options).unwrap();
        std::fs::write(elsewhere.join("written"), "precious").unwrap();
        let error = remove_tree(&tree).unwrap_err();
        assert!(matches!(error, Error::Used { .. }), "{error}");
        assert!(tree.join("written").exists(), "part of it was removed");
        unmount();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
