// SPDX-License-Identifier: GPL-2.0-only

//! /proc/self/mountinfo: the mounts that this process sees.

use daxfs_image::error::{Error, Result};
use rustix::fs::{statx, AtFlags, Statx, StatxFlags, CWD};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A line of /proc/self/mountinfo.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Number of the mount, as in statx(2).
    pub id: u64,
    /// Device number, `MAJOR:MINOR`.
    pub device: &'a [u8],
    /// The filesystem's directory that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Options of the mount itself, such as `nosuid`.
    pub attributes: &'a [u8],
    /// Type of the filesystem.
    pub kind: &'a [u8],
    /// The source of the mount.
    pub source: OsString,
    /// Options of the superblock, with escapes.
    pub options: &'a [u8],
}

impl Mount<'_> {
    /// Returns true if the superblock has `option`, including its value.
    pub fn has(&self, option: &str) -> bool {
        let mut options = self.options.split(|&byte| byte == b',');
        options.any(|found| found == option.as_bytes())
    }

    /// Returns the value of the superblock's option `name`.
    pub fn option(&self, name: &str) -> Option<OsString> {
        // Commas in values are escaped.
        let mut options = self.options.split(|&byte| byte == b',');
        options.find_map(|option| {
            let value = option.strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=").map(unescape)
        })
    }
}

/// Returns the content of /proc/self/mountinfo.
pub fn read() -> Result<Vec<u8>> {
    read_of("self")
}

/// Returns the mounts that a process sees; `who` is its number, or `self`.
pub fn read_of(who: &str) -> Result<Vec<u8>> {
    let path = format!("/proc/{who}/mountinfo");
    std::fs::read(&path).map_err(|error| Error::system(path, "cannot read", "", error))
}

/// Returns the mounts in `text`, the content of /proc/self/mountinfo. The order of lines does not
/// show which mount covers which. Malformed lines are left out.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = fields.nth(1)?;
        let root = unescape(fields.next()?).into();
        let mount_point = unescape(fields.next()?).into();
        let attributes = fields.next()?;
        // Optional fields end with a hyphen.
        let mut fields = fields.skip_while(|field| *field != b"-");
        Some(Mount {
            id,
            device,
            root,
            mount_point,
            attributes,
            kind: fields.nth(1)?,
            source: unescape(fields.next()?),
            options: fields.next()?,
        })
    })
}

/// Returns the kernel's data on the uppermost mount at `path`: device, id, whether it is one.
/// Follows no symlink, triggers no mount and asks no filesystem, such as another user's FUSE.
pub fn status(path: &Path) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(CWD, path, flags, StatxFlags::empty())
}

/// Returns the id of the uppermost mount at `path`, as in /proc/self/mountinfo.
///
/// Returns the errors of [`status`], and `EOPNOTSUPP` if the kernel lacks mount ids.
pub fn mount_id(path: &Path) -> io::Result<u64> {
    let found = status(path)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(found.stx_mnt_id)
}

/// Decodes the escapes of a path in /proc: a backslash and three octal digits.
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
    fn fields() {
        let text = b"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            2 1 0:40 / /a\\040b ro - daxfs base\\134.img ro\n\
            damaged\n\
            4 3 0:42 /d\\040ir /c ro shared:2 master:1 - tmpfs none rw\n\
            5 1 0:43 / /o rw - overlay overlay rw,upperdir=/a\\054b\\040c/fs,workdir=/w,nouserxattr\n";
        let found: Vec<_> = mounts(text).collect();
        let mount = |id, device, root: &str, dir: &str, kind, source: &str, options| Mount {
            id,
            device,
            root: root.into(),
            mount_point: dir.into(),
            attributes: [&b"rw,relatime"[..], b"ro", b"", b"ro", b"rw"][id as usize - 1],
            kind,
            source: source.into(),
            options,
        };
        let options: &[u8] = b"rw,upperdir=/a\\054b\\040c/fs,workdir=/w,nouserxattr";
        assert_eq!(
            found,
            [
                mount(1, b"8:1", "/", "/", b"ext4", "/dev/sda1", b"rw"),
                mount(2, b"0:40", "/", "/a b", b"daxfs", "base\\.img", b"ro"),
                mount(4, b"0:42", "/d ir", "/c", b"tmpfs", "none", b"rw"),
                mount(5, b"0:43", "/", "/o", b"overlay", "overlay", options),
            ]
        );
        assert_eq!(found[3].option("upperdir"), Some("/a,b c/fs".into()));
        assert_eq!(found[3].option("workdir"), Some("/w".into()));
        assert_eq!(found[3].option("upper"), None);
        assert_eq!(found[3].option("rw"), None);
        assert!(found[3].has("rw") && found[3].has("workdir=/w") && !found[3].has("workdir"));
    }

    #[test]
    fn ids() {
        let id = mount_id(Path::new("/proc")).unwrap();
        let text = read().unwrap();
        let found = mounts(&text).find(|mount| mount.id == id).unwrap();
        assert_eq!(
            (found.kind, found.mount_point),
            (&b"proc"[..], "/proc".into())
        );
    }
}
