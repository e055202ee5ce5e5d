// SPDX-License-Identifier: GPL-2.0-only

//! `umount`: unmount an image, and nothing else.

use crate::error::{Error, Result};
use crate::text::shown_path;
use rustix::fs::{statx, AtFlags, StatxFlags, CWD};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Unmount the image that is mounted on `dir`.
///
/// # Errors
///
/// If something else is mounted there, or nothing, or if it is in use.
pub fn unmount(dir: &Path) -> Result<()> {
    let name = shown_path(dir);
    let fail = |remedy, error| Error::system(&name, "cannot unmount", remedy, error);
    let place = dir.canonicalize().map_err(|error| fail("", error))?;
    let mounts = std::fs::read("/proc/self/mountinfo").map_err(|error| fail("", error))?;
    let id = mount_id(&place).map_err(|error| fail("", error))?;
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
    let busy =
        "; files are open there, or it is the working directory of a process: fuser -m lists them";
    match rustix::mount::unmount(&place, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        // FUSE mounts of ordinary users.
        Err(Errno::PERM) => {
            let mut fusermount = Command::new("fusermount3");
            let quiet = fusermount.args(["-u", "-q", "--"]).arg(&place);
            let status = quiet.stdin(Stdio::null()).stderr(Stdio::null()).status();
            match status {
                Ok(status) if status.success() => Ok(()),
                _ => Err(fail(
                    "; only root can, or who mounted it",
                    Errno::PERM.into(),
                )),
            }
        }
        Err(Errno::BUSY) => Err(fail(busy, Errno::BUSY.into())),
        Err(error) => Err(fail("", error.into())),
    }
}

/// Return the id of the uppermost mount at `path`, which /proc/self/mountinfo shows as well. The
/// filesystem is not asked for anything: that of FUSE may be another user's.
pub fn mount_id(path: &Path) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, path, flags, StatxFlags::empty())?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(found.stx_mnt_id)
}

/// Return the type of the filesystem of mount `id`, if `place` is where it is mounted, from the
/// content of /proc/self/mountinfo. Its lines are in no order that says what covers what.
fn kind_at(mounts: &[u8], id: u64, place: &Path) -> Option<Vec<u8>> {
    mounts.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = std::str::from_utf8(fields.next()?).ok()?;
        let at = unescape(fields.nth(3)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let found = number.parse() == Ok(id) && at.as_bytes() == place.as_os_str().as_bytes();
        found.then(|| kind.to_vec())
    })
}

/// Undo the escapes of a path in /proc, three octal digits after a backslash.
fn unescape(text: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (byte, escaped) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
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
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
        let proc = Path::new("/proc");
        let kind = kind_at(&mounts, mount_id(proc).unwrap(), proc);
        assert_eq!(kind.as_deref(), Some(&b"proc"[..]));
    }
}
