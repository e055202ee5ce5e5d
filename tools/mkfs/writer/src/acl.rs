// SPDX-License-Identifier: GPL-2.0-only

//! Access control lists of the files of a tree.

use crate::tree::XattrSet;
use daxfs_check::acl::{self, List};
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::FileType;

/// Why a file cannot have its access control lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongAcl {
    /// A list is malformed.
    #[error("has an access control list that Linux refuses: {0}")]
    Refused(#[from] acl::AclError),
    /// A symlink cannot have one.
    #[error("is a symlink with an access control list, which Linux refuses")]
    Symlink,
    /// Only a directory can have a default list.
    #[error("is not a directory and has a default access control list")]
    NotDirectory,
}

/// Treat the lists in `set` as setxattr(2) would: take the permission bits from the access list,
/// and drop a list that adds nothing to them.
///
/// Return [`WrongAcl`] if a file of this type cannot have them.
pub fn settle(
    set: &mut XattrSet,
    permissions: &mut u16,
    file_type: FileType,
) -> Result<(), WrongAcl> {
    let mut wrong = None;
    set.retain(|xattr| {
        let access = match xattr.prefix {
            XattrPrefix::AclAccess => true,
            XattrPrefix::AclDefault => false,
            _ => return true,
        };
        match List::parse(&xattr.value) {
            Err(error) => wrong = Some(WrongAcl::Refused(error)),
            Ok(list) if list.is_empty() => return false,
            Ok(_) if file_type == FileType::Symlink => wrong = Some(WrongAcl::Symlink),
            Ok(list) if access => {
                *permissions = (*permissions & !0o777) | list.permissions();
                return list.is_extended();
            }
            Ok(_) if file_type != FileType::Directory => wrong = Some(WrongAcl::NotDirectory),
            Ok(_) => (),
        }
        true
    });
    wrong.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Xattr;
    use daxfs_check::acl::{Entry, NOBODY};

    const N: u32 = NOBODY;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|&(kind, bits, id)| Entry { kind, bits, id });
        List::new(entries.collect()).unwrap().to_bytes()
    }

    #[test]
    fn files_with_lists() {
        let settled = |prefix, value: Vec<u8>, file_type| {
            let name = Box::default();
            let value = value.into();
            let mut set = vec![Xattr {
                prefix,
                name,
                value,
            }];
            let mut permissions = 0o4740;
            settle(&mut set, &mut permissions, file_type).map(|()| (set.len(), permissions))
        };
        let (access, default) = (XattrPrefix::AclAccess, XattrPrefix::AclDefault);
        let plain = || list(&[(1, 6, N), (4, 4, N), (32, 0, N)]);
        let masked = || list(&[(1, 7, N), (4, 7, N), (16, 0, N), (32, 0, N)]);
        let (file, directory) = (FileType::Regular, FileType::Directory);
        assert_eq!(settled(access, plain(), file), Ok((0, 0o4640)));
        assert_eq!(settled(access, masked(), file), Ok((1, 0o4700)));
        assert_eq!(settled(default, plain(), directory), Ok((1, 0o4740)));
        assert_eq!(
            settled(default, 2_u32.to_le_bytes().to_vec(), file),
            Ok((0, 0o4740))
        );
        assert!(settled(default, plain(), file).is_err());
        assert!(settled(access, masked(), FileType::Symlink).is_err());
        assert!(settled(access, b"garbage".to_vec(), file).is_err());
    }
}
