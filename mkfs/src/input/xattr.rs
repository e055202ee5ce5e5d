// SPDX-License-Identifier: GPL-2.0-only

//! Reads the extended attributes of a file.

use crate::writer::tree::XattrSet;
use daxfs_files::{Error, Result};
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::OwnedXattr;
use rustix::fs::{getxattr, lgetxattr, listxattr, llistxattr};
use rustix::io::Errno;
use std::path::Path;

/// Splits an attribute's name into its prefix and the rest.
pub(crate) fn split_name(name: &[u8]) -> Option<(XattrPrefix, &[u8])> {
    XattrPrefix::ALL.into_iter().find_map(|prefix| {
        let rest = name.strip_prefix(prefix.text().as_bytes())?;
        // Some prefixes are complete names, the others need a rest.
        let whole = !prefix.text().ends_with('.');
        (whole == rest.is_empty()).then_some((prefix, rest))
    })
}

/// Calls a function like getxattr(2), with a larger buffer if needed.
fn sized(
    buffer: &mut Vec<u8>,
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    loop {
        match call(buffer) {
            // Linux limits both lists and values to 64 KiB; other filesystems may not.
            Err(Errno::RANGE) => {
                let length = call(&mut [])?;
                buffer.resize(length.max(buffer.len() * 2), 0);
            }
            result => return result,
        }
    }
}

/// Reads extended attributes with reusable buffers.
pub struct XattrReader {
    /// Whether to read the attributes of a symlink's target.
    pub follow: bool,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Default for XattrReader {
    fn default() -> Self {
        let (list, value) = (vec![0; 4096], vec![0; 4096]);
        XattrReader {
            follow: false,
            list,
            value,
        }
    }
}

impl XattrReader {
    /// Returns the extended attributes of the file at `access`; `shown` is its name for messages.
    /// Calls `unknown` with names that no image can store.
    pub fn read(
        &mut self,
        access: &Path,
        shown: impl Fn() -> std::path::PathBuf,
        mut unknown: impl FnMut(&[u8]),
    ) -> Result<XattrSet> {
        let mut set = XattrSet::new();
        let follow = self.follow;
        let length = match sized(&mut self.list, |buffer| {
            if follow {
                listxattr(access, buffer)
            } else {
                llistxattr(access, buffer)
            }
        }) {
            Ok(length) => length,
            // The filesystem has no extended attributes.
            Err(Errno::NOTSUP | Errno::NOSYS) => 0,
            Err(error) => return Err(Error::io(&shown(), "list the extended attributes", error)),
        };
        for name in self.list[..length].split(|&byte| byte == 0) {
            if name.is_empty() {
                continue;
            }
            let Some((prefix, rest)) = split_name(name) else {
                unknown(name);
                continue;
            };
            let length = match sized(&mut self.value, |buffer| {
                if follow {
                    getxattr(access, name, buffer)
                } else {
                    lgetxattr(access, name, buffer)
                }
            }) {
                Ok(length) => length,
                // The attribute was removed, or the filesystem or security module lists a name
                // without a value.
                Err(Errno::NODATA | Errno::NOTSUP) => continue,
                Err(error) => {
                    let operation = "read an extended attribute";
                    return Err(Error::io(&shown(), operation, error));
                }
            };
            set.push(OwnedXattr {
                prefix,
                name: rest.into(),
                value: self.value[..length].into(),
            });
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split() {
        use XattrPrefix::{AclAccess, AclDefault, Security, Trusted, User};
        for (name, expected) in [
            ("user.a.b", Some((User, "a.b"))),
            ("trusted.x", Some((Trusted, "x"))),
            ("security.selinux", Some((Security, "selinux"))),
            ("system.posix_acl_access", Some((AclAccess, ""))),
            ("system.posix_acl_default", Some((AclDefault, ""))),
            ("user.", None),
            ("user", None),
            ("system.posix_acl_accessory", None),
            ("system.nfs4_acl", None),
            ("btrfs.x", None),
            ("", None),
        ] {
            let expected = expected.map(|(prefix, rest)| (prefix, rest.as_bytes()));
            assert_eq!(split_name(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn buffers_grow() {
        let mut buffer = vec![0; 4];
        let length = sized(&mut buffer, |into| match into.len() {
            0 => Ok(1000),
            1..1000 => Err(Errno::RANGE),
            _ => Ok(1000),
        });
        assert_eq!((length, buffer.len()), (Ok(1000), 1000));
        assert_eq!(
            sized(&mut buffer, |_| Err(Errno::NODATA)),
            Err(Errno::NODATA)
        );
    }
}
