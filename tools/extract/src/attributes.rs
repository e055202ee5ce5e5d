// SPDX-License-Identifier: GPL-2.0-only

//! Restores a file's attributes from the image. The order matters: changing the owner clears set-id
//! bits and capabilities, and a mode may revoke permission to set attributes.

use daxfs_files::Losses;
use daxfs_image::text::{cause, shown};
use daxfs_reader::{FileType, Inode, OwnedXattr};
use rustix::fs::{
    chmod, chownat, fchmod, fchown, fgetxattr, fremovexattr, fsetxattr, fstat, futimens, lsetxattr,
    openat, statat, utimensat, AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A file on disk.
pub enum FileRef<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// The file with this name in an open directory; never followed.
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl FileRef<'_> {
    fn chown(&self, uid: Uid, gid: Gid) -> Result<()> {
        match self {
            FileRef::Open(fd) => fchown(fd, Some(uid), Some(gid)),
            FileRef::Named(dir, name) => {
                chownat(dir, *name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn stat(&self) -> Result<Stat> {
        match self {
            FileRef::Open(fd) => fstat(fd),
            FileRef::Named(dir, name) => statat(dir, *name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_xattr(&self, xattr: &OwnedXattr) -> Result<()> {
        let name = xattr.whole_name();
        let flags = XattrFlags::empty();
        match self {
            FileRef::Open(fd) => fsetxattr(fd, name, &xattr.value, flags),
            FileRef::Named(dir, file) => {
                let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
                path.extend_from_slice(file);
                lsetxattr(path, name, &xattr.value, flags)
            }
        }
    }

    fn chmod(&self, mode: Mode) -> Result<()> {
        match self {
            FileRef::Open(fd) => fchmod(fd, mode),
            FileRef::Named(dir, name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(dir, *name, flags, Mode::empty())?;
                chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
            }
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<()> {
        match self {
            FileRef::Open(fd) => futimens(fd, times),
            FileRef::Named(dir, name) => utimensat(dir, *name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}

/// Sets owner, extended attributes, mode and times of `file`; `path` is for messages.
///
/// On failure, returns the operation and the system's error.
pub fn restore(
    file: &FileRef<'_>,
    inode: &Inode,
    xattrs: &[OwnedXattr],
    path: &[u8],
    owner: bool,
    losses: &mut Losses,
) -> std::result::Result<(), (&'static str, Errno)> {
    let symlink = inode.file_type == FileType::Symlink;
    let mut permissions = inode.permissions();
    if owner {
        if inode.uid == u32::MAX || inode.gid == u32::MAX {
            // To chown(2), this ID means "unchanged".
            losses.add("owner 4294967295 cannot be set".into(), || shown(path));
        } else {
            file.chown(Uid::from_raw(inode.uid), Gid::from_raw(inode.gid))
                .map_err(|error| ("set the owner", error))?;
        }
    }
    for xattr in xattrs {
        match file.set_xattr(xattr) {
            Ok(()) => (),
            Err(
                error @ (Errno::PERM
                | Errno::ACCESS
                | Errno::NOTSUP
                | Errno::INVAL
                | Errno::NOSPC
                | Errno::TOOBIG),
            ) => {
                let name = shown(&xattr.whole_name());
                let why = cause(&error.into());
                let what = format!("extended attribute {name} left out: {why}");
                losses.add(what, || shown(path));
            }
            Err(error) => return Err(("set an extended attribute", error)),
        }
    }
    if !symlink {
        if permissions & 0o6000 != 0 {
            let stat = file.stat().map_err(|error| ("examine", error))?;
            // With a different owner, these bits would mean something else.
            let mut bits = 0;
            if stat.st_uid != inode.uid {
                bits |= 0o4000;
            }
            if stat.st_gid != inode.gid {
                bits |= 0o2000;
            }
            if permissions & bits != 0 {
                permissions &= !bits;
                let what = "set-id bits left out, since the owner is another";
                losses.add(what.into(), || shown(path));
            }
        }
        let mode = Mode::from_raw_mode(permissions.into());
        file.chmod(mode).map_err(|error| ("set the mode", error))?;
    }
    let time = Timespec {
        tv_sec: inode.mtime_sec,
        tv_nsec: inode.mtime_nsec.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    file.set_times(&times)
        .map_err(|error| ("set the time", error))
}

/// Drops the attributes that files would inherit from the directory `fd`.
pub fn inherit_nothing(fd: impl AsFd) {
    let name = c"system.posix_acl_default";
    if fgetxattr(&fd, name, &mut [] as &mut [u8]).is_ok() {
        // If this fails, access lists cannot be set either, which is reported.
        let _ = fremovexattr(&fd, name);
    }
}
