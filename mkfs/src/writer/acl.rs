// SPDX-License-Identifier: GPL-2.0-only

//! Access control lists of a tree's files.

use crate::writer::tree::XattrSet;
use daxfs_check::acl::List;
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::FileType;

/// Returns the error for a file with a malformed list.
pub fn refused(why: &str) -> String {
    format!("has an access control list that Linux refuses: {why}")
}

/// Treats the lists in `set` as setxattr(2) would: applies the access list to the permission bits,
/// and drops a list that adds nothing to them.
///
/// Returns why a file of this type cannot have them.
pub fn settle(
    set: &mut XattrSet,
    permissions: &mut u16,
    file_type: FileType,
) -> Result<(), String> {
    let mut wrong = None;
    set.retain(|xattr| {
        let access = match xattr.prefix {
            XattrPrefix::AclAccess => true,
            XattrPrefix::AclDefault => false,
            _ => return true,
        };
        match List::parse(&xattr.value) {
            Err(error) => wrong = Some(refused(error)),
            Ok(list) if list.is_empty() => return false,
            Ok(_) if file_type == FileType::Symlink => {
                wrong =
                    Some("is a symlink with an access control list, which Linux refuses".into());
            }
            Ok(list) if access => {
                *permissions = (*permissions & !0o777) | list.permissions();
                return list.is_extended();
            }
            Ok(_) if file_type != FileType::Directory => {
                wrong = Some("is not a directory and has a default access control list".into());
            }
            Ok(_) => (),
        }
        true
    });
    wrong.map_or(Ok(()), Err)
}
