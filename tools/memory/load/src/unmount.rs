// SPDX-License-Identifier: GPL-2.0-only

//! Unmount images.

use daxfs_image::error::Error;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Return the error of unmounting `name`.
pub fn failed(name: &str, error: io::Error) -> Error {
    let remedy = match Errno::from_io_error(&error) {
        Some(Errno::PERM) => "; only root can",
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
/// Return the errors of umount(2), and `EPERM` if fusermount3 fails.
pub fn detach(place: &Path) -> io::Result<()> {
    match rustix::mount::unmount(place, UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {
            let mut fusermount = Command::new("fusermount3");
            fusermount.args(["-u", "--"]).arg(place);
            fusermount.stdin(Stdio::null()).stderr(Stdio::null());
            match fusermount.status() {
                Ok(status) if status.success() => Ok(()),
                _ => Err(Errno::PERM.into()),
            }
        }
        result => Ok(result?),
    }
}
