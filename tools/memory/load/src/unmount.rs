// SPDX-License-Identifier: GPL-2.0-only

//! `umount`: unmount an image, and nothing else.

use crate::mountinfo::{self, mount_id, mounts};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Unmount the image that is mounted on `dir`.
///
/// Fail if something else is mounted there, or nothing, or if it is in use.
pub fn unmount(dir: &Path) -> Result<()> {
    let name = shown_path(dir);
    let place = dir.canonicalize().map_err(|error| failed(&name, error))?;
    let mounts = mountinfo::read()?;
    let id = mount_id(&place).map_err(|error| failed(&name, error))?;
    match kind_at(&mounts, id, &place).as_deref() {
        Some(b"daxfs" | b"fuse.daxfs") => {}
        Some(kind) => {
            let kind = String::from_utf8_lossy(kind);
            let why = format!("{kind} is mounted there, not an image; umount(8) unmounts it");
            return Err(Error::refused(name, why));
        }
        None => {
            let why = "nothing is mounted there; findmnt -t daxfs lists the images that are";
            return Err(Error::refused(name, why));
        }
    }
    detach(&place).map_err(|error| failed(&name, error))
}

/// Return the error of unmounting `name`.
pub fn failed(name: &str, error: io::Error) -> Error {
    let remedy = match Errno::from_io_error(&error) {
        Some(Errno::PERM) => "; only root can, or who mounted it",
        Some(Errno::BUSY) => {
            "; files are open there, or it is the working directory of a process: fuser -m lists them"
        }
        _ => "",
    };
    Error::system(name, "cannot unmount", remedy, error)
}

/// Unmount the topmost mount on `place`, which is absolute and leads through no symlinks. A user
/// who is not root needs fusermount3, which unmounts the FUSE mounts of that user.
///
/// Return the errors of umount(2); for a user who is not root `EBUSY` if fusermount3 finds the
/// mount in use, and `EPERM` if it is missing or fails otherwise.
pub fn detach(place: &Path) -> io::Result<()> {
    match rustix::mount::unmount(place, UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {
            let mut fusermount = Command::new("fusermount3");
            fusermount.args(["-u", "--"]).arg(place);
            // The reason for a failure is only in its message, not in its exit status.
            fusermount.env("LC_ALL", "C").stdin(Stdio::null());
            match fusermount.output() {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) if says_busy(&output.stderr) => Err(Errno::BUSY.into()),
                _ => Err(Errno::PERM.into()),
            }
        }
        result => Ok(result?),
    }
}

/// Return whether fusermount3 has said that a mount is in use, in the C locale.
fn says_busy(message: &[u8]) -> bool {
    String::from_utf8_lossy(message).contains("Device or resource busy")
}

/// Return the type of the filesystem of mount `id`, if `place` is where it is mounted, from the
/// content of /proc/self/mountinfo.
fn kind_at(text: &[u8], id: u64, place: &Path) -> Option<Vec<u8>> {
    let found = mounts(text).find(|mount| mount.id == id && mount.place == place);
    found.map(|mount| mount.kind.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_by_id() {
        let mounts = b"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            2 1 0:40 / /a\\040b ro - daxfs base.img ro\n\
            4 3 0:42 / /c ro shared:2 master:1 - tmpfs none rw\n\
            3 1 0:41 / /c ro - daxfs base.img ro\n";
        let kind = |id, path: &str| kind_at(mounts, id, Path::new(path));
        assert_eq!(kind(2, "/a b").as_deref(), Some(&b"daxfs"[..]));
        // The tmpfs was moved over the image.
        assert_eq!(kind(4, "/c").as_deref(), Some(&b"tmpfs"[..]));
        assert_eq!(kind(3, "/c").as_deref(), Some(&b"daxfs"[..]));
        // Not where it is mounted.
        assert_eq!(kind(3, "/c/dir"), None);
        assert_eq!(kind(5, "/c"), None);
    }

    #[test]
    fn mount_ids_are_those_of_mountinfo() {
        let mounts = std::fs::read(mountinfo::PATH).unwrap();
        let proc = Path::new("/proc");
        let kind = kind_at(&mounts, mount_id(proc).unwrap(), proc);
        assert_eq!(kind.as_deref(), Some(&b"proc"[..]));
    }
}
