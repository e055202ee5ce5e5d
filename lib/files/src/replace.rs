// SPDX-License-Identifier: GPL-2.0-only

//! Replaces files. Users who could not read the old file can never read the new one, from its first
//! byte on.

use rustix::fs::{
    fchmod, fchown, fremovexattr, fsetxattr, fstat, getxattr, lstat, stat, Gid, Mode, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::{Builder, NamedTempFile};

/// Extended attribute with the access control list.
const ACL: &CStr = c"system.posix_acl_access";

/// Extended attributes with the labels of security modules.
const LABELS: [&CStr; 2] = [c"security.selinux", c"security.SMACK64"];

const XATTR_MAX: usize = 64 << 10;

/// Creates a temporary file beside `path`, with a name that starts with `prefix` and ends with
/// `.tmp`. If `path` exists, the file is as private. [`rename`] moves it to `path`.
pub fn temporary(path: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let exists = path.exists();
    let file = Builder::new()
        .prefix(prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(if exists { 0o600 } else { 0o666 }))
        .tempfile_in(parent_of(path))
        .map_err(plain)?;
    inherit(file.as_file(), path)?;
    Ok(file)
}

/// Renames the temporary file `file` to `path`. The file at `path` at this moment decides who may
/// read the new one.
pub fn rename(file: NamedTempFile, path: &Path) -> io::Result<()> {
    inherit(file.as_file(), path)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Returns true if another user may have planted the file or symbolic link `path` in a
/// world-writable directory. The sticky bit keeps that user from replacing others' files, but not
/// from being first. Follows `fs.protected_regular` of Linux.
pub fn is_planted(path: &Path) -> io::Result<bool> {
    let found = match lstat(path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let directory = stat(parent_of(path))?;
    let shared = directory.st_mode & 0o1000 != 0 && directory.st_mode & 0o022 != 0;
    let owners = [geteuid().as_raw(), directory.st_uid];
    Ok(shared && !owners.contains(&found.st_uid))
}

/// Copies the owner, mode, access control list and label of the file `old`, if it exists, to `new`.
/// If an owner or list cannot be set, only the caller and users who had access before get access.
/// If `old` [may be planted](is_planted), only the caller does.
fn inherit(new: &File, old: &Path) -> io::Result<()> {
    if is_planted(old)? {
        return Ok(fchmod(new, Mode::from_raw_mode(0o600))?);
    }
    let found = match stat(old) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for label in LABELS {
        if let Ok(Some(value)) = xattr(old, label) {
            // Without permission to set it, the file keeps the label of other new files.
            let _ = fsetxattr(new, label, &value, XattrFlags::empty());
        }
    }
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    // Users may give files to their groups, but not to other users.
    let same_group =
        fchown(new, Some(uid), Some(gid)).is_ok() || fchown(new, None, Some(gid)).is_ok();
    let mode = found.st_mode & 0o777;
    let list = xattr(old, ACL);
    let set = match &list {
        Ok(Some(list)) if same_group => fsetxattr(new, ACL, list, XattrFlags::empty()),
        // The new file may have inherited a list from its directory.
        _ => match fremovexattr(new, ACL) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            removed => removed,
        },
    };
    let mode = match (set, list) {
        (Ok(()), Ok(_)) if same_group => mode,
        // Members of one group are now among the others, and vice versa.
        (Ok(()), Ok(None)) => (mode & 0o700) | (((mode >> 3) & mode & 7) * 0o11),
        _ => mode & 0o700,
    };
    match fchmod(new, Mode::from_raw_mode(mode)) {
        // Some filesystems use one mode for all files.
        Err(error) if fstat(new)?.st_mode & 0o777 & !mode != 0 => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns an extended attribute, if it exists.
fn xattr(path: &Path, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; XATTR_MAX];
    match getxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the directory that contains the file `path`.
pub fn parent_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Strips the temporary file's name from the system's error.
pub fn plain(error: std::io::Error) -> std::io::Error {
    let source = error.get_ref().and_then(|inner| inner.source());
    match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(inner) => inner
            .raw_os_error()
            .map_or(inner.kind().into(), std::io::Error::from_raw_os_error),
        None => error,
    }
}
